//! What a replay has seen, counted. Memory goes with limits and consumers, not with requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_core::quota::Wait;

/// Counts by consumer.
pub(super) type Consumers = BTreeMap<Arc<str>, u64>;

/// The counts.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) admitted: u64,
    /// Admitted, although a shadowed limit would have refused.
    pub(super) shadowed: u64,
    pub(super) denied: u64,
    /// Refused for another reason than a limit, by reason.
    pub(super) refused: BTreeMap<&'static str, Consumers>,
    /// Replayed later than they began, since they came too late in the log.
    pub(super) late: u64,
    /// For each limit of the table, what it refused or, shadowed, would have.
    pub(super) hits: Vec<Hits>,
    /// The first denials.
    pub(super) denials: Vec<Denied>,
    keep: usize,
}

/// What one limit refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits {
    pub(super) count: u64,
    pub(super) consumers: Consumers,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    /// Of those with a wait.
    pub(super) longest_ms: Option<u64>,
    /// Requests that ask for more than the whole limit.
    pub(super) never: u64,
}

/// A request that a limit refuses.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) line: u64,
    pub(super) at_ms: i64,
    pub(super) request_id: String,
    pub(super) consumer: Arc<str>,
    pub(super) model: Option<Arc<str>>,
    /// Index of the limit in the table.
    pub(super) limit: usize,
    pub(super) wait: Wait,
}

impl Tally {
    pub(super) fn new(limits: usize, keep: usize) -> Self {
        Self {
            admitted: 0,
            shadowed: 0,
            denied: 0,
            refused: BTreeMap::new(),
            late: 0,
            hits: vec![Hits::default(); limits],
            denials: Vec::new(),
            keep,
        }
    }

    pub(super) fn admitted(&mut self, shadowed: bool) {
        self.admitted = self.admitted.saturating_add(1);
        self.shadowed = self.shadowed.saturating_add(u64::from(shadowed));
    }

    pub(super) fn refused(&mut self, why: &'static str, consumer: &Arc<str>) {
        bump(self.refused.entry(why).or_default(), consumer);
    }

    pub(super) fn denied(&mut self, denied: Denied) {
        self.denied = self.denied.saturating_add(1);
        self.hit(
            denied.limit,
            &denied.consumer,
            denied.at_ms,
            Some(denied.wait),
        );
        if self.denials.len() < self.keep {
            self.denials.push(denied);
        }
    }

    pub(super) fn hit(
        &mut self,
        limit: usize,
        consumer: &Arc<str>,
        at_ms: i64,
        wait: Option<Wait>,
    ) {
        let Some(hits) = self.hits.get_mut(limit) else {
            return;
        };
        if hits.count == 0 {
            hits.first_ms = at_ms;
        }
        hits.last_ms = at_ms;
        hits.count = hits.count.saturating_add(1);
        bump(&mut hits.consumers, consumer);
        match wait {
            Some(Wait::Millis(wait)) => hits.longest_ms = hits.longest_ms.max(Some(wait)),
            Some(Wait::Never) => hits.never = hits.never.saturating_add(1),
            None => {}
        }
    }
}

fn bump(consumers: &mut Consumers, consumer: &Arc<str>) {
    let count = consumers.entry(Arc::clone(consumer)).or_default();
    *count = count.saturating_add(1);
}
