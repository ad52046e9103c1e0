//! Limits, and the counters that enforce them.
//!
//! [`reserve`] **is** the check: it debits every counter of a request in one step, or none. Nothing
//! here answers "is there quota" without taking it. What was reserved is later corrected by
//! [`Entry::settle`]; what was used beyond the limit is carried as debt.
//!
//! Words: a `limit` is the declared rule, a `counter` its state for one subject, a `cost` what a
//! request asks for, a `stamp` where a reservation was debited.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;
use std::sync::Arc;

use crate::names::{Code, ObjectName, Usage};

mod calendar;
mod counter;
mod escrow;
mod reserve;
mod ring;
#[cfg(test)]
mod tests;

pub use calendar::{Period, TimeZone};
pub use counter::Counter;
pub use escrow::{Answer, Ask, Escrow, Part, Profile, Reckoning, Trip, repeats_after};
pub use reserve::{Backing, Entry, Exceeded, Loss, Shortfall, Taken, reserve};

/// `namespace/quota/limit`: what a refusal names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName {
    /// The AIQuota.
    pub quota: ObjectName,
    /// The entry of its `limits`.
    pub limit: Arc<str>,
}

impl LimitName {
    /// Reads `namespace/quota/limit`; `None` unless there are exactly three parts with text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (quota, limit) = text.rsplit_once('/')?;
        let quota = ObjectName::parse(quota)?;
        (!limit.is_empty()).then(|| Self {
            quota,
            limit: limit.into(),
        })
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quota, self.limit)
    }
}

/// Whom a counter counts, under the same name in every replica: the beginning of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(pub [u8; 16]);

/// What one replica has counted, for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// The limit.
    pub limit: LimitName,
    /// Whom it counts.
    pub key: SubjectKey,
    /// The same for people, such as `consumer=ns/name`; empty if the quota does not split.
    pub subject: Arc<str>,
    /// When the calendar period began; none for rolling windows and `Concurrency`.
    pub period_start_ms: Option<i64>,
    /// Used, what is reserved and debt included. Without a shared store: by this replica alone.
    pub used: u64,
    /// The part of it that running requests hold in this replica.
    pub reserved: u64,
    /// What this replica allows: with a shared store the whole limit, without its part.
    pub amount: u64,
}

/// A replica's part of what replicas that are gone used of a calendar period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The limit.
    pub limit: LimitName,
    /// Whom it counts.
    pub key: SubjectKey,
    /// When the period began.
    pub period_start_ms: i64,
    /// What counts as used here besides this replica's own use.
    pub amount: u64,
}

/// How the shared store of a replica's counters stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// There is none: counters are this replica's own.
    None,
    /// It answers.
    Ok,
    /// It does not answer; each limit does what its `onStoreLoss` says.
    Lost,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Input tokens, cached ones included.
    InputTokens,
    /// Output tokens, reasoning included.
    OutputTokens,
    /// Input and output tokens.
    Tokens,
    /// Micros of the installation's currency, by the deployments' prices.
    CostMicros,
    /// Requests that are running now.
    Concurrency,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Tokens,
        Self::CostMicros,
        Self::Concurrency,
    ];

    /// The CamelCase word used in objects, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "Requests",
            Self::InputTokens => "InputTokens",
            Self::OutputTokens => "OutputTokens",
            Self::Tokens => "Tokens",
            Self::CostMicros => "CostMicros",
            Self::Concurrency => "Concurrency",
        }
    }
}

/// Over which span a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Any second: rolling, ten sub-buckets.
    Second,
    /// Any minute: rolling, sixty sub-buckets.
    Minute,
    /// A calendar period in a time zone.
    Calendar(Period, TimeZone),
    /// None: what is held now (`Concurrency`).
    Held,
}

impl fmt::Display for Window {
    /// The words of the object, with the time zone unless that is UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (period, zone) = match self {
            Self::Second => return f.write_str("Second"),
            Self::Minute => return f.write_str("Minute"),
            Self::Held => return f.write_str("Held"),
            Self::Calendar(period, zone) => (period, zone.name()),
        };
        f.write_str(match period {
            Period::Hour => "Hour",
            Period::Day => "Day",
            Period::Week => "Week",
            Period::Month => "Month",
        })?;
        if zone == "UTC" {
            return Ok(());
        }
        write!(f, " {zone}")
    }
}

/// One entry of an AIQuota's `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name within the AIQuota.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// How much is allowed per window.
    pub amount: u64,
    /// The window.
    pub window: Window,
}

impl Limit {
    /// The reason word of a request that this limit refuses.
    #[must_use]
    pub const fn code(&self) -> Code {
        match (self.unit, &self.window) {
            (Unit::Concurrency, _) => Code::ConcurrencyExceeded,
            (Unit::Requests, Window::Second | Window::Minute) => Code::RateLimited,
            _ => Code::QuotaExceeded,
        }
    }
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuses what does not fit.
    #[default]
    Enforce,
    /// Counts and reports what it would refuse, refuses nothing.
    Shadow,
}

impl Mode {
    /// The CamelCase word used in objects and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "Enforce",
            Self::Shadow => "Shadow",
        }
    }
}

/// What a limit does when the shared store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// Each replica enforces limit / live replicas.
    #[default]
    Share,
    /// Refuse.
    Deny,
    /// Admit.
    Allow,
}

/// How counters of one limit split into subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// One counter for each consumer.
    Consumer,
    /// One for each model that clients ask for.
    Model,
    /// One for each AIRoute.
    Route,
    /// One for each value of the quota's `attribute`.
    Attribute,
}

/// What a request asks of its limits, or has used of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens.
    pub usage: Usage,
    /// Micros, by the price of the deployment (before it is known: the dearest candidate's).
    pub cost_micros: u64,
}

impl Cost {
    /// How much of `unit` this is.
    #[must_use]
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests | Unit::Concurrency => 1,
            Unit::InputTokens => self.usage.input_tokens,
            Unit::OutputTokens => self.usage.output_tokens,
            Unit::Tokens => self.usage.total_tokens(),
            Unit::CostMicros => self.cost_micros,
        }
    }
}

/// How long until the same request would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// This many milliseconds, at least 1.
    Millis(u64),
    /// It asks for more than the whole limit.
    Never,
}
