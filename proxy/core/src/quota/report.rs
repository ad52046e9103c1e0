//! What replicas report of their counters to each other.

use std::sync::Arc;

use super::limit::LimitName;
use super::warning::Reached;

/// The identity of a counter's subject, the same in every replica: the beginning of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(pub [u8; 16]);

/// The state of one counter of one replica, for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// The limit.
    pub limit: LimitName,
    /// The subject.
    pub key: SubjectKey,
    /// The subject as text, such as `consumer=ns/name`; empty if the quota does not split.
    pub subject: Arc<str>,
    /// When the calendar period began; `None` for rolling windows and `Concurrency`.
    pub period_start_ms: Option<i64>,
    /// Used, reservations and debt included. Without a shared store: by this replica alone.
    pub used: u64,
    /// The part of it that running requests hold in this replica.
    pub reserved: u64,
    /// What this replica allows: the whole limit with a shared store, else its share.
    pub amount: u64,
    /// What all replicas together allow the subject, if an override of its quota says so.
    pub overridden: Option<u64>,
    /// The last level of `warnAt` that this replica has warned of, while its window lasts.
    pub warned: Option<Reached>,
}

/// A replica's share of what departed replicas used of a calendar period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The limit.
    pub limit: LimitName,
    /// The subject.
    pub key: SubjectKey,
    /// When the period began.
    pub period_start_ms: i64,
    /// What counts as used here besides this replica's own use.
    pub amount: u64,
}

/// The state of the shared store, as a replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// There is none: each replica counts for itself.
    None,
    /// It answers.
    Ok,
    /// It does not answer; each limit does what its `onStoreLoss` says.
    Lost,
}
