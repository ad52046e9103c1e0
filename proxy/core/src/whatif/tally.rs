//! The counts of a replay. Memory grows with limits and consumers, not with requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::quota::Wait;

/// Requests by consumer.
pub type ConsumerCounts = BTreeMap<Arc<str>, u64>;

/// The counts of a replay.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that every enforced limit admits.
    pub admitted: u64,
    /// Those of the admitted that a shadowed limit would have refused.
    pub shadow_denied: u64,
    /// Requests that an enforced limit refuses.
    pub denied: u64,
    /// Requests refused for another reason than a limit, by reason word.
    pub refused: BTreeMap<&'static str, ConsumerCounts>,
    /// Requests replayed later than they began, because their line came too late.
    pub late: u64,
    /// Admitted requests of deployments without a price, whose cost is unknown.
    pub unpriced: u64,
    /// The first requests that a limit refuses.
    pub denials: Vec<LimitDenial>,
}

/// What one limit refused, or would have refused in shadow mode.
#[derive(Clone, Debug, Default)]
pub struct LimitTally {
    /// Requests.
    pub count: u64,
    /// Requests by consumer.
    pub consumers: ConsumerCounts,
    /// The first of them, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// The last of them.
    pub last_ms: i64,
    /// The longest wait of those that would fit later.
    pub longest_ms: Option<u64>,
    /// Requests that ask for more than the whole limit.
    pub never: u64,
}

/// A request that a limit refuses.
#[derive(Debug)]
pub struct LimitDenial {
    /// Its line in the log.
    pub line: u64,
    /// When it came, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its id.
    pub request_id: String,
    /// Its consumer.
    pub consumer: Arc<str>,
    /// The model that it named.
    pub model: Option<Arc<str>>,
    /// Index of the limit in the table.
    pub limit: usize,
    /// When it would fit every limit.
    pub wait: Wait,
}

impl Tally {
    pub(super) fn admit(&mut self, shadow_denied: bool) {
        self.admitted = self.admitted.saturating_add(1);
        let shadow = u64::from(shadow_denied);
        self.shadow_denied = self.shadow_denied.saturating_add(shadow);
    }

    pub(super) fn refuse(&mut self, reason: &'static str, consumer: &Arc<str>) {
        increment(self.refused.entry(reason).or_default(), consumer);
    }

    /// Counts a denial, and keeps it if fewer than `keep` are kept.
    pub(super) fn deny(&mut self, denial: LimitDenial, keep: usize) {
        self.denied = self.denied.saturating_add(1);
        if self.denials.len() < keep {
            self.denials.push(denial);
        }
    }
}

impl LimitTally {
    /// Counts one refusal; `wait` is `None` in shadow mode, where nothing waits.
    pub(super) fn add(&mut self, consumer: &Arc<str>, at_ms: i64, wait: Option<Wait>) {
        if self.count == 0 {
            self.first_ms = at_ms;
        }
        self.last_ms = at_ms;
        self.count = self.count.saturating_add(1);
        increment(&mut self.consumers, consumer);
        match wait {
            Some(Wait::Millis(wait)) => self.longest_ms = self.longest_ms.max(Some(wait)),
            Some(Wait::Never) => self.never = self.never.saturating_add(1),
            None => {}
        }
    }
}

fn increment(counts: &mut ConsumerCounts, consumer: &Arc<str>) {
    let count = counts.entry(Arc::clone(consumer)).or_default();
    *count = count.saturating_add(1);
}
