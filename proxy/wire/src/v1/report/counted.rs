//! What a proxy knows of itself at one moment.

use proxy_core::names::ObjectName;
use proxy_core::quota::{CounterReading, LimitName, StoreState};
use serde::{Deserialize, Serialize};

/// What a replica has counted, and how its backends do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The state of its shared store.
    pub store: StoreState,
    /// Its readings.
    pub counters: Vec<CounterReading>,
    /// Refusals of its limits.
    pub limits: Vec<Denials>,
    /// Backends that it has no token for.
    pub tokenless: Vec<NoToken>,
    /// The deployments that its rules use. None from a proxy that is too old to tell.
    pub deployments: Vec<DeploymentReport>,
}

/// How often a limit has refused since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    /// The limit.
    pub limit: LimitName,
    /// Requests refused.
    pub denials: u64,
    /// Requests that it would have refused, in mode `Shadow`.
    pub shadow_denials: u64,
}

/// A backend that a replica has no token for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken {
    /// The backend.
    pub backend: ObjectName,
    /// Why, and what to do. Names no tenant, application or host.
    pub reason: String,
}

/// One deployment, as a replica sees it. Words, since a newer proxy may know more of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentReport {
    /// `namespace/name` of the AIBackend.
    pub backend: String,
    /// The deployment.
    pub deployment: String,
    /// `In`, `Returning` or `Out`.
    pub state: String,
    /// Why it is out; empty if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it said when it went out, if anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// For how long it is out already, in milliseconds. Durations, since clocks differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_ms: Option<u64>,
    /// How long until a request tries it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// Calls that are under way.
    #[serde(default)]
    pub in_flight: u32,
    /// Tries that failed since the last good answer.
    #[serde(default)]
    pub failures_in_a_row: u64,
    /// The time to the first byte of late, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// How much of it is used, in per cent: as its answers told within ten seconds, or with a declared capacity as its
    /// calls are reckoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilisation_percent: Option<u32>,
    /// How much of its input its prompt cache had of late, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_percent: Option<u32>,
}

// === impl Counted ===

impl Counted {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new(store: StoreState) -> Self {
        Self {
            store,
            counters: Vec::new(),
            limits: Vec::new(),
            tokenless: Vec::new(),
            deployments: Vec::new(),
        }
    }
}

// === impl DeploymentReport ===

impl DeploymentReport {
    /// Whether it gets no share.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.state == "Out"
    }

    /// The same without the numbers that move all the time.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        Self {
            out_ms: None,
            retry_in_ms: None,
            in_flight: 0,
            failures_in_a_row: 0,
            first_byte_ms: None,
            utilisation_percent: None,
            cached_input_percent: None,
            ..self.clone()
        }
    }
}
