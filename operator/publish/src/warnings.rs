//! Levels of `warnAt` that counters have reached, as replicas report them. Each is handed over once for a
//! counter, level and window, however many replicas report it.
//!
//! Every operator keeps them, and the leader takes them. A report has the last level of a counter as long
//! as its window lasts, so an operator that starts knows by their age which are no news.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{CounterReading, LimitName, Reached, StoreState, SubjectKey, Unit, Warned};

use crate::usage::{Limits, oldest_period_ms};

#[cfg(test)]
mod tests;

/// Subjects of one limit that are named until they are taken; the others are counted.
const LISTED: usize = 16;

/// A level is news for this time: longer than a new leader needs to take over, shorter than anybody looks
/// for what happened just now.
const FRESH_MS: i64 = 60_000;

/// Most counters that are remembered, some 20 MB: callers without a Secret can make any number. Beyond it
/// levels of further counters are not handed over.
const KNOWN: usize = 100_000;

/// Shortest time between two looks for windows that are over: each goes over all that is remembered.
const FORGET_MS: u64 = 10_000;

/// What the counters of one limit have reached since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitWarnings {
    /// The limit.
    pub limit: LimitName,
    /// What it counts.
    pub unit: Unit,
    /// The first subjects.
    pub listed: Vec<QuotaWarning>,
    /// How many more there are.
    pub more: u64,
    /// When the first level was reached, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// A counter has reached a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaWarning {
    /// The subject, as in the log.
    pub subject: Arc<str>,
    /// The same as a key.
    pub key: SubjectKey,
    /// The level, in per cent.
    pub level: u8,
    /// What was used then.
    pub used: u64,
    /// What is allowed.
    pub amount: u64,
    /// The number of replicas, if the figures are those of one of several that count apart.
    pub apart: Option<u64>,
    /// Names the window: the beginning of a calendar period, else the minute of the warning.
    pub window_ms: i64,
}

/// The levels that were reported, and those that were not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    known: HashMap<(LimitName, SubjectKey), Known>,
    pending: BTreeMap<LimitName, LimitWarnings>,
    /// When windows that are over may be looked for again, in monotonic milliseconds.
    forgets_ms: u64,
}

#[derive(Debug, Default)]
struct Known {
    warned: Warned,
    period_start_ms: Option<i64>,
    at_ms: i64,
}

// === impl Warnings ===

impl Warnings {
    /// Takes note of the levels in a report; true if one of them is news. `apart` is the number of replicas,
    /// if each counts for itself.
    pub(crate) fn observe(
        &mut self,
        readings: &[CounterReading],
        apart: Option<u64>,
        limits: &Limits,
        now: Moment,
    ) -> bool {
        let mut news = false;
        for reading in readings {
            let (Some(reached), Some(declared)) = (reading.warned, limits.get(&reading.limit))
            else {
                continue;
            };
            let is_fresh = now.unix_ms.saturating_sub(reached.at_ms) < FRESH_MS;
            if self.is_new(reading, reached, (limits, now)) && is_fresh {
                news = true;
                let unit = declared.limit.unit;
                self.add(reading, reached, (unit, apart.filter(|all| *all > 1)));
            }
        }
        news
    }

    /// Remembers a level; whether it is the first time in its window.
    fn is_new(
        &mut self,
        reading: &CounterReading,
        reached: Reached,
        (limits, now): (&Limits, Moment),
    ) -> bool {
        let name = (reading.limit.clone(), reading.key);
        if self.known.len() >= KNOWN && !self.known.contains_key(&name) {
            self.forget(limits, now);
            if self.known.len() >= KNOWN {
                return false;
            }
        }
        let known = self.known.entry(name).or_default();
        let is_other_window = known.period_start_ms != reading.period_start_ms;
        if is_other_window && reached.at_ms < known.at_ms {
            // A replica has not counted in the present period yet.
            return false;
        }
        let at = Moment {
            monotonic_ms: u64::try_from(reached.at_ms).unwrap_or(0),
            unix_ms: reached.at_ms,
        };
        let period = reading.period_start_ms;
        let is_first = known.warned.is_first(reached.level, period, at);
        known.period_start_ms = period;
        known.at_ms = known.at_ms.max(reached.at_ms);
        is_first
    }

    fn add(
        &mut self,
        reading: &CounterReading,
        reached: Reached,
        (unit, apart): (Unit, Option<u64>),
    ) {
        let limit = &reading.limit;
        let new = || LimitWarnings {
            limit: limit.clone(),
            unit,
            listed: Vec::new(),
            more: 0,
            at_ms: reached.at_ms,
        };
        let pending = self.pending.entry(limit.clone()).or_insert_with(new);
        if reached.at_ms.saturating_sub(pending.at_ms) >= FRESH_MS {
            *pending = new();
        }
        if pending.listed.len() >= LISTED {
            pending.more = pending.more.saturating_add(1);
            return;
        }
        let minute_ms = reached.at_ms.saturating_sub(reached.at_ms % FRESH_MS);
        pending.listed.push(QuotaWarning {
            subject: Arc::clone(&reading.subject),
            key: reading.key,
            level: reached.level,
            used: reached.used,
            amount: reading.amount,
            apart,
            window_ms: reading.period_start_ms.unwrap_or(minute_ms),
        });
    }

    /// What is news and was not taken yet.
    pub(crate) fn take(&mut self, limits: &Limits, now: Moment) -> Vec<LimitWarnings> {
        self.forget(limits, now);
        let pending = std::mem::take(&mut self.pending).into_values();
        let fresh = pending.filter(|one| now.unix_ms.saturating_sub(one.at_ms) < FRESH_MS);
        fresh.collect()
    }

    /// Forgets windows that are over.
    fn forget(&mut self, limits: &Limits, now: Moment) {
        if now.monotonic_ms < self.forgets_ms {
            return;
        }
        self.forgets_ms = now.monotonic_ms.saturating_add(FORGET_MS);
        self.known.retain(|(limit, _), known| {
            let Some(declared) = limits.get(limit) else {
                return false;
            };
            match oldest_period_ms(&declared.limit, now) {
                Some(oldest) => known.period_start_ms >= Some(oldest),
                None => now.unix_ms.saturating_sub(known.at_ms) < FRESH_MS,
            }
        });
    }
}

/// The number of replicas that count apart; `None` with a shared store.
pub(crate) fn apart(store: StoreState, replicas: u64) -> Option<u64> {
    (store == StoreState::None).then_some(replicas)
}
