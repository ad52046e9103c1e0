//! A stream whose events are known from the start: what every API but chat completions uses.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;

use crate::{
    record::Usage,
    sse::{Chunk, Events, Next},
};

/// One planned event.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) bytes: Bytes,
    pub(crate) next: Next,
    pub(crate) made: Usage,
    /// Not before this moment.
    pub(crate) due: Option<Duration>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last event was handed out.
    Complete,
    /// The caller or a fault ended it before.
    Broken,
}

/// The events that are left.
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// Events that came before, also in an earlier stream: the number of the next one.
    number: u64,
    /// The event that reports a failing model, given its number.
    error: fn(u64) -> String,
    /// Asked before each event: the last event of a stream that is to end now.
    interrupt: Option<Box<dyn Fn(u64) -> Option<String> + Send>>,
    at_end: Option<Box<dyn FnOnce(End) + Send>>,
}

impl Step {
    pub(crate) fn event(text: String) -> Self {
        Self {
            bytes: text.into(),
            next: Next::Event,
            made: Usage::default(),
            due: None,
        }
    }

    /// One token, of text or of sound.
    pub(crate) fn token(text: String, is_sound: bool) -> Self {
        Self {
            next: Next::Token,
            made: Usage {
                completion_tokens: 1,
                audio_tokens: u64::from(is_sound),
                ..Usage::default()
            },
            ..Self::event(text)
        }
    }

    /// A token's worth of anything.
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self {
            bytes,
            next: Next::Token,
            ..Self::event(String::new())
        }
    }

    pub(crate) fn made(self, made: Usage) -> Self {
        Self { made, ..self }
    }

    pub(crate) fn due(self, due: Option<Duration>) -> Self {
        Self { due, ..self }
    }
}

impl Script {
    pub(crate) fn new(steps: Vec<Step>, error: fn(u64) -> String) -> Self {
        Self {
            steps: steps.into(),
            number: 0,
            error,
            interrupt: None,
            at_end: None,
        }
    }

    /// Leaves out the events up to that number.
    pub(crate) fn after(mut self, number: Option<u64>) -> Self {
        let skipped = number.map_or(0, |number| number.saturating_add(1));
        let count = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.steps.drain(..count.min(self.steps.len()));
        self.number = skipped;
        self
    }

    pub(crate) fn interrupted(
        mut self,
        interrupt: impl Fn(u64) -> Option<String> + Send + 'static,
    ) -> Self {
        self.interrupt = Some(Box::new(interrupt));
        self
    }

    /// What happens when it ends, once, however it ends.
    pub(crate) fn ends(mut self, at_end: impl FnOnce(End) + Send + 'static) -> Self {
        self.at_end = Some(Box::new(at_end));
        self
    }

    fn close(&mut self, end: End) {
        if let Some(at_end) = self.at_end.take() {
            at_end(end);
        }
    }
}

impl Events for Script {
    fn upcoming(&self) -> Next {
        self.steps.front().map_or(Next::End, |step| step.next)
    }

    fn due(&self) -> Option<Duration> {
        self.steps.front()?.due
    }

    fn thoughts(&self) -> u64 {
        self.steps
            .front()
            .map_or(0, |step| step.made.reasoning_tokens)
    }

    fn next(&mut self) -> Option<Chunk> {
        let last = self
            .interrupt
            .as_ref()
            .and_then(|interrupt| interrupt(self.number));
        let step = match last {
            Some(last) if !self.steps.is_empty() => {
                self.steps.clear();
                Step::event(last)
            }
            _ => self.steps.pop_front()?,
        };
        self.number += 1;
        if self.steps.is_empty() {
            self.close(End::Complete);
        }
        Some(Chunk {
            bytes: step.bytes,
            made: step.made,
        })
    }

    fn end(&mut self) {
        self.steps.clear();
        self.close(End::Broken);
    }

    fn error(&self) -> Bytes {
        (self.error)(self.number).into()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.close(End::Broken);
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("steps", &self.steps.len())
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
