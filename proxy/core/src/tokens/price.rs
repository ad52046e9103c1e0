//! Prices of tokens.

use crate::names::Usage;

/// Prices in micros of the installation's currency per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Input that was not cached.
    pub input_per_million: u64,
    /// Cached input.
    pub cached_input_per_million: u64,
    /// Output.
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

    /// The dearer of two, field by field: the price of a request before its backend is known.
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
