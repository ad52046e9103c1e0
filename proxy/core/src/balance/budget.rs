//! How many tries a rule may add to its requests, so that retries do not turn a fault into a storm.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::names::Moment;

#[cfg(test)]
mod tests;

/// The time that is looked back at, in seconds.
const WINDOW_S: u64 = 10;
/// Retries per request: a fifth.
const REQUESTS_PER_RETRY: u64 = 5;
/// Retries that need no requests: ten a second, so that the first wave of failures is retried.
const LEAST: u64 = 10 * WINDOW_S;

/// The requests and the retries of one rule in the last ten seconds.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Rolling,
    retries: Rolling,
}

/// Counts by second. Each cell holds its second in the upper half: a cell of another time counts nothing.
#[derive(Debug, Default)]
struct Rolling([AtomicU64; 10]);

impl RetryBudget {
    /// Takes note of a request.
    pub fn request(&self, now: Moment) {
        self.requests.add(now);
    }

    /// Takes note that a client has tried a request before, which no budget can refuse.
    pub fn retried(&self, now: Moment) {
        self.retries.add(now);
    }

    /// Takes a retry out of the budget, if there is one.
    pub fn take(&self, now: Moment) -> bool {
        let most = (self.requests.sum(now) / REQUESTS_PER_RETRY).max(LEAST);
        let has_some = self.retries.sum(now) < most;
        if has_some {
            self.retries.add(now);
        }
        has_some
    }
}

impl Rolling {
    fn add(&self, now: Moment) {
        let second = second(now);
        let cell = usize::try_from(second % WINDOW_S).unwrap_or(0);
        let Some(cell) = self.0.get(cell) else { return };
        // Two cores that meet at the turn of a second may lose a count, which no budget notices.
        if cell.load(Ordering::Relaxed) >> 32 == second {
            cell.fetch_add(1, Ordering::Relaxed);
        } else {
            cell.store((second << 32) | 1, Ordering::Relaxed);
        }
    }

    fn sum(&self, now: Moment) -> u64 {
        let second = second(now);
        let cells = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        let recent = cells.filter(|cell| second.saturating_sub(cell >> 32) < WINDOW_S);
        recent.map(|cell| cell & u64::from(u32::MAX)).sum()
    }
}

/// From 1 on, since 0 is an empty cell.
const fn second(now: Moment) -> u64 {
    now.monotonic_ms / 1_000 + 1
}
