//! Counters of replicas, and the usage of departed replicas that the others carry.

use std::sync::Arc;

use proxy_core::names::ObjectName;
use proxy_core::quota::{self, CounterReading, LimitName, Reached, StoreState, SubjectKey};
use serde::{Deserialize, Serialize};

use super::fields::Text;

mod counted;
#[cfg(test)]
mod tests;

pub use counted::{Counted, Denials, DeploymentReport, NoToken};

/// The counters of a proxy: the body of `POST /v1/report`. Each report replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The replica that reports.
    pub replica: String,
    /// The process: a replica that restarts has the same name and counts from 0.
    pub instance: String,
    store: Text<StoreState>,
    #[serde(default)]
    counters: Vec<Counter>,
    #[serde(default)]
    limits: Vec<Refused>,
    /// Absent from proxies that do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tokenless: Vec<Tokenless>,
    /// The same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deployments: Vec<DeploymentReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tokenless {
    backend: Text<ObjectName>,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    limit: Text<LimitName>,
    key: Text<SubjectKey>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    subject: Arc<str>,
    /// Absent for rolling windows and `Concurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period_start_ms: Option<i64>,
    used: u64,
    #[serde(default)]
    reserved: u64,
    #[serde(default)]
    amount: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overridden: Option<u64>,
    /// Absent from proxies that do not tell warnings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warned: Option<Warned>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Warned {
    level: u8,
    used: u64,
    at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    limit: Text<LimitName>,
    #[serde(default)]
    denials: u64,
    #[serde(default)]
    shadow_denials: u64,
}

/// Usage of departed replicas that each live replica counts besides its own: the whole list, each
/// time. Sent to replicas that state their `instance`; older ones do not know the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The number of replicas that the amounts belong to.
    pub replicas: u64,
    /// One per limit and subject.
    #[serde(default)]
    pub entries: Vec<CarriedEntry>,
}

/// One subject of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedEntry {
    limit: Text<LimitName>,
    key: Text<SubjectKey>,
    period_start_ms: i64,
    amount: u64,
}

// === impl Report ===

impl Report {
    /// What one process of a replica has counted.
    #[must_use]
    pub fn new((replica, instance): (String, String), counted: Counted) -> Self {
        let Counted {
            store,
            counters,
            limits,
            tokenless,
            deployments,
        } = counted;
        Self {
            replica,
            instance,
            store: Text(store),
            counters: counters.into_iter().map(Counter::from).collect(),
            limits: limits.into_iter().map(Refused::from).collect(),
            tokenless: tokenless.into_iter().map(Tokenless::from).collect(),
            deployments,
        }
    }

    /// What it says.
    #[must_use]
    pub fn into_counted(self) -> Counted {
        let counters = self.counters.into_iter().map(Counter::into_core);
        let limits = self.limits.into_iter().map(Refused::into_core);
        let tokenless = self.tokenless.into_iter().map(|one| NoToken {
            backend: one.backend.0,
            reason: one.reason,
        });
        Counted {
            store: self.store.0,
            counters: counters.collect(),
            limits: limits.collect(),
            tokenless: tokenless.collect(),
            deployments: self.deployments,
        }
    }
}

// === impl Tokenless ===

impl From<NoToken> for Tokenless {
    fn from(NoToken { backend, reason }: NoToken) -> Self {
        Self {
            backend: Text(backend),
            reason,
        }
    }
}

// === impl CarriedEntry ===

impl From<quota::Carried> for CarriedEntry {
    fn from(carried: quota::Carried) -> Self {
        Self {
            limit: Text(carried.limit),
            key: Text(carried.key),
            period_start_ms: carried.period_start_ms,
            amount: carried.amount,
        }
    }
}

impl From<CarriedEntry> for quota::Carried {
    fn from(entry: CarriedEntry) -> Self {
        Self {
            limit: entry.limit.0,
            key: entry.key.0,
            period_start_ms: entry.period_start_ms,
            amount: entry.amount,
        }
    }
}

// === impl Counter ===

impl From<CounterReading> for Counter {
    fn from(reading: CounterReading) -> Self {
        Self {
            limit: Text(reading.limit),
            key: Text(reading.key),
            subject: reading.subject,
            period_start_ms: reading.period_start_ms,
            used: reading.used,
            reserved: reading.reserved,
            amount: reading.amount,
            overridden: reading.overridden,
            warned: reading.warned.map(Warned::from),
        }
    }
}

impl Counter {
    fn into_core(self) -> CounterReading {
        CounterReading {
            limit: self.limit.0,
            key: self.key.0,
            subject: self.subject,
            period_start_ms: self.period_start_ms,
            used: self.used,
            reserved: self.reserved,
            amount: self.amount,
            overridden: self.overridden,
            warned: self.warned.map(Reached::from),
        }
    }
}

// === impl Warned ===

impl From<Reached> for Warned {
    fn from(reached: Reached) -> Self {
        let Reached { level, used, at_ms } = reached;
        Self { level, used, at_ms }
    }
}

impl From<Warned> for Reached {
    fn from(warned: Warned) -> Self {
        let Warned { level, used, at_ms } = warned;
        Self { level, used, at_ms }
    }
}

// === impl Refused ===

impl From<Denials> for Refused {
    fn from(denials: Denials) -> Self {
        Self {
            limit: Text(denials.limit),
            denials: denials.denials,
            shadow_denials: denials.shadow_denials,
        }
    }
}

impl Refused {
    fn into_core(self) -> Denials {
        Denials {
            limit: self.limit.0,
            denials: self.denials,
            shadow_denials: self.shadow_denials,
        }
    }
}
