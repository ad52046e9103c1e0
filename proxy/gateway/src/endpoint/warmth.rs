//! How much of what an endpoint reads its prompt cache has, of late.

use std::sync::atomic::{AtomicU64, Ordering};

use proxy_core::names::Usage;

#[cfg(test)]
mod tests;

/// Input tokens beyond which the older ones count half: some hundred turns of agents.
const LATE: u64 = 1 << 20;

/// Input tokens of late, and those of them that were cached. Two cores that meet may lose a count, which no
/// share notices.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    input: AtomicU64,
    cached: AtomicU64,
}

// === impl Warmth ===

impl Warmth {
    /// Takes note of an answer's usage. Returns the share from now on, if the answer says anything of it.
    pub(super) fn read(&self, usage: Usage) -> Option<f64> {
        if usage.input_tokens == 0 {
            return None;
        }
        let newer = usage.input_tokens;
        let newer_cached = usage.cached_input_tokens.min(newer);
        let mut input = self.input.fetch_add(newer, Ordering::Relaxed);
        let mut cached = self.cached.fetch_add(newer_cached, Ordering::Relaxed);
        input = input.saturating_add(newer);
        cached = cached.saturating_add(newer_cached);
        if input > LATE.saturating_mul(2) {
            (input, cached) = (input / 2, cached / 2);
            self.input.store(input, Ordering::Relaxed);
            self.cached.store(cached, Ordering::Relaxed);
        }
        Some(share(cached, input))
    }

    /// The share in per cent; `None` before an answer.
    pub(super) fn percent(&self) -> Option<u32> {
        let input = self.input.load(Ordering::Relaxed);
        let cached = self.cached.load(Ordering::Relaxed).min(input);
        let percent = cached.saturating_mul(100).checked_div(input)?;
        u32::try_from(percent).ok()
    }
}

fn share(cached: u64, input: u64) -> f64 {
    let float = |tokens: u64| f64::from(u32::try_from(tokens).unwrap_or(u32::MAX));
    float(cached.min(input)) / float(input).max(1.0)
}
