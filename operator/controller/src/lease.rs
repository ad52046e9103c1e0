//! Which operator replica may write: leader election over a Lease.
//!
//! The rules are client-go's. A candidate trusts its own monotonic clock only: a lease is expired
//! when its record has not changed for the lease's whole duration *as seen from here*, so a skewed
//! wall clock can neither steal nor keep it. A leader stops at the renew deadline, which is earlier
//! than anybody else's expiry. Each write carries the resource version that was read, so of two
//! candidates that both saw an expired lease one loses.
//!
//! [`Elector`] decides and touches nothing; [`keeper`] carries it out against the API server.

use std::time::Duration;

pub(crate) mod keeper;
#[cfg(test)]
mod tests;

/// How long each step of an election may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record that nobody renews keeps others away.
    pub duration: Duration,
    /// How long after its last renewal a leader still believes in itself; shorter than `duration`.
    pub renew_deadline: Duration,
    /// Time between two looks.
    pub retry: Duration,
}

impl Timing {
    /// Kubernetes' own: a dead leader is replaced within 17 s, and an API server that is slow for
    /// 10 s costs nobody the leadership.
    pub const KUBERNETES: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };
}

/// What a Lease says, without its clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The resource version of this reading; any write changes it.
    pub(crate) version: String,
    /// Who holds it; empty once released.
    pub(crate) holder: String,
    /// How often it has changed hands.
    pub(crate) transitions: i32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Somebody else holds it.
    Wait,
    /// Nobody has made the lease yet.
    Create,
    /// Write ourselves into it, over the record of this version.
    Write {
        /// The version that must still be the stored one.
        version: String,
        /// The number of changes of hands to store.
        transitions: i32,
        /// Whether it was ours already.
        renewal: bool,
    },
}

/// One candidate's view of the election. Times are monotonic milliseconds of its own clock.
#[derive(Debug)]
pub(crate) struct Elector {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// When the request of the last successful write was *sent*: others cannot have seen it sooner.
    renewed_ms: Option<u64>,
}

#[derive(Debug)]
struct Seen {
    record: Record,
    /// When this record was first seen.
    since_ms: u64,
}

// === impl Elector ===

impl Elector {
    pub(crate) const fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            renewed_ms: None,
        }
    }

    /// Until when we lead; `None` if we do not.
    pub(crate) fn leads_until_ms(&self) -> Option<u64> {
        self.renewed_ms
            .map(|at| at.saturating_add(millis(self.timing.renew_deadline)))
    }

    /// Whether we lead at this moment.
    pub(crate) fn leads(&self, now_ms: u64) -> bool {
        self.leads_until_ms().is_some_and(|until| now_ms < until)
    }

    /// A reading of the lease, `None` if there is none.
    pub(crate) fn observe(&mut self, record: Option<Record>, now_ms: u64) {
        let Some(record) = record else {
            self.seen = None;
            self.renewed_ms = None;
            return;
        };
        if record.holder != self.identity {
            self.renewed_ms = None;
        }
        let unchanged = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.record.version == record.version);
        if !unchanged {
            self.seen = Some(Seen {
                record,
                since_ms: now_ms,
            });
        }
    }

    /// What to do, given what was observed.
    pub(crate) fn step(&self, now_ms: u64) -> Step {
        let Some(Seen { record, since_ms }) = &self.seen else {
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

    /// Our write, sent at `sent_ms`, was stored as this record.
    pub(crate) fn written(&mut self, record: Record, sent_ms: u64, now_ms: u64) {
        self.renewed_ms = Some(sent_ms);
        self.seen = Some(Seen {
            record,
            since_ms: now_ms,
        });
    }

    /// The record to write on leaving, `None` if the lease is not ours.
    pub(crate) fn release(&mut self) -> Option<Record> {
        let led = self.renewed_ms.take().is_some();
        let seen = self.seen.take()?;
        (led && seen.record.holder == self.identity).then(|| Record {
            holder: String::new(),
            ..seen.record
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
