//! What a request's body says about itself: the members that the gateway decides on, with their byte
//! ranges, however the body is written.

use std::ops::Range;
use std::sync::Arc;

/// A member that the gateway reads, whatever a row calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The model asked for.
    Model,
    /// Whether the answer is a stream of events.
    Stream,
    /// `stream_options`, in which usage is asked for.
    StreamOptions,
    /// A bound on the output tokens of one choice.
    OutputBound,
    /// How many choices the answer has.
    Choices,
}

/// The members that the operations of one row may carry, by name.
pub type Members = [(&'static str, Member)];

/// What a body says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// How it is written.
    pub layout: Layout,
    /// The model, and where its value stands: in JSON with its quotes.
    pub model: Option<(Arc<str>, Range<usize>)>,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// `stream_options`.
    pub stream_options: StreamOptions,
    /// The largest of the bounds on output tokens: backends disagree on which of two holds.
    pub max_output_tokens: Option<u64>,
    /// How many choices the answer has.
    pub choices: u64,
}

/// How a body is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One JSON object.
    Json {
        /// Just after the opening brace: where a member can be inserted.
        start: usize,
        /// The object has no members.
        empty: bool,
    },
    /// `multipart/form-data`.
    Multipart {
        /// What parts are separated by, without the leading dashes.
        boundary: Arc<str>,
        /// Where a part can be inserted: at the first boundary.
        start: usize,
    },
}

/// `stream_options` as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamOptions {
    /// The member is missing.
    #[default]
    Absent,
    /// `null`, at this range.
    Null(Range<usize>),
    /// An object without `include_usage`.
    WithoutUsage {
        /// Just after its brace.
        start: usize,
        /// The object has no members.
        empty: bool,
    },
    /// `include_usage` is false or null, at this range.
    UsageOff(Range<usize>),
    /// `include_usage` is true.
    UsageOn,
}

/// Why a body is refused: a message for the client that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

pub(crate) fn malformed<T>(message: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(message.into()))
}

// === impl Body ===

impl Body {
    /// A body of which only the layout is known.
    pub(crate) const fn new(layout: Layout) -> Self {
        Self {
            layout,
            model: None,
            stream: false,
            stream_options: StreamOptions::Absent,
            max_output_tokens: None,
            choices: 1,
        }
    }

    /// Whether the client itself asked for the usage of its stream.
    #[must_use]
    pub fn asks_usage(&self) -> bool {
        self.stream_options == StreamOptions::UsageOn
    }

    /// Takes note of one more bound on output tokens.
    pub(crate) fn bound(&mut self, tokens: u64) {
        self.max_output_tokens = Some(self.max_output_tokens.unwrap_or(0).max(tokens));
    }
}

/// Checks the name of a model as a client may write it.
pub(crate) fn model_name(text: &str) -> Result<Arc<str>, Malformed> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return malformed("\"model\" must be 1 to 256 printable characters");
    }
    Ok(text.into())
}
