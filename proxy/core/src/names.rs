//! The vocabulary of all other modules: names of objects and entries, operations, moments, reason
//! codes.

use std::fmt;
use std::sync::Arc;

mod code;
mod entry;
mod object;

pub use code::Code;
pub use entry::{EntryKind, EntryName};
pub use object::ObjectName;

/// A credential. Neither `Debug` nor `Display` shows it; [`Secret::expose`] is the only way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The credential itself, for the code that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A point in time; the edge reads it once per step and passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds of a clock that never goes back, for rolling windows.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch, for calendar windows and expiry dates.
    pub unix_ms: i64,
}

/// What a request asks the model to do: the closed list that routes can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `POST .../chat/completions`
    ChatCompletions,
    /// `POST .../completions`
    Completions,
    /// `POST .../embeddings`
    Embeddings,
    /// `.../responses`
    Responses,
    /// `POST .../messages` (Anthropic)
    Messages,
    /// `POST .../images/...`
    Images,
    /// `POST .../audio/...`
    Audio,
    /// `.../realtime`
    Realtime,
    /// `.../files`
    Files,
    /// `.../batches`
    Batches,
    /// `/api/projects/{project}/...`
    Agents,
    /// `GET .../models`, which the gateway answers itself
    Models,
}

impl Operation {
    /// Every operation, in declaration order.
    pub const ALL: [Self; 12] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::Images,
        Self::Audio,
        Self::Realtime,
        Self::Files,
        Self::Batches,
        Self::Agents,
        Self::Models,
    ];

    /// The CamelCase word used in objects, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "ChatCompletions",
            Self::Completions => "Completions",
            Self::Embeddings => "Embeddings",
            Self::Responses => "Responses",
            Self::Messages => "Messages",
            Self::Images => "Images",
            Self::Audio => "Audio",
            Self::Realtime => "Realtime",
            Self::Files => "Files",
            Self::Batches => "Batches",
            Self::Agents => "Agents",
            Self::Models => "Models",
        }
    }

    /// Reads the CamelCase word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == word)
    }
}

/// Tokens that a request holds or has used. Cached input is part of `input_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// The part of the input that the provider had cached.
    pub cached_input_tokens: u64,
    /// All output tokens, reasoning included.
    pub output_tokens: u64,
}

impl Usage {
    /// Input and output together.
    #[must_use]
    pub const fn total_tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// A pattern over model names: exact, or a prefix written with one trailing `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelPattern {
    /// Matches this name only.
    Exact(Arc<str>),
    /// Matches every name with this prefix.
    Prefix(Arc<str>),
}

impl ModelPattern {
    /// Reads `gpt-4o` or `gpt-4o-*`; `None` for an empty pattern or a `*` elsewhere.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some(prefix) if !prefix.contains('*') => Some(Self::Prefix(prefix.into())),
            None if !text.is_empty() && !text.contains('*') => Some(Self::Exact(text.into())),
            Some(_) | None => None,
        }
    }

    /// Whether the pattern matches `model`.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == model,
            Self::Prefix(prefix) => model.starts_with(&**prefix),
        }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Attributes of a consumer, by name. Few, so a sorted list.
pub type Attributes = Vec<(Arc<str>, Arc<str>)>;

/// A pattern over consumers. An empty list matches everyone; both lists must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMatch {
    /// One of these names, if any are listed.
    pub names: Vec<Arc<str>>,
    /// All of these attributes.
    pub attributes: Attributes,
}

impl ConsumerMatch {
    /// Whether the pattern matches a consumer with this name and these attributes.
    #[must_use]
    pub fn matches(&self, name: &str, attributes: &Attributes) -> bool {
        (self.names.is_empty() || self.names.iter().any(|wanted| &**wanted == name))
            && self
                .attributes
                .iter()
                .all(|wanted| attributes.contains(wanted))
    }
}
