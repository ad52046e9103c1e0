//! Limits as declared, and what a request asks of them.

use std::fmt;
use std::sync::Arc;

use super::window::Window;
use crate::names::{Code, ObjectName, Usage};

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
    /// Requests that run at the same time.
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

/// One entry of an AIQuota's `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Unique within the AIQuota.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// How much of the unit one window allows.
    pub amount: u64,
    /// Over which span it counts.
    pub window: Window,
}

impl Limit {
    /// Whether it refuses every request, also one that asks for nothing of its unit.
    #[must_use]
    pub const fn admits_nothing(&self) -> bool {
        self.amount == 0
    }

    /// The same with one replica's part of another amount. Rounded down: together the replicas never
    /// admit more than declared.
    #[must_use]
    pub fn share(&self, amount: u64, replicas: u64) -> Self {
        Self {
            amount: amount.checked_div(replicas).unwrap_or(amount),
            ..self.clone()
        }
    }

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

/// What a limit does while the shared store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// Each replica enforces the limit divided by the live replicas.
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
    /// One counter for each namespace of a route.
    Namespace,
    /// One counter for each consumer.
    Consumer,
    /// One for each model, as it is deployed.
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
    /// Micros, by the price of the deployment; the dearest candidate's before it is known.
    pub cost_micros: u64,
}

impl Cost {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            usage: self.usage.plus(other.usage),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }

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

/// What a request holds of its limits, and what it may come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// What is debited before it is sent.
    pub cost: Cost,
    /// The most that it may plausibly use; at least `cost` in every unit, and equal to it if that is
    /// a bound and no guess.
    pub most: Cost,
}

impl Hold {
    /// A hold that is a bound.
    #[must_use]
    pub const fn exact(cost: Cost) -> Self {
        Self { cost, most: cost }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cost: self.cost.plus(other.cost),
            most: self.most.plus(other.most),
        }
    }

    /// How much more of `unit` than it holds the request may use; 0 for requests and permits.
    #[must_use]
    pub const fn exposure(&self, unit: Unit) -> u64 {
        self.most.of(unit).saturating_sub(self.cost.of(unit))
    }
}

/// How long until the same request would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Milliseconds, at least 1.
    Millis(u64),
    /// It asks for more than the whole limit.
    Never,
}

/// As a person says it: `9 s`, `13 min`, `22 h`, `3 days`, rounded up.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Millis(wait) = self else {
            return f.write_str("never");
        };
        let seconds = wait.div_ceil(1_000);
        let (unit, name) = match seconds {
            0..=120 => (1, "s"),
            121..=7_200 => (60, "min"),
            7_201..=172_800 => (3_600, "h"),
            _ => (86_400, "days"),
        };
        write!(f, "{} {name}", seconds.div_ceil(unit))
    }
}
