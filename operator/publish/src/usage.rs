//! What replicas have used of the limits: of those that are here, and of those that are gone.
//!
//! A replica counts for itself. Once it is gone, what it used of a calendar period still counts, so
//! the replicas that are left count it too, each its part: see [`carried`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::names::Moment;
use proxy_core::quota::{Counter, Limit, LimitName, Mode, StoreState, SubjectKey, Window};
use proxy_core::table::Contents;
use proxy_wire::v1::{Checkpoint, CheckpointCounter, Denials, Report};

pub(crate) mod carried;
pub(crate) mod page;
#[cfg(test)]
mod tests;

/// A replica that comes back within this time takes its use with it. One that comes back later finds
/// it counted twice until the period ends, which never admits more than is allowed.
const RETURNS: Duration = Duration::from_secs(600);

/// Longer than any period: what a limit that is gone counted is forgotten after so long.
const FORGOTTEN_MS: i64 = 32 * 86_400_000;

/// Clocks of proxies and operators may differ by as much at the end of a period.
const SKEW_MS: i64 = 10_000;

/// What is counted, by limit and subject. Nested, since there are few limits and many subjects.
pub(crate) type Counters = HashMap<LimitName, HashMap<SubjectKey, Counted>>;

/// One subject of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) subject: Arc<str>,
    pub(crate) period_start_ms: Option<i64>,
    pub(crate) used: u64,
    pub(crate) reserved: u64,
}

/// What one life of a replica has told last.
#[derive(Debug)]
pub(crate) struct Usage {
    instance: String,
    store: StoreState,
    told: bool,
    counters: Counters,
    denials: Vec<Denials>,
}

/// What replicas used that are gone: calendar counters only.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// Those that may come back, with when they went.
    recent: Vec<(String, Instant, Usage)>,
    /// All others together.
    merged: Counters,
}

/// A limit of the newest table.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) limit: Limit,
    pub(crate) mode: Mode,
}

/// Every limit of the newest table.
pub(crate) type Limits = HashMap<LimitName, Declared>;

pub(crate) fn limits(contents: &Contents) -> Limits {
    let limits = contents.limits();
    limits
        .map(|(name, quota, limit)| {
            let declared = Declared {
                limit: limit.clone(),
                mode: quota.mode,
            };
            (name, declared)
        })
        .collect()
}

// === impl Usage ===

impl Usage {
    /// Of a replica that has told nothing yet.
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            store: StoreState::None,
            told: false,
            counters: Counters::new(),
            denials: Vec::new(),
        }
    }

    pub(crate) fn reported(report: Report) -> Self {
        let (instance, store) = (report.instance.clone(), report.store());
        let (readings, denials) = report.into_readings();
        let mut counters = Counters::new();
        for reading in readings {
            let counted = Counted {
                subject: reading.subject,
                period_start_ms: reading.period_start_ms,
                used: reading.used,
                reserved: reading.reserved,
            };
            let limit = counters.entry(reading.limit).or_default();
            limit.insert(reading.key, counted);
        }
        Self {
            instance,
            store,
            told: true,
            counters,
            denials,
        }
    }

    /// What the replica of this index had used when the checkpoint was made.
    pub(crate) fn restored(instance: &str, checkpoint: &Checkpoint, index: usize) -> Self {
        let mut usage = Self::new(instance);
        for counter in &checkpoint.counters {
            let used = counter.used.iter().filter(|(of, _)| *of == index);
            for (_, used) in used {
                add(&mut usage.counters, counter, *used);
            }
        }
        usage
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) const fn store(&self) -> StoreState {
        self.store
    }

    /// Whether it has told of itself, in this operator's life.
    pub(crate) const fn has_told(&self) -> bool {
        self.told
    }

    pub(crate) fn denials(&self) -> &[Denials] {
        &self.denials
    }

    pub(crate) fn of(&self, limit: &LimitName) -> impl Iterator<Item = (&SubjectKey, &Counted)> {
        self.counters.get(limit).into_iter().flatten()
    }

    /// What was used of the period that began then.
    fn used(&self, limit: &LimitName, key: SubjectKey, period_start_ms: i64) -> u64 {
        let counted = self.counters.get(limit).and_then(|limit| limit.get(&key));
        let counted = counted.filter(|one| one.period_start_ms == Some(period_start_ms));
        counted.map_or(0, |one| one.used)
    }
}

// === impl Departed ===

impl Departed {
    /// Takes what a replica used that is gone. Of a shared store nothing is taken: it counts on.
    pub(crate) fn add(&mut self, id: &str, mut usage: Usage, now: Instant) {
        if usage.store != StoreState::None {
            return;
        }
        for limit in usage.counters.values_mut() {
            limit.retain(|_, counted| counted.period_start_ms.is_some());
        }
        usage.denials = Vec::new();
        self.recent.push((id.to_owned(), now, usage));
    }

    /// Gives back what a replica had used that is here again.
    pub(crate) fn take(&mut self, id: &str, instance: &str) -> Option<Usage> {
        let same = |(other, _, usage): &(String, Instant, Usage)| {
            other == id && usage.instance == instance
        };
        let at = self.recent.iter().position(same)?;
        Some(self.recent.swap_remove(at).2)
    }

