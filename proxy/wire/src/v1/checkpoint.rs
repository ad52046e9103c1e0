//! Calendar counters that survive a restart of every operator.

use std::sync::Arc;

use proxy_core::quota::{LimitName, SubjectKey};
use serde::{Deserialize, Serialize};

use super::error::DecodeError;
use super::fields::Text;
use super::line::VERSION;

#[cfg(test)]
mod tests;

/// Calendar counters of all replicas at one moment, without a shared store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every replica that has reported, whether or not it has counters here.
    pub replicas: Vec<CheckpointReplica>,
    /// The counters, the most important first: the end is cut if there is no room.
    pub counters: Vec<CheckpointCounter>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReplica {
    /// Its name.
    pub id: String,
    /// The process of that name.
    pub instance: String,
    /// It had disconnected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// One subject of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointCounter {
    /// The limit.
    pub limit: LimitName,
    /// The subject, as an identity.
    pub key: SubjectKey,
    /// The subject, readable.
    pub subject: Arc<str>,
    /// The start of the period.
    pub period_start_ms: i64,
    /// Usage of replicas that are not listed.
    pub departed: u64,
    /// Usage of listed replicas, by their index.
    pub used: Vec<(usize, u64)>,
    /// What all replicas together allow the subject, if an override of its quota says so.
    pub overridden: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    replicas: Vec<CheckpointReplica>,
    counters: Vec<Counter>,
}

/// Short names: an object holds at most a megabyte, and there are thousands of counters.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<u64>,
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
    /// Writes it in at most `longest` bytes. Also returns the number of counters that did not fit.
    ///
    /// # Errors
    /// Unreachable: no serializer of these types fails.
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
            // And a comma.
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

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// The text is not a checkpoint, or one of another version.
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
            o: counter.overridden,
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
            overridden: counter.o,
        }
    }
}
