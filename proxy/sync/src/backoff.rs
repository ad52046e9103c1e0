//! The wait before the next connection: exponential, with full jitter, so that a fleet does not
//! reconnect at the same moment.

use std::time::Duration;

use rand::{Rng, RngExt};

#[cfg(test)]
mod tests;

/// First bound: too short to be noticed after one broken connection.
const FIRST: Duration = Duration::from_millis(50);

/// Last bound: a returning operator is found within this time.
const LAST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: anything up to a bound that doubles with every failure.
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = FIRST.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        rng.random_range(Duration::ZERO..=bound.min(LAST))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}
