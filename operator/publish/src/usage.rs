//! The use of limits, by the members of the fleet and by departed replicas.
//!
//! A replica counts for itself. The use of a departed one still counts until its calendar period
//! ends: the other replicas carry it over, each a share (`carryover`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_core::names::{Moment, ObjectName};
use proxy_core::quota::{Counter, Limit, LimitName, Mode, StoreState, SubjectKey, Window};
use proxy_core::table::{Changes, Quota};
use proxy_wire::v1::{self, Checkpoint, CheckpointCounter, Denials};

use crate::deployments::Reported;

pub(crate) mod page;
#[cfg(test)]
pub(crate) mod tests;

/// A replica that comes back within this time takes its use along. The use of one that comes back
/// later counts twice until the period ends, which never admits more than the limit.
const RETURNS: Duration = Duration::from_secs(600);

/// Longer than any period: the counters of a deleted limit are dropped at this age.
const FORGOTTEN_MS: i64 = 32 * 86_400_000;

/// Largest difference between the clocks of proxies and operators at the end of a period.
const SKEW_MS: i64 = 10_000;

/// Counters by limit and subject. Nested, since there are few limits and many subjects.
pub(crate) type Counters = HashMap<LimitName, HashMap<SubjectKey, Counted>>;

/// One subject of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) subject: Arc<str>,
    pub(crate) period_start_ms: Option<i64>,
    pub(crate) used: u64,
    pub(crate) reserved: u64,
    /// What all replicas together allow the subject, if an override of its quota says so.
    pub(crate) overridden: Option<u64>,
}

/// The last report of one process of a replica.
#[derive(Debug)]
pub(crate) struct Usage {
    instance: String,
    store: StoreState,
    /// Whether it was reported to this process.
    reported: bool,
    counters: Counters,
    denials: Vec<Denials>,
    tokenless: Arc<BTreeMap<ObjectName, String>>,
    deployments: Reported,
}

/// The use of departed replicas: calendar counters only.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// Those that may come back, each with the time of its departure.
    recent: Vec<(String, Instant, Usage)>,
    /// All others together.
    merged: Counters,
}

/// A limit of the newest table.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) limit: Limit,
    pub(crate) mode: Mode,
    /// Whether some subjects have another amount.
    has_overrides: bool,
}

/// Every limit of the newest table.
pub(crate) type Limits = HashMap<LimitName, Declared>;

/// Takes the limits of other quotas.
pub(crate) fn renew(limits: &mut Limits, changes: &Changes<'_, Quota>) {
    for quota in &changes.gone {
        for (name, _) in quota.named_limits() {
            limits.remove(&name);
        }
    }
    for quota in &changes.fresh {
        for (name, limit) in quota.named_limits() {
            let declared = Declared {
                limit: limit.clone(),
                mode: quota.mode,
                has_overrides: !quota.overrides.is_empty(),
            };
            limits.insert(name, declared);
        }
    }
}

// === impl Declared ===

impl Declared {
    /// What all replicas together allow a subject, of which a report says `overridden`.
    pub(crate) fn amount_for(&self, overridden: Option<u64>) -> u64 {
        let overridden = overridden.filter(|_| self.has_overrides);
        overridden.unwrap_or(self.limit.amount)
    }
}

// === impl Usage ===

impl Usage {
    /// The use of a replica before its first report.
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            store: StoreState::None,
            reported: false,
            counters: Counters::new(),
            denials: Vec::new(),
            tokenless: Arc::default(),
            deployments: Reported::default(),
        }
    }

    /// The use of the process `instance`, as it reports it at `at_ms`, in monotonic milliseconds.
    pub(crate) fn reported(instance: String, counted: v1::Counted, at_ms: u64) -> Self {
        let v1::Counted {
            store,
            counters: readings,
            limits: denials,
            tokenless,
            deployments,
        } = counted;
        let mut counters = Counters::new();
        for reading in readings.into_iter().filter(|reading| reading.used > 0) {
            let counted = Counted {
                subject: reading.subject,
                period_start_ms: reading.period_start_ms,
                used: reading.used,
                reserved: reading.reserved,
                overridden: reading.overridden,
            };
            let limit = counters.entry(reading.limit).or_default();
            limit.insert(reading.key, counted);
        }
        Self {
            instance,
            store,
            reported: true,
            counters,
            denials,
            tokenless: Arc::new(
                tokenless
                    .into_iter()
                    .map(|one| (one.backend, one.reason))
                    .collect(),
            ),
            deployments: Reported::new(deployments, at_ms),
        }
    }

    /// The use of the replica at this index of a checkpoint.
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

    /// Backends that the replica has no token for, each with the reason.
    pub(crate) const fn tokenless(&self) -> &Arc<BTreeMap<ObjectName, String>> {
        &self.tokenless
    }

    /// The deployments that the rules of the replica use.
    pub(crate) const fn deployments(&self) -> &Reported {
        &self.deployments
    }

    /// Whether the replica has reported to this operator process.
    pub(crate) const fn has_reported(&self) -> bool {
        self.reported
    }

    pub(crate) fn denials(&self) -> &[Denials] {
        &self.denials
    }

    pub(crate) fn of(&self, limit: &LimitName) -> impl Iterator<Item = (&SubjectKey, &Counted)> {
        self.counters.get(limit).into_iter().flatten()
    }

    /// What all replicas together allow a subject, if the replica knows of an override.
    pub(crate) fn overridden(&self, limit: &LimitName, key: SubjectKey) -> Option<u64> {
        self.counters.get(limit)?.get(&key)?.overridden
    }

    /// The use within the period that began at `period_start_ms`.
    pub(crate) fn used(&self, limit: &LimitName, key: SubjectKey, period_start_ms: i64) -> u64 {
        let counted = self.counters.get(limit).and_then(|limit| limit.get(&key));
        let counted = counted.filter(|one| one.period_start_ms == Some(period_start_ms));
        counted.map_or(0, |one| one.used)
    }
}