    /// Puts those together that will not come back any more.
    pub(crate) fn age(&mut self, now: Instant) {
        let merged = &mut self.merged;
        self.recent.retain_mut(|(_, gone, usage)| {
            let stays = now.saturating_duration_since(*gone) < RETURNS;
            if !stays {
                merge(merged, std::mem::take(&mut usage.counters));
            }
            stays
        });
    }

    /// Forgets periods that have ended. A limit that is not in the table may come back.
    pub(crate) fn forget(&mut self, limits: &Limits, now: Moment) {
        let forgotten = now.unix_ms.saturating_sub(FORGOTTEN_MS);
        let recent = self
            .recent
            .iter_mut()
            .map(|(_, _, usage)| &mut usage.counters);
        for counters in recent.chain([&mut self.merged]) {
            counters.retain(|name, subjects| {
                let oldest = limits
                    .get(name)
                    .and_then(|declared| oldest_period_ms(&declared.limit, now))
                    .unwrap_or(forgotten);
                subjects.retain(|_, counted| counted.period_start_ms >= Some(oldest));
                !subjects.is_empty()
            });
        }
    }

    /// How many may come back.
    pub(crate) fn count(&self) -> usize {
        self.recent.len()
    }

    pub(crate) fn recent(&self) -> impl Iterator<Item = (&String, &Usage)> {
        self.recent.iter().map(|(id, _, usage)| (id, usage))
    }

    /// What was used of a limit: a subject may come several times.
    pub(crate) fn of(&self, limit: &LimitName) -> impl Iterator<Item = (&SubjectKey, &Counted)> {
        let merged = self.merged.get(limit).into_iter().flatten();
        let recent = self.recent.iter();
        recent
            .flat_map(|(_, _, usage)| usage.of(limit))
            .chain(merged)
    }

    fn used(&self, limit: &LimitName, key: SubjectKey, period_start_ms: i64) -> u64 {
        let merged = self.merged.get(limit).and_then(|limit| limit.get(&key));
        let merged = merged.filter(|one| one.period_start_ms == Some(period_start_ms));
        let recent = self.recent.iter();
        let recent = recent.map(|(_, _, usage)| usage.used(limit, key, period_start_ms));
        recent.fold(merged.map_or(0, |one| one.used), u64::saturating_add)
    }

    /// Calendar counters of `usages`, by their index, and of those that are in none of them.
    pub(crate) fn checkpoint(&self, usages: &[&Usage]) -> Vec<CheckpointCounter> {
        let mut found: HashMap<(&LimitName, SubjectKey, i64), CheckpointCounter> = HashMap::new();
        let parts = usages.iter().enumerate();
        let parts = parts.map(|(index, usage)| (Some(index), &usage.counters));
        for (index, counters) in parts.chain([(None, &self.merged)]) {
            let each = counters
                .iter()
                .flat_map(|(limit, subjects)| subjects.iter().map(move |one| (limit, one)));
            for (limit, (key, counted)) in each {
                let Some(period_start_ms) = counted.period_start_ms else {
                    continue;
                };
                let place = found.entry((limit, *key, period_start_ms));
                let counter = place.or_insert_with(|| CheckpointCounter {
                    limit: limit.clone(),
                    key: *key,
                    subject: Arc::clone(&counted.subject),
                    period_start_ms,
                    departed: 0,
                    used: Vec::new(),
                });
                match index {
                    Some(index) => counter.used.push((index, counted.used)),
                    None => counter.departed = counted.used,
                }
            }
        }
        found.into_values().collect()
    }

    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) {
        for counter in &checkpoint.counters {
            if counter.departed > 0 {
                add(&mut self.merged, counter, counter.departed);
            }
        }
    }
}

/// The period of a calendar limit that may still run on some clock; none for other windows.
fn oldest_period_ms(limit: &Limit, now: Moment) -> Option<i64> {
    period_start_ms(
        limit,
        Moment {
            unix_ms: now.unix_ms.saturating_sub(SKEW_MS),
            ..now
        },
    )
}

/// When the period began that runs at `now`.
fn period_start_ms(limit: &Limit, now: Moment) -> Option<i64> {
    match limit.window {
        Window::Calendar(..) => Counter::new(limit, now).period_start_ms(limit, now),
        Window::Second | Window::Minute | Window::Held => None,
    }
}

fn add(counters: &mut Counters, counter: &CheckpointCounter, used: u64) {
    let counted = Counted {
        subject: Arc::clone(&counter.subject),
        period_start_ms: Some(counter.period_start_ms),
        used,
        reserved: 0,
    };
    merge_one(
        counters.entry(counter.limit.clone()).or_default(),
        counter.key,
        counted,
    );
}

fn merge(into: &mut Counters, counters: Counters) {
    for (limit, subjects) in counters {
        let place = into.entry(limit).or_default();
        for (key, counted) in subjects {
            merge_one(place, key, counted);
        }
    }
}

/// Adds up one period; of two periods the newer one counts.
fn merge_one(subjects: &mut HashMap<SubjectKey, Counted>, key: SubjectKey, counted: Counted) {
    match subjects.get_mut(&key) {
        Some(before) if before.period_start_ms == counted.period_start_ms => {
            before.used = before.used.saturating_add(counted.used);
        }
        Some(before) if before.period_start_ms > counted.period_start_ms => {}
        Some(_) | None => {
            subjects.insert(key, counted);
        }
    }
}
