//! The vocabulary of all other modules: names of objects and entries, operations, moments, reason
//! codes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zeroize::Zeroizing;

mod class;
mod code;
mod consumer;
mod entry;
mod object;

pub use class::{Class, UnknownClass};
pub use code::Code;
pub use consumer::{Attributes, ConsumerMatch, ConsumerName};
pub use entry::{EntryKind, EntryName};
pub use object::ObjectName;

/// A credential. Neither `Debug` nor `Display` shows it; [`Secret::expose`] is the only way out. Its memory is
/// wiped once the last clone is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(value.into())))
    }

    /// The credential itself, for the code that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
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
    /// `POST .../moderations`
    Moderations,
    /// `.../realtime`
    Realtime,
    /// `.../files`
    Files,
    /// `.../vector_stores`
    VectorStores,
    /// `.../containers`
    Containers,
    /// `.../batches`
    Batches,
    /// `/api/projects/{project}/...`
    Agents,
    /// `GET .../models`, which the gateway answers itself
    Models,
}

impl Operation {
    /// Every operation, in declaration order.
    pub const ALL: [Self; 15] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::Images,
        Self::Audio,
        Self::Moderations,
        Self::Realtime,
        Self::Files,
        Self::VectorStores,
        Self::Containers,
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
            Self::Moderations => "Moderations",
            Self::Realtime => "Realtime",
            Self::Files => "Files",
            Self::VectorStores => "VectorStores",
            Self::Containers => "Containers",
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

/// What a request holds or has used, by class. The parts are contained in `input_tokens` and
/// `output_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, of every class.
    pub input_tokens: u64,
    /// The part of the input that the provider had cached.
    pub cached_input_tokens: u64,
    /// The part of the input that the provider wrote to its cache.
    pub cache_write_tokens: u64,
    /// The part of the input that was sound.
    pub audio_input_tokens: u64,
    /// The part of the input that was images.
    pub image_input_tokens: u64,
    /// All output tokens, of every class.
    pub output_tokens: u64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: u64,
    /// The part of the output that was sound.
    pub audio_output_tokens: u64,
    /// The part of the output that was images.
    pub image_output_tokens: u64,
    /// Sound that is billed by its length, in milliseconds.
    pub sound_ms: u64,
}

impl Usage {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = u64::saturating_add;
        Self {
            input_tokens: add(self.input_tokens, other.input_tokens),
            cached_input_tokens: add(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_tokens: add(self.cache_write_tokens, other.cache_write_tokens),
            audio_input_tokens: add(self.audio_input_tokens, other.audio_input_tokens),
            image_input_tokens: add(self.image_input_tokens, other.image_input_tokens),
            output_tokens: add(self.output_tokens, other.output_tokens),
            reasoning_tokens: add(self.reasoning_tokens, other.reasoning_tokens),
            audio_output_tokens: add(self.audio_output_tokens, other.audio_output_tokens),
            image_output_tokens: add(self.image_output_tokens, other.image_output_tokens),
            sound_ms: add(self.sound_ms, other.sound_ms),
        }
    }

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
