//! A table as it travels: one piece of JSON per object, under a key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::DecodeError;

/// The JSON of one object. Cheap to clone. `Debug` shows its length only: it may hold a credential.
#[derive(Clone)]
pub struct Entry(Arc<RawValue>);

/// A table as it travels, by `backend/ns/name`, `route/ns/name`, `quota/ns/name`, `key/ns/secret`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objects(BTreeMap<String, Entry>);

/// SHA-256, in hex, over all keys and entries, each with its length before it.
#[must_use]
pub fn digest(objects: &Objects) -> String {
    let mut hash = Sha256::new();
    for (key, entry) in &objects.0 {
        for part in [key.as_str(), entry.json()] {
            // A usize fits: no platform has more than 64 bits.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// The difference from `old` to `new`: entries to put, and keys to remove.
#[must_use]
pub fn diff(old: &Objects, new: &Objects) -> (Objects, Vec<String>) {
    let changed = new
        .0
        .iter()
        .filter(|(key, entry)| old.0.get(*key) != Some(*entry))
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect();
    let gone = old.0.keys().filter(|key| !new.0.contains_key(*key));
    (Objects(changed), gone.cloned().collect())
}

/// Checks that `objects` have the digest `stated`.
///
/// # Errors
/// [`DecodeError::Digest`] if they have another.
pub fn verify(objects: &Objects, stated: &str) -> Result<(), DecodeError> {
    let actual = digest(objects);
    if actual == stated {
        return Ok(());
    }
    Err(DecodeError::Digest {
        stated: stated.to_owned(),
        actual,
    })
}

// === impl Entry ===

impl Entry {
    /// The JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// `None` is unreachable for the types of this module: they have no map with keys that are not
    /// text, and no serializer of theirs fails.
    pub(super) fn of(object: &impl Serialize) -> Option<Self> {
        let raw = serde_json::value::to_raw_value(object).ok()?;
        Some(Self(raw.into()))
    }

    /// An error of serde quotes a value only where it expected another type or another word. A
    /// credential may be any text, so no error quotes one.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<T, DecodeError> {
        serde_json::from_str(self.json()).map_err(|error| DecodeError::Object {
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Whether both are clones of one entry. Compares no text.
    pub(super) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.is_clone_of(other) || self.json() == other.json()
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.json().len())
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

// === impl Objects ===

impl Objects {
    /// Every key with its entry, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, key: String, entry: Entry) {
        self.0.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }
}

impl FromIterator<(String, Entry)> for Objects {
    fn from_iter<I: IntoIterator<Item = (String, Entry)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}
