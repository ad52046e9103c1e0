//! What a replica and the store say to each other about one counter.

use super::grants::Slice;
use super::refusal::Profile;

/// A request to the store for one counter: what the replica asks for, and what the store must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Grant at least this, or nothing.
    pub need: u64,
    /// Grant up to this.
    pub want: u64,
    /// Unspent grants or idle permits kept by this replica (excluding returns).
    pub idle: u64,
    /// What the store must hear.
    pub report: LeaseReport,
    /// Also tell this many of the newest sub-buckets of the window.
    pub look: u64,
    /// The epoch of the store's data that this is about.
    pub(super) epoch: u64,
}

/// The part of a request that depends on the kind of limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReport {
    /// Of a rolling or calendar limit.
    Grants {
        /// To be subtracted from the buckets that were charged.
        returns: Vec<Slice>,
        /// Used without a grant: to be charged whether it fits or not.
        owed: u64,
        /// How many sub-buckets long a grant should last; 1 for a calendar limit.
        lasts: u64,
    },
    /// Of a `Concurrency` limit.
    Permits {
        /// What this replica holds now; replaces what the store knew of it.
        held: u64,
        /// Grows with each request. A request that arrives after a later one is void, since its
        /// `held` is no longer true.
        turn: u64,
    },
}

/// The store's reply for one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReply {
    /// What it granted; 0 if the need of this or of another counter of the call did not fit.
    pub granted: u64,
    /// The bucket that was charged.
    pub at: i64,
    /// For how many sub-buckets it was granted; 1 unless of a rolling window.
    pub lasts: u64,
    /// How much of the limit is charged now, by all replicas, this grant included.
    pub used: u64,
    /// Milliseconds until the calendar period ends; `None` for others.
    pub ends_in_ms: Option<u64>,
    /// What other replicas may hold unspent, if this counter was why nothing was granted. They are
    /// asked to return it.
    pub elsewhere: u64,
    /// The state of the window, if this counter was why nothing was granted; else with the newest
    /// buckets only, if the request asks for them.
    pub profile: Option<Profile>,
}

/// When a request was sent and its reply received, by this replica's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Read before sending.
    pub sent_ms: u64,
    /// Read after receiving.
    pub received_ms: u64,
    /// The store has lost its data a moment ago: its total lacks what other replicas report just now.
    pub settling: bool,
}

/// While other replicas return what they hold, the store is asked again after these pauses, until they
/// hold nothing or the last pause is over.
const RECALLS_MS: [u64; 6] = [2, 5, 10, 20, 40, 80];

impl LeaseRequest {
    /// A request that only carries `report`.
    #[must_use]
    pub const fn new(report: LeaseReport) -> Self {
        Self {
            need: 0,
            want: 0,
            idle: 0,
            report,
            look: 0,
            epoch: 0,
        }
    }

    /// The same request once the store has answered it: what it has heard is not repeated.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut again = self.clone();
        if let LeaseReport::Grants { returns, owed, .. } = &mut again.report {
            returns.clear();
            *owed = 0;
        }
        again
    }
}

/// Whether to send a call again that got these replies, and after how many milliseconds; it was sent
/// again `repeats` times before.
#[must_use]
pub fn repeats_after(replies: &[LeaseReply], repeats: usize) -> Option<u64> {
    let recalled = replies.iter().any(|reply| reply.elsewhere > 0);
    RECALLS_MS.get(repeats).copied().filter(|_| recalled)
}
