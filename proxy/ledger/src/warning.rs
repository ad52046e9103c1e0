//! Warnings of counters that are nearly spent.

use proxy_core::names::Moment;
use proxy_core::quota::percent_used;
use tracing::warn;

use crate::limit::EnforcedLimit;
use crate::slot::{Slot, State};

/// A counter has reached a level of its quota's `warnAt`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warning {
    /// The level, in per cent.
    level: u8,
    used: u64,
    /// How much of the amount is used, in per cent.
    pub(crate) percent: u64,
    /// Whether it is the first time in the window.
    is_first: bool,
}

impl State {
    /// Whether a level is reached at `now`. Costs little where the quota has none.
    pub(crate) fn warning(&mut self, now: Moment) -> Option<Warning> {
        self.by.warnings.as_ref()?;
        let (by, counter) = (&self.by, &mut self.counter);
        let here = counter.used(&by.limit, now);
        let escrow = self.escrow.as_ref();
        let used = escrow.map_or(here, |escrow| escrow.used(here, now));
        let percent = percent_used(used, by.limit.amount);
        let level = by.flat.quota.warn_at.reached(percent)?;
        let period = counter.period_start_ms(&by.limit, now);
        let reached = self.reached.get_or_insert_with(Box::default);
        Some(Warning {
            level,
            used,
            percent,
            is_first: reached.add((level, used), period, now),
        })
    }
}

impl Warning {
    /// Says it in the log and counts it, once in a window. Call it without a lock.
    pub(crate) fn announce(&self, slot: &Slot, by: &EnforcedLimit) {
        let Some(warnings) = by.warnings.as_ref().filter(|_| self.is_first) else {
            return;
        };
        warnings.inc();
        warn!(
            limit = %slot.limit,
            subject = &*slot.subject,
            mode = by.mode().as_str(),
            warn_at = self.level,
            percent = self.percent,
            used = self.used,
            amount = by.limit.amount,
            "a counter has reached a warning level of its limit"
        );
    }
}