// === impl Departed ===

impl Departed {
    /// Takes the use of a departed replica. A shared store keeps its own counters, so their use is
    /// dropped.
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

    /// Gives back the use of a replica that has come back.
    pub(crate) fn take(&mut self, id: &str, instance: &str) -> Option<Usage> {
        let same = |(other, _, usage): &(String, Instant, Usage)| {
            other == id && usage.instance == instance
        };
        let at = self.recent.iter().position(same)?;
        Some(self.recent.swap_remove(at).2)
    }

    /// Merges replicas that stayed away for too long to come back.
    pub(crate) fn age(&mut self, now: Instant) {
        let merged = &mut self.merged;
        self.recent.retain_mut(|(_, departed, usage)| {
            let stays = now.saturating_duration_since(*departed) < RETURNS;
            if !stays {
                merge(merged, std::mem::take(&mut usage.counters));
            }
            stays
        });
    }

    /// Drops periods that have ended. A limit that has left the table may come back, so its
    /// counters stay longer.
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

    /// How many replicas may come back.
    pub(crate) fn count(&self) -> usize {
        self.recent.len()
    }

    pub(crate) fn recent(&self) -> impl Iterator<Item = (&String, &Usage)> {
        self.recent.iter().map(|(id, _, usage)| (id, usage))
    }

    /// The use of a limit. A subject may occur several times.
    pub(crate) fn of(&self, limit: &LimitName) -> impl Iterator<Item = (&SubjectKey, &Counted)> {
        let merged = self.merged.get(limit).into_iter().flatten();
        let recent = self.recent.iter();
        recent
            .flat_map(|(_, _, usage)| usage.of(limit))
            .chain(merged)
    }

    pub(crate) fn used(&self, limit: &LimitName, key: SubjectKey, period_start_ms: i64) -> u64 {
        let merged = self.merged.get(limit).and_then(|limit| limit.get(&key));
        let merged = merged.filter(|one| one.period_start_ms == Some(period_start_ms));
        let recent = self.recent.iter();
        let recent = recent.map(|(_, _, usage)| usage.used(limit, key, period_start_ms));
        recent.fold(merged.map_or(0, |one| one.used), u64::saturating_add)
    }

    /// Calendar counters of `usages`, by their index, and of the merged replicas.
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
                    overridden: None,
                });
                counter.overridden = counted.overridden.or(counter.overridden);
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

/// The oldest period of a calendar limit that may still run on some clock; `None` for other
/// windows.
pub(crate) fn oldest_period_ms(limit: &Limit, now: Moment) -> Option<i64> {
    period_start_ms(
        limit,
        Moment {
            unix_ms: now.unix_ms.saturating_sub(SKEW_MS),
            ..now
        },
    )
}

/// The start of the period at `now`; `None` for other windows than calendar ones.
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
        overridden: counter.overridden,
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

/// Adds up the same period. Of two periods the newer one stays.
fn merge_one(subjects: &mut HashMap<SubjectKey, Counted>, key: SubjectKey, counted: Counted) {
    match subjects.get_mut(&key) {
        Some(before) if before.period_start_ms == counted.period_start_ms => {
            before.used = before.used.saturating_add(counted.used);
            before.overridden = counted.overridden.or(before.overridden);
        }
        Some(before) if before.period_start_ms > counted.period_start_ms => {}
        Some(_) | None => {
            subjects.insert(key, counted);
        }
    }
}
