//! `/quota`: the use of every limit, by subject.

use proxy_core::quota::LimitName;
use serde::{Deserialize, Serialize};

use super::limit_name;

/// Subjects listed of one limit, those nearest to what they are allowed first: pass-through callers have no bound.
pub const SUBJECTS: usize = 1_000;

/// The use of all limits at one moment: of one proxy, or of all replicas if an operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsagePage {
    /// Replicas that share the limits. A proxy enforces and reports only its share.
    pub replicas: u64,
    /// Replicas that have reported to the operator; a proxy's page does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporting: Option<u64>,
    /// Every limit, by name.
    pub limits: Vec<LimitUsage>,
}

/// The use of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUsage {
    /// `namespace/quota/limit`.
    #[serde(with = "limit_name")]
    pub limit: LimitName,
    /// What it counts.
    pub unit: String,
    /// The window, with its time zone unless that is UTC.
    pub window: String,
    /// `Enforce` or `Shadow`.
    pub mode: String,
    /// How much all replicas together allow.
    pub declared: u64,
    /// How much the writer of the page allows.
    pub amount: u64,
    /// Requests that it refused since the process began.
    pub denials: u64,
    /// Requests that it would have refused, in mode `Shadow`.
    pub shadow_denials: u64,
    /// Subjects that have used something.
    pub counters: u64,
    /// Those of them with the largest share of their amount, at most [`SUBJECTS`].
    pub subjects: Vec<SubjectUsage>,
}

/// The use of one limit by one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectUsage {
    /// Such as `consumer=ns/name model=gpt-4o`; empty if the quota does not split its counters.
    pub subject: String,
    /// Used in the window, reservations included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// How much the writer of the page allows it, if an override of the quota says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// What is left.
    pub remaining: u64,
    /// Latest time until everything used now has left the window; `null` for `Concurrency`.
    pub reset_seconds: Option<u64>,
}

impl LimitUsage {
    /// How much `subject` is allowed.
    #[must_use]
    pub fn amount_for(&self, subject: &SubjectUsage) -> u64 {
        subject.amount.unwrap_or(self.amount)
    }

    /// Subjects that are not listed.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        let listed = u64::try_from(self.subjects.len()).unwrap_or(u64::MAX);
        self.counters.saturating_sub(listed)
    }
}
