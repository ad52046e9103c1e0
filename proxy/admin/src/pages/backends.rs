//! `/backends`: every deployment that a rule uses, and whether it takes its share.

use serde::{Deserialize, Serialize};

/// The deployments of one proxy at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendsPage {
    /// Every deployment that a rule uses, by backend and name.
    pub deployments: Vec<DeploymentState>,
}

/// One deployment of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentState {
    /// `namespace/name` of the AIBackend.
    pub backend: String,
    /// The deployment.
    pub deployment: String,
    /// `In`, `Returning` (a part of its share) or `Out`.
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
}
