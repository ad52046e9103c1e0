//! A table as it travels: one piece of JSON per object, under a key.
//!
//! Entries are kept in shards, by a hash of their keys. Copies share the shards that did not change, so
//! that a copy, a difference and a digest cost what changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::error::DecodeError;

/// A change hashes one shard of this many, and their digests: about the same work at 25,000 entries. Part
/// of the digest's definition.
const SHARDS: usize = 256;

/// The value of the parameter `digest`, by which a follower says that it knows digests by shards.
pub const BY_SHARDS: &str = "shards";

/// Begins a digest by shards. One without it is of all entries in a row, as the first operators make it.
const PREFIX: &str = "s-";

/// The JSON of one object. Cheap to clone. `Debug` shows its length only: it may hold a credential.
#[derive(Clone)]
pub struct Entry(Arc<Piece>);

struct Piece {
    json: Box<RawValue>,
    sum: OnceLock<[u8; 32]>,
}

/// A table as it travels, by `backend/ns/name`, `route/ns/name`, `quota/ns/name`, `key/ns/secret`.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// [`SHARDS`] of them.
    shards: Vec<Arc<Shard>>,
}

/// The entries whose keys have one hash.
#[derive(Default)]
struct Shard {
    entries: BTreeMap<Arc<str>, Entry>,
    sum: OnceLock<[u8; 32]>,
}

/// Names the bytes of all keys and entries: `s-`, and in hex the SHA-256 over the SHA-256 of each
/// shard. That of a shard is over each key in order, its length before it, and the SHA-256 of its entry.
#[must_use]
pub fn digest(objects: &Objects) -> String {
    let mut hash = Sha256::new();
    for shard in &objects.shards {
        hash.update(shard.sum());
    }
    format!("{PREFIX}{}", hex::encode(hash.finalize()))
}

/// The name by which the first proxies and operators know the same bytes: SHA-256, in hex, over all keys
/// and entries, each with its length before it. Hashes all of them.
#[must_use]
pub fn digest_in_a_row(objects: &Objects) -> String {
    let mut hash = Sha256::new();
    for (key, entry) in objects.iter() {
        for part in [key, entry.json()] {
            hash.update(length(part));
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// A usize fits: no platform has more than 64 bits.
fn length(text: &str) -> [u8; 8] {
    u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// FNV-1a, folded: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn shard_of(key: &str) -> usize {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let [a, b, c, d] = key.bytes().fold(0x811c_9dc5, step).to_le_bytes();
    usize::from(a ^ b ^ c ^ d)
}

/// The difference from `old` to `new`: entries to put, and keys to remove.
#[must_use]
pub fn diff(old: &Objects, new: &Objects) -> (Objects, Vec<String>) {
    let mut changed = Objects::default();
    let mut removed = Vec::new();
    for (key, entry) in old.changes(new) {
        match entry {
            Some(entry) => changed.insert(key, entry.clone()),
            None => removed.push(key.to_string()),
        }
    }
    removed.sort_unstable();
    (changed, removed)
}

/// Checks that `objects` have the digest `stated`.
///
/// # Errors
/// [`DecodeError::Digest`] if they have another.
pub fn verify(objects: &Objects, stated: &str) -> Result<(), DecodeError> {
    let actual = if stated.starts_with(PREFIX) {
        digest(objects)
    } else {
        digest_in_a_row(objects)
    };
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
        self.0.json.get()
    }

    fn new(json: Box<RawValue>) -> Self {
        let sum = OnceLock::new();
        Self(Arc::new(Piece { json, sum }))
    }

    /// `None` is unreachable for the types of this module: they have no map with keys that are not
    /// text, and no serializer of theirs fails.
    pub(super) fn of(object: &impl Serialize) -> Option<Self> {
        serde_json::value::to_raw_value(object).ok().map(Self::new)
    }

    /// `None` if it is not JSON.
    pub(super) fn parse(json: String) -> Option<Self> {
        RawValue::from_string(json).ok().map(Self::new)
    }

    /// An error of serde quotes a value only where it expected another type or another word. A
    /// credential may be any text, so no error quotes one.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<T, DecodeError> {
        serde_json::from_str(self.json()).map_err(|error| DecodeError::Object {
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }

    fn sum(&self) -> &[u8; 32] {
        let json = self.json();
        self.0.sum.get_or_init(|| Sha256::digest(json).into())
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
        self.0.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

// === impl Shard ===

impl Shard {
    fn sum(&self) -> &[u8; 32] {
        self.sum.get_or_init(|| {
            let mut hash = Sha256::new();
            for (key, entry) in &self.entries {
                hash.update(length(key));
                hash.update(key.as_bytes());
                hash.update(entry.sum());
            }
            hash.finalize().into()
        })
    }

    /// What differs in `new`: entries, and keys that it lacks.
    fn changes<'a>(
        &'a self,
        new: &'a Self,
    ) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Entry>)> {
        let put = new.entries.iter();
        let put = put.filter(|(key, entry)| self.entries.get(*key) != Some(*entry));
        let gone = self.entries.keys();
        let gone = gone.filter(|key| !new.entries.contains_key(*key));
        put.map(|(key, entry)| (key, Some(entry)))
            .chain(gone.map(|key| (key, None)))
    }
}

/// Without the sum: copies are made to be changed.
impl Clone for Shard {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            sum: OnceLock::new(),
        }
    }
}

impl PartialEq for Shard {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Shard {}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

// === impl Objects ===

impl Objects {
    /// Every key with its entry, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let shards = self.shards.iter().flat_map(|shard| &shard.entries);
        let mut all: Vec<(&str, &Entry)> = shards.map(|(key, entry)| (&**key, entry)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter()
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.shards.get(shard_of(key))?.entries.get(key)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What differs in `new`: entries, and keys that it lacks. Looks into no shard that both share.
    pub(super) fn changes<'a>(
        &'a self,
        new: &'a Self,
    ) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Entry>)> {
        let both = self.shards.iter().zip(&new.shards);
        let differing = both.filter(|(old, new)| !Arc::ptr_eq(old, new));
        differing.flat_map(|(old, new)| old.changes(new))
    }

    pub(super) fn insert(&mut self, key: &Arc<str>, entry: Entry) {
        if let Some(entries) = self.changed(key) {
            entries.insert(Arc::clone(key), entry);
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if self.entry(key).is_some()
            && let Some(entries) = self.changed(key)
        {
            entries.remove(key);
        }
    }

    /// Where the entry of `key` is put.
    fn changed(&mut self, key: &str) -> Option<&mut BTreeMap<Arc<str>, Entry>> {
        let shard = Arc::make_mut(self.shards.get_mut(shard_of(key))?);
        shard.sum.take();
        Some(&mut shard.entries)
    }
}

impl Default for Objects {
    fn default() -> Self {
        let empty: Arc<Shard> = Arc::default();
        Self {
            shards: vec![empty; SHARDS],
        }
    }
}

impl FromIterator<(Arc<str>, Entry)> for Objects {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Entry)>>(entries: I) -> Self {
        let mut objects = Self::default();
        for (key, entry) in entries {
            objects.insert(&key, entry);
        }
        objects
    }
}

impl Serialize for Objects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Objects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

/// Puts entries where they stay: a table is large.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Objects;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Objects, A::Error> {
        let mut objects = Objects::default();
        while let Some((key, entry)) = map.next_entry::<Arc<str>, Entry>()? {
            objects.insert(&key, entry);
        }
        Ok(objects)
    }
}
