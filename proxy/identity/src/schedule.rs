//! When a token is fetched again. `chance` lies in 0..1 and spreads what would come at once from all
//! replicas.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// A token is not fetched more often, however short it lives.
const SHORTEST: Duration = Duration::from_millis(500);
/// The first wait after a failure. It doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure: Azure's SDKs wait that long between refreshes that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A token is given up that much before its end, or a tenth of its life: it may be on its way for a while.
const MARGIN: Duration = Duration::from_secs(10);

/// The wait for a token's successor: half of its life, give or take a tenth.
pub(crate) fn refresh(lives: Duration, chance: f64) -> Duration {
    lives
        .mul_f64(0.45 + 0.1 * chance.clamp(0.0, 1.0))
        .max(SHORTEST)
}

/// How long a token is shown.
pub(crate) fn shown(lives: Duration) -> Duration {
    lives.saturating_sub(MARGIN.min(lives / 10))
}

/// The wait after the `failures`-th failure in a row.
pub(crate) fn retry(failures: u32, chance: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    let wait = FIRST_RETRY.saturating_mul(doubled).min(LONGEST_RETRY);
    wait.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

/// The wait after what does not pass by itself.
pub(crate) fn late(chance: f64) -> Duration {
    LONGEST_RETRY.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}
