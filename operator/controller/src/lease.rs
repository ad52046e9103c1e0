//! The leader election over a Lease: one operator replica writes.
//!
//! The rules are client-go's. A candidate trusts its own monotonic clock only: a lease is expired
//! if its record has not changed for the lease's whole duration *as observed here*, so a skewed
//! wall clock can neither steal nor keep it. A leader stops at the renew deadline, which is earlier
//! than any other candidate's expiry. Each write carries the resource version that was read, so of
//! two candidates that both observed an expired lease one loses.
//!
//! [`Elector`] decides and does no I/O; [`keeper`] applies its decisions to the API server.

use std::time::Duration;

pub(crate) mod keeper;
#[cfg(test)]
mod tests;

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record without renewal excludes other candidates.
    pub duration: Duration,
    /// How long after its last renewal a leader still leads; shorter than `duration`.
    pub renew_deadline: Duration,
    /// Pause between two attempts.
    pub retry: Duration,
}

impl Timing {
    /// Those of Kubernetes itself: a dead leader is replaced within 17 s, and no leader loses the
    /// lease because the API server is slow for 10 s.
    pub const KUBERNETES: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };
}

/// The content of a Lease, without its clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The resource version; any write changes it.
    pub(crate) version: String,
    /// The holder; empty after a release.
    pub(crate) holder: String,
    /// How often the holder has changed.
    pub(crate) transitions: i32,
}

/// The next step of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Another candidate holds the lease.
    Wait,
    /// There is no lease yet.
    Create,
    /// Write this candidate into the lease, over the record of this version.
    Write {
        /// The version that must still be the stored one.
        version: String,
        /// The number of changes of the holder to store.
        transitions: i32,
        /// Whether this candidate holds it already.
        renewal: bool,
    },
}

/// One candidate's view of the election. Times are monotonic milliseconds of its own clock.
#[derive(Debug)]
pub(crate) struct Elector {
    identity: String,
    timing: Timing,
    observed: Option<ObservedRecord>,
    /// When the request of the last successful write was *sent*: no other candidate can have
    /// observed it sooner.
    renewed_ms: Option<u64>,
}

#[derive(Debug)]
struct ObservedRecord {
    record: Record,
    /// When this record was first observed.
    since_ms: u64,
}

// === impl Elector ===

impl Elector {
    pub(crate) const fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            observed: None,
            renewed_ms: None,
        }
    }

    /// The end of the leadership; `None` if this candidate does not lead.
    pub(crate) fn leads_until_ms(&self) -> Option<u64> {
        self.renewed_ms
            .map(|at| at.saturating_add(millis(self.timing.renew_deadline)))
    }

    /// Whether this candidate leads at `now_ms`.
    pub(crate) fn leads(&self, now_ms: u64) -> bool {
        self.leads_until_ms().is_some_and(|until| now_ms < until)
    }

    /// Takes the record that was read; `None` if there is no lease.
    pub(crate) fn observe(&mut self, record: Option<Record>, now_ms: u64) {
        let Some(record) = record else {
            self.observed = None;
            self.renewed_ms = None;
            return;
        };
        if record.holder != self.identity {
            self.renewed_ms = None;
        }
        let unchanged = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.record.version == record.version);
        if !unchanged {
            self.observed = Some(ObservedRecord {
                record,
                since_ms: now_ms,
            });
        }
    }

    /// The next step, after what was observed.
    pub(crate) fn step(&self, now_ms: u64) -> Step {
        let Some(ObservedRecord { record, since_ms }) = &self.observed else {
            return Step::Create;
        };
        let ours = record.holder == self.identity;
        let expired = now_ms.saturating_sub(*since_ms) >= millis(self.timing.duration);
        if !ours && !record.holder.is_empty() && !expired {
            return Step::Wait;
        }
        Step::Write {
            version: record.version.clone(),
            transitions: record.transitions.saturating_add(i32::from(!ours)),
            renewal: ours,
        }
    }

    /// The API server stored this candidate's write, sent at `sent_ms`, as this record.
    pub(crate) fn written(&mut self, record: Record, sent_ms: u64, now_ms: u64) {
        self.renewed_ms = Some(sent_ms);
        self.observed = Some(ObservedRecord {
            record,
            since_ms: now_ms,
        });
    }

    /// The record that releases the lease; `None` if this candidate does not hold it.
    pub(crate) fn release(&mut self) -> Option<Record> {
        let led = self.renewed_ms.take().is_some();
        let observed = self.observed.take()?;
        (led && observed.record.holder == self.identity).then(|| Record {
            holder: String::new(),
            ..observed.record
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
