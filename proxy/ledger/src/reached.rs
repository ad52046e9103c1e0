//! The levels of `warnAt` that a counter has reached in its window.

use proxy_core::names::Moment;
use proxy_core::quota::{Reached, Warned};

/// The levels that were warned of, and the last one for reports.
#[derive(Debug, Default)]
pub(crate) struct ReachedLevels {
    warned: Warned,
    last: Option<Reached>,
}

impl ReachedLevels {
    /// Takes note of a level at `now`; whether it is the first time in its window.
    pub(crate) fn add(
        &mut self,
        (level, used): (u8, u64),
        period_start_ms: Option<i64>,
        now: Moment,
    ) -> bool {
        let is_first = self.warned.is_first(level, period_start_ms, now);
        if is_first {
            let at_ms = now.unix_ms;
            self.last = Some(Reached { level, used, at_ms });
        }
        is_first
    }

    /// The last level that was warned of, while its window lasts.
    pub(crate) fn last(&self, period_start_ms: Option<i64>, now: Moment) -> Option<Reached> {
        self.last
            .filter(|_| !self.warned.is_over(period_start_ms, now))
    }
}
