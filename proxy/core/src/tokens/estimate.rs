//! The estimate of a request's tokens, before it is sent.

use crate::names::Usage;

/// Bytes of JSON per input token while nothing is known: English and code have about four characters
/// per token, and Azure's own admission counts characters too (Foundry documentation, "quota").
const BYTES_PER_TOKEN: u64 = 4;

/// Tokens that a chat adds around its messages: three per message and three for the reply (`OpenAI`'s
/// cookbook). One message is assumed; the JSON around the others makes up for theirs.
const CHAT_OVERHEAD: u64 = 6;

/// The parts of a request that determine its cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// The client's bound on output tokens, if it gave one.
    pub max_output_tokens: Option<u64>,
    /// How many answers it asks for (`n`); 0 means 1.
    pub choices: u64,
}

/// What is known of a request beyond its shape: from earlier requests of its kind
/// ([`super::ObservedSizes`]), from a count of its text ([`super::Encoding`]), and from its model
/// ([`super::max_output_tokens`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Output tokens of one answer if the client sets no bound.
    pub output_tokens: Option<u64>,
    /// Input tokens per thousand bytes of body, what a chat adds included.
    pub input_per_mille: Option<u64>,
    /// Input tokens counted in the request itself; they replace any ratio.
    pub input_tokens: Option<u64>,
    /// The most that its model answers at once; a hold is not above it.
    pub max_output_tokens: Option<u64>,
}

/// The tokens to hold for a request of this shape. Never 0 of either kind.
///
/// `default_output` is held if the client sets no bound and nothing is known yet. What the model
/// cannot answer is not held, even if the client allows it.
#[must_use]
pub fn estimate(shape: Shape, expected: Expected, default_output: u64) -> Usage {
    let input = match (expected.input_tokens, expected.input_per_mille) {
        (Some(counted), _) => counted,
        (None, Some(ratio)) => {
            let tokens = u128::from(shape.body_bytes).saturating_mul(u128::from(ratio));
            u64::try_from(tokens.div_ceil(1_000)).unwrap_or(u64::MAX)
        }
        (None, None) => shape
            .body_bytes
            .div_ceil(BYTES_PER_TOKEN)
            .saturating_add(CHAT_OVERHEAD),
    };
    let per_choice = shape
        .max_output_tokens
        .or(expected.output_tokens)
        .unwrap_or(default_output)
        .min(expected.max_output_tokens.unwrap_or(u64::MAX));
    Usage {
        input_tokens: input.max(1),
        cached_input_tokens: 0,
        output_tokens: per_choice.max(1).saturating_mul(shape.choices.max(1)),
    }
}
