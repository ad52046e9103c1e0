//! `/backends`: every deployment that a rule uses, and whether it takes its share.

use serde::{Deserialize, Serialize};

/// The deployments of one proxy at one moment, or of all proxies as an operator knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendsPage {
    /// Proxies that an operator knows; absent from the page of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Those of them that told it of their deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporting: Option<u64>,
    /// Every deployment that a rule uses, by backend and name.
    pub deployments: Vec<DeploymentState>,
}

/// Most names in [`Proxies::out_on`]: a person looks at one of them.
pub const NAMED: usize = 10;

/// The proxies that told an operator of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// Those that have it in.
    pub have: u64,
    /// All.
    pub of: u64,
    /// The names of those that have it out, at most [`NAMED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out_on: Vec<String>,
}

/// One deployment of one backend. On the page of an operator the times are the longest of all proxies, and
/// `retry_in_ms` the shortest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentState {
    /// `namespace/name` of the AIBackend.
    pub backend: String,
    /// The deployment.
    pub deployment: String,
    /// `In`, `Returning` (a part of its share) or `Out`; for an operator `Out` if most proxies have it out.
    /// `-` if no gateway was asked.
    pub state: String,
    /// Why it is out: a word of docs/balancing.md. Empty if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it said when it went out, if anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// For how long it is out already, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_ms: Option<u64>,
    /// How long until a request tries it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// Calls that are under way.
    pub in_flight: u32,
    /// Tries that failed since the last good answer.
    pub failures_in_a_row: u64,
    /// The time to the first byte of late, in milliseconds: an average that forgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// How much of it is used, in per cent: as its answers told within ten seconds, or with a declared capacity as its
    /// calls are reckoned; of all proxies that know it the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilisation_percent: Option<u32>,
    /// How much of its input its prompt cache had of late, in per cent; of all proxies that know it the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_percent: Option<u32>,
    /// How many proxies have it in; absent from the page of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Proxies>,
}
