//! Checkpoints of calendar counters, which outlive the operators.

use std::sync::Arc;

use proxy_core::quota::{LimitName, SubjectKey};
use serde::{Deserialize, Serialize};

use super::error::DecodeError;
use super::fields::Text;
use super::version::VERSION;

#[cfg(test)]
mod tests;

/// Calendar counters of all replicas at one moment, without a shared store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every replica that has reported, whether or not it has counters here.
    pub replicas: Vec<CheckpointReplica>,
    /// The counters, the most important first: the last ones may be left out.
    pub counters: Vec<CheckpointCounter>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReplica {
    /// Its name.
    pub id: String,
    /// Its process.
    pub instance: String,
    /// Whether it had departed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// One subject of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointCounter {
    /// The limit.
    pub limit: LimitName,
    /// The counted subject.
    pub key: SubjectKey,
    /// The same as a text for readers.
    pub subject: Arc<str>,
    /// The start of the period.
    pub period_start_ms: i64,
    /// Use by replicas that are not listed.
    pub departed: u64,
    /// Use by listed replicas, by their index.
    pub used: Vec<(usize, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    replicas: Vec<CheckpointReplica>,
    counters: Vec<Counter>,
}

/// Short names: there are thousands, in an object that may have a megabyte.
#[derive(Serialize, Deserialize)]
struct Counter {
    l: Text<LimitName>,
    k: Text<SubjectKey>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    s: Arc<str>,
    p: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    d: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    u: Vec<(usize, u64)>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Writes it in at most `longest` bytes, and returns how many counters did not fit.
    ///
    /// # Errors
    /// Never for a checkpoint of this crate; the codec has an error type nevertheless.
    pub fn to_json(&self, longest: usize) -> Result<(String, usize), DecodeError> {
        let wrong = |error: serde_json::Error| DecodeError::Line(error.to_string());
        let mut written = Written {
            version: VERSION,
            replicas: self.replicas.clone(),
            counters: Vec::new(),
        };
        let mut length = serde_json::to_string(&written).map_err(wrong)?.len();
        for counter in &self.counters {
            let counter = Counter::from(counter);
            // Plus a comma.
            let more = serde_json::to_string(&counter).map_err(wrong)?.len() + 1;
            length = length.saturating_add(more);
            if length > longest {
                break;
            }
            written.counters.push(counter);
        }
        let left_out = self.counters.len().saturating_sub(written.counters.len());
        Ok((serde_json::to_string(&written).map_err(wrong)?, left_out))
    }

    /// Reads it.
    ///
    /// # Errors
    /// The text is no checkpoint, or one of another version.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let wrong = |error: serde_json::Error| DecodeError::Line(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let written: Written = serde_json::from_str(text).map_err(wrong)?;
        Ok(Self {
            replicas: written.replicas,
            counters: written.counters.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&CheckpointCounter> for Counter {
    fn from(counter: &CheckpointCounter) -> Self {
        Self {
            l: Text(counter.limit.clone()),
            k: Text(counter.key),
            s: Arc::clone(&counter.subject),
            p: counter.period_start_ms,
            d: counter.departed,
            u: counter.used.clone(),
        }
    }
}

impl From<Counter> for CheckpointCounter {
    fn from(counter: Counter) -> Self {
        Self {
            limit: counter.l.0,
            key: counter.k.0,
            subject: counter.s,
            period_start_ms: counter.p,
            departed: counter.d,
            used: counter.u,
        }
    }
}
