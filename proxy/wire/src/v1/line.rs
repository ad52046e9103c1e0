//! Lines of the channel, and the acknowledgement that travels the other way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::error::DecodeError;
use super::feature::Unsupported;
use super::objects::{Entry, Objects, verify};
use super::report::Carried;

/// The number that a snapshot of this module carries.
pub const VERSION: u32 = 1;

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
    /// Usage of departed replicas.
    Carried(Carried),
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always [`VERSION`].
    pub version: u32,
    /// The resource version that it was compiled from, with an epoch above it; never moves back.
    pub revision: u64,
    /// The digest of `objects`.
    pub digest: String,
    /// Live proxy replicas; a quota without a shared store is divided by it.
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
    /// By key how entries of the base become those that they are now. Only for followers that say that they
    /// know it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edited: BTreeMap<String, Edit>,
    /// Keys to remove.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Revision of the operator's newest table.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// As in [`Snapshot`].
    pub replicas: u64,
}

/// A proxy's answer to a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The replica that answers.
    pub replica: String,
    /// Revision of the table.
    pub revision: u64,
    /// Digest of the table.
    pub digest: String,
    /// Whether it was applied.
    pub result: AckResult,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Entries of an applied table that the proxy cannot enforce as declared, and made stricter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsupported: Vec<Unsupported>,
}

/// Whether a proxy applied a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckResult {
    /// It is live.
    Applied,
    /// It could not be read; the previous one stays live.
    Refused,
}

/// What a snapshot of this build begins with: its tag is known without a look at the whole line.
const SNAPSHOT: &[u8] = br#"{"type":"snapshot","version":1,"#;

/// What says how the line is read: another version may have other objects.
#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    version: Option<u32>,
}

/// Those of the `changed` entries of a delta that are shorter as edits of what they are in `base`, and the others.
#[must_use]
pub fn edited(base: &Objects, mut changed: Objects) -> (Objects, BTreeMap<String, Edit>) {
    let edit = |(key, entry): (&str, &Entry)| {
        let edit = Edit::between(base.entry(key)?.json(), entry.json())?;
        Some((key.to_owned(), edit))
    };
    let edits: BTreeMap<String, Edit> = changed.iter().filter_map(edit).collect();
    for key in edits.keys() {
        changed.remove(key);
    }
    (changed, edits)
}

/// Applies `delta` to `objects`, whose digest is `have`.
///
/// # Errors
/// The delta starts from another digest, or does not lead to the one it states.
pub fn apply(objects: &Objects, have: &str, delta: &Delta) -> Result<Objects, DecodeError> {
    if delta.base != have {
        return Err(DecodeError::Base {
            base: delta.base.clone(),
            have: have.to_owned(),
        });
    }
    let mut next = objects.clone();
    for key in &delta.removed {
        next.remove(key);
    }
    for (key, entry) in Objects::default().changes(&delta.changed) {
        if let Some(entry) = entry {
            next.insert(key, entry.clone());
        }
    }
    for (key, edit) in &delta.edited {
        let old = objects.entry(key);
        let entry = old.and_then(|old| Entry::parse(edit.of(old.json())?));
        let entry = entry.ok_or_else(|| DecodeError::Object {
            key: key.clone(),
            reason: "its edit is not for the entry that is there".to_owned(),
        })?;
        next.insert(&key.as_str().into(), entry);
    }
    verify(&next, &delta.digest)?;
    Ok(next)
}

// === impl Line ===

impl Line {
    /// Reads one line. Does not check its digest: see [`Snapshot::verified`] and [`apply`].
    ///
    /// # Errors
    /// It is not JSON of a known line, or of another version. [`DecodeError::Kind`] if this reader
    /// does not know the kind of line.
    pub fn parse(line: &[u8]) -> Result<Self, DecodeError> {
        // In two passes: serde's tagged enums copy what they hold, and raw JSON cannot be copied.
        let wrong = |error: serde_json::Error| DecodeError::Line(error.to_string());
        if line.starts_with(SNAPSHOT) {
            return Ok(Self::Snapshot(serde_json::from_slice(line).map_err(wrong)?));
        }
        let tag: Tag = serde_json::from_slice(line).map_err(wrong)?;
        match &*tag.kind {
            "snapshot" => match tag.version {
                Some(version) if version != VERSION => Err(DecodeError::Version(version)),
                Some(_) | None => Ok(Self::Snapshot(serde_json::from_slice(line).map_err(wrong)?)),
            },
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
    /// Unreachable: no serializer of these types fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| DecodeError::Line(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The objects, if they have the stated digest.
    ///
    /// # Errors
    /// [`DecodeError::Digest`] if they are not.
    pub fn verified(self) -> Result<Objects, DecodeError> {
        verify(&self.objects, &self.digest)?;
        Ok(self.objects)
    }
}
