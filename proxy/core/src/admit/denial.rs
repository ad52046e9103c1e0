//! Why a request is refused.

use crate::names::Code;

/// A refused request: the reason, and the message for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason word.
    pub code: Code,
    /// Says what is wrong, and never reveals what exists elsewhere.
    pub message: String,
}

impl Denial {
    /// Refuses for `code` with `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
