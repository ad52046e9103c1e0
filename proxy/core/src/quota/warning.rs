//! Warnings before a limit is spent: at per cents of its amount, once for each in a window.

use crate::names::Moment;

#[cfg(test)]
mod tests;

/// How long a level that was warned of is quiet where no calendar period ends it: a rolling window has no
/// end, and use that goes up and down around a level would warn each time.
const QUIET_MS: u64 = 60_000;

/// Per cents of an amount that are worth a warning, sorted and without duplicates, each from 1 to 99.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarnAt(Vec<u8>);

/// A level that a counter has reached for the first time in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The level, in per cent.
    pub level: u8,
    /// What was used then.
    pub used: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// The levels that a counter was warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warned {
    /// The highest of the window; 0 if none.
    level: u8,
    /// The calendar period.
    period_start_ms: Option<i64>,
    /// When `level` was 0 last.
    since_ms: u64,
}

/// How much of `amount` is used, in per cent, rounded down. Of an amount of 0 all is used.
#[must_use]
pub fn percent_used(used: u64, amount: u64) -> u64 {
    let hundredfold = u128::from(used).saturating_mul(100);
    let percent = hundredfold.checked_div(u128::from(amount)).unwrap_or(100);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

// === impl WarnAt ===

impl WarnAt {
    /// Leaves out what is no level.
    #[must_use]
    pub fn new(levels: impl IntoIterator<Item = u8>) -> Self {
        let levels = levels.into_iter();
        let mut levels: Vec<u8> = levels.filter(|level| (1..100).contains(level)).collect();
        levels.sort_unstable();
        levels.dedup();
        Self(levels)
    }

    /// The levels, in their order.
    #[must_use]
    pub fn levels(&self) -> &[u8] {
        &self.0
    }

    /// The highest level that this percentage has reached.
    #[must_use]
    pub fn reached(&self, percent: u64) -> Option<u8> {
        let mut highest_first = self.0.iter().rev().copied();
        highest_first.find(|level| u64::from(*level) <= percent)
    }
}

// === impl Warned ===

impl Warned {
    /// Takes note of a level that is reached at `now`, in the calendar period that began then or in none;
    /// whether it is the first time in the window, and so worth a warning.
    pub fn is_first(&mut self, level: u8, period_start_ms: Option<i64>, now: Moment) -> bool {
        if self.level == 0 || self.is_over(period_start_ms, now) {
            *self = Self {
                level: 0,
                period_start_ms,
                since_ms: now.monotonic_ms,
            };
        }
        let is_first = level > self.level;
        self.level = self.level.max(level);
        is_first
    }

    /// Whether the window of the levels has ended by `now`, in the calendar period that began then or in none.
    #[must_use]
    pub fn is_over(&self, period_start_ms: Option<i64>, now: Moment) -> bool {
        match period_start_ms {
            Some(_) => self.period_start_ms != period_start_ms,
            None => now.monotonic_ms.saturating_sub(self.since_ms) >= QUIET_MS,
        }
    }
}
