//! What a request will cost, guessed before it is sent, and what it did cost.
//!
//! Refuses to be exact where the provider is not: the estimate is a count or bytes by a ratio, the
//! truth is the provider's `usage`. Words: `estimate` before, `usage` after, `cost` in either case,
//! `expected` for what is known of a request beyond its shape.

use crate::names::Usage;

mod ceiling;
mod encoding;
mod learned;
#[cfg(test)]
mod tests;

pub use ceiling::max_output_tokens;
pub use encoding::Encoding;
pub use learned::{Distribution, Learned};

/// Bytes of JSON per input token as long as nothing is known: English and code lie near four characters per
/// token, and Azure's own admission counts characters too (foundry documentation, "quota").
const BYTES_PER_TOKEN: u64 = 4;

/// Tokens that a chat adds around its messages (three per message and three for the reply in
/// `OpenAI`'s cookbook); one message is assumed, the JSON around the others pays for them.
const CHAT_OVERHEAD: u64 = 6;

/// What of a request bears on its cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// The client's bound on output tokens, if it gave one.
    pub max_output_tokens: Option<u64>,
    /// How many answers it asked for (`n`); 0 is taken as 1.
    pub choices: u64,
}

/// Prices in micros of the installation's currency per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Of input that was not cached.
    pub input_per_million: u64,
    /// Of cached input.
    pub cached_input_per_million: u64,
    /// Of output.
    pub output_per_million: u64,
}

impl Price {
    /// Micros for `usage`, rounded up so that nothing is free.
    #[must_use]
    pub fn cost_micros(self, usage: Usage) -> u64 {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let fresh = usage.input_tokens.saturating_sub(cached);
        let part = |tokens: u64, price: u64| u128::from(tokens).saturating_mul(u128::from(price));
        let sum = part(fresh, self.input_per_million)
            .saturating_add(part(cached, self.cached_input_per_million))
            .saturating_add(part(usage.output_tokens, self.output_per_million));
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The dearer of two, field by field: what a request may cost before its backend is known.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input_per_million: self.input_per_million.max(other.input_per_million),
            cached_input_per_million: self
                .cached_input_per_million
                .max(other.cached_input_per_million),
            output_per_million: self.output_per_million.max(other.output_per_million),
        }
    }
}

/// What a request is expected to need, as far as it is known: what its kind taught ([`Learned`]),
/// what was counted of itself ([`Encoding`]), and its model ([`max_output_tokens`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Tokens of one answer that its client did not bound.
    pub output_tokens: Option<u64>,
    /// Input tokens per thousand bytes of body, all that a chat adds included.
    pub input_per_mille: Option<u64>,
    /// Input tokens counted in the request itself; these count instead of any ratio.
    pub input_tokens: Option<u64>,
    /// What its model never passes in one answer; a hold is not above it.
    pub max_output_tokens: Option<u64>,
}

/// The tokens to hold for a request of this shape. Never 0 of either kind.
///
/// `default_output` is held when the client set no bound of its own and nothing is known yet. What
/// the model cannot answer is not held, even if the client allows it.
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
