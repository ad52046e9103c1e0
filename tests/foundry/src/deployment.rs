//! One deployment: its limits, and how its answers divide into classes of tokens.

use std::time::Duration;

use http::HeaderValue;

use crate::{
    config::{Classes, DeploymentConfig},
    limits::{Cost, Meter},
    record::Usage,
};

/// One deployment with its counters.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) meter: Meter,
    /// `name`, ready to be sent.
    pub(crate) name_header: HeaderValue,
    classes: Classes,
    /// It has the prompt cache of the resource.
    pub(crate) has_cache: bool,
}

/// The size of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Tokens that the caller sees.
    pub(crate) visible: u64,
    /// Tokens before them that the caller only pays.
    pub(crate) reasoning: u64,
    pub(crate) finish: Finish,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// All was said.
    Stop,
    /// The caller's cap.
    Cap,
    /// The content filter.
    Filter,
    /// The model fails: what only the Responses API reports in an answer.
    Failure,
}

impl Finish {
    /// OpenAI's word for it in choices.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Stop | Self::Failure => "stop",
            Self::Cap => "length",
            Self::Filter => "content_filter",
        }
    }
}

impl Size {
    /// The half of it that is there when something ends it.
    pub(crate) fn half(self, finish: Finish) -> Self {
        Self {
            visible: self.visible / 2,
            finish,
            ..self
        }
    }

    pub(crate) fn tokens(self) -> u64 {
        self.visible.saturating_add(self.reasoning)
    }
}

impl Deployment {
    pub(crate) fn new(settings: &DeploymentConfig, request_window: Duration) -> Self {
        Self {
            name: settings.name.clone(),
            model: settings.model.clone(),
            meter: Meter::new(settings.capacity, request_window),
            // Text that cannot be a header becomes empty rather than stopping a test's simulator.
            name_header: HeaderValue::from_str(&settings.name)
                .unwrap_or(HeaderValue::from_static("")),
            classes: settings.classes,
            has_cache: settings.has_cache,
        }
    }

    /// The size of an answer of `whole` visible tokens below a cap, which counts reasoning as well.
    pub(crate) fn size(&self, whole: u64, cap: Option<u64>) -> Size {
        let wanted = whole.saturating_add(self.classes.reasoning);
        let cap = cap.unwrap_or(wanted);
        let reasoning = self.classes.reasoning.min(cap);
        Size {
            visible: whole.min(cap - reasoning),
            reasoning,
            finish: if cap < wanted {
                Finish::Cap
            } else {
                Finish::Stop
            },
        }
    }

    /// What the limits are charged for an answer before it is made.
    pub(crate) fn cost(&self, estimate: u64, whole: u64, cap: Option<u64>, choices: u64) -> Cost {
        let cap = cap.unwrap_or_else(|| whole.saturating_add(self.classes.reasoning));
        Cost {
            input: estimate,
            output: cap.saturating_mul(choices),
        }
    }

    /// An input by class.
    pub(crate) fn input(&self, tokens: u64) -> Usage {
        let cached = self.classes.cached.min(tokens);
        Usage {
            prompt_tokens: tokens,
            cached_tokens: cached,
            cache_write_tokens: self.classes.cache_write.min(tokens - cached),
            ..Usage::default()
        }
    }

    /// An output of `choices` answers by class.
    pub(crate) fn output(&self, size: Size, choices: u64) -> Usage {
        Usage {
            completion_tokens: size.tokens().saturating_mul(choices),
            reasoning_tokens: size.reasoning.saturating_mul(choices),
            audio_tokens: self.classes.audio.min(size.visible).saturating_mul(choices),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests;
