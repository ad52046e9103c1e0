//! Lines of the channel, and the acknowledgement of a proxy.

use serde::{Deserialize, Serialize};

use super::error::DecodeError;
use super::objects::{Objects, verify};
use super::report::Carried;
use super::version::VERSION;

/// One line that an operator sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// A whole table.
    Snapshot(Snapshot),
    /// A change of a table.
    Delta(Delta),
    /// Nothing has changed; the operator is alive.
    Heartbeat(Heartbeat),
    /// The carryover: use by other replicas.
    Carried(Carried),
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always [`VERSION`].
    pub version: u32,
    /// The point in time of the objects it was compiled from; never moves back.
    pub revision: u64,
    /// Identifies the objects.
    pub digest: String,
    /// The number of live proxies, by which a quota without a shared store is divided.
    pub replicas: u64,
    /// The table.
    pub objects: Objects,
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The digest that it starts from.
    pub base: String,
    /// As in [`Snapshot`].
    pub revision: u64,
    /// The digest that it leads to.
    pub digest: String,
    /// As in [`Snapshot`].
    pub replicas: u64,
    /// Entries to put.
    #[serde(default)]
    pub changed: Objects,
    /// Keys to remove.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// A heartbeat: the operator is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Revision of the operator's newest table.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// As in [`Snapshot`].
    pub replicas: u64,
}

/// The acknowledgement of a table by a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The proxy.
    pub replica: String,
    /// Revision of the table.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// Whether it was applied.
    pub result: AckResult,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The result of a table at a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckResult {
    /// It is live.
    Applied,
    /// It could not be read; the table before stays live.
    Refused,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "type")]
    kind: String,
}

// === impl Line ===

impl Line {
    /// Reads one line. Its digest is not looked at: see [`Snapshot::verified`] and
    /// [`apply`](super::apply).
    ///
    /// # Errors
    /// It is not JSON of a known line, or of another version. [`DecodeError::Kind`] if it is a line
    /// of a kind to come.
    pub fn parse(line: &[u8]) -> Result<Self, DecodeError> {
        // In two passes: the tagged enums of serde copy their content, and raw JSON cannot be
        // copied.
        let wrong = |error: serde_json::Error| DecodeError::Line(error.to_string());
        let tag: Tag = serde_json::from_slice(line).map_err(wrong)?;
        match &*tag.kind {
            "snapshot" => {
                // The version first: another version may have other objects.
                let Version { version } = serde_json::from_slice(line).map_err(wrong)?;
                if version != VERSION {
                    return Err(DecodeError::Version(version));
                }
                Ok(Self::Snapshot(serde_json::from_slice(line).map_err(wrong)?))
            }
            "delta" => Ok(Self::Delta(serde_json::from_slice(line).map_err(wrong)?)),
            "heartbeat" => Ok(Self::Heartbeat(
                serde_json::from_slice(line).map_err(wrong)?,
            )),
            "carried" => Ok(Self::Carried(serde_json::from_slice(line).map_err(wrong)?)),
            _ => Err(DecodeError::Kind(tag.kind)),
        }
    }

    /// Writes the line with its newline.
    ///
    /// # Errors
    /// Never for a line made by this crate; the codec has an error type nevertheless.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| DecodeError::Line(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns the objects if they have the stated digest.
    ///
    /// # Errors
    /// [`DecodeError::Digest`] if they are not.
    pub fn verified(self) -> Result<Objects, DecodeError> {
        verify(&self.objects, &self.digest)?;
        Ok(self.objects)
    }
}
