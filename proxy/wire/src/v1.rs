//! Version 1 of the control channel.
//!
//! A table travels as [`Objects`]: one piece of JSON per backend, route, quota and key, so that a
//! change of one route is a delta of one piece. Lines ([`Line`]) are newline-delimited JSON. Words:
//! a `digest` names the bytes of all objects, a `revision` orders tables in time, a `base` is the
//! digest that a delta starts from. Counters travel the other way, as a [`Report`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proxy_core::auth::Key;
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use proxy_core::table::{Backend, Contents, Quota, Route};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

mod checkpoint;
mod fields;
mod line;
mod object;
mod quota;
mod report;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointCounter, CheckpointReplica};
pub use line::{Ack, AckResult, Delta, Heartbeat, Line, Snapshot};
pub use report::{Carried, CarriedEntry, Denials, Report};

/// The number that a snapshot of this module carries.
pub const VERSION: u32 = 1;

/// The JSON of one object. Cheap to clone. `Debug` shows its length only: it may hold a credential.
#[derive(Clone)]
pub struct Entry(Arc<RawValue>);

/// A table as it travels, by `backend/ns/name`, `route/ns/name`, `quota/ns/name`, `key/ns/secret`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objects(BTreeMap<String, Entry>);

/// Why objects are not a table.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The key of an entry is of no known form.
    #[error("object {0:?}: not kind/namespace/name of a known kind")]
    Key(String),
    /// The entry is not what its key promises.
    #[error("object {key:?}: {reason}")]
    Object {
        /// The entry's key.
        key: String,
        /// What is wrong with it; never quotes a credential.
        reason: String,
    },
    /// A line of the channel or a file is not what it should be.
    #[error("line: {0}")]
    Line(String),
    /// The line is of a kind that this reader does not know.
    #[error("line of the unknown kind {0:?}")]
    Kind(String),
    /// The snapshot has a version that this reader does not speak.
    #[error("snapshot of version {0}, which is not spoken here")]
    Version(u32),
    /// A delta starts from other objects than these.
    #[error("delta from {base}, but these are {have}")]
    Base {
        /// What the delta starts from.
        base: String,
        /// What is there.
        have: String,
    },
    /// The objects are not those that the digest names.
    #[error("digest {stated} was stated, but the objects have {actual}")]
    Digest {
        /// What was stated.
        stated: String,
        /// What the objects have.
        actual: String,
    },
}

/// Writes `contents`: the same contents give the same bytes.
#[must_use]
pub fn encode(contents: &Contents) -> Objects {
    encode_reusing(contents, &Contents::default(), &Objects::default())
}

/// Like [`encode`], but takes the entries of `previous` for what has not changed since `before`,
/// whose encoding `previous` must be. Both lists must be sorted, as compile leaves them; what is
/// not found is encoded anew.
#[must_use]
pub fn encode_reusing(contents: &Contents, before: &Contents, previous: &Objects) -> Objects {
    let mut writer = Writer {
        previous,
        objects: BTreeMap::new(),
    };
    writer.all::<_, object::Backend>(EntryKind::Backend, &contents.backends, &before.backends);
    writer.all::<_, object::Route>(EntryKind::Route, &contents.routes, &before.routes);
    writer.all::<_, quota::Quota>(EntryKind::Quota, &contents.quotas, &before.quotas);
    writer.all::<_, object::Key>(EntryKind::Key, &contents.keys, &before.keys);
    Objects(writer.objects)
}

/// Reads a table. Its lists are sorted by name.
///
/// Backends whose credential was withheld ([`without_credentials`]) are left out: the table then
/// leaves out their targets, so requests for them are answered with "no backend", not sent without
/// a credential.
///
/// # Errors
/// The first object that is not as it should be. Nothing is taken of a table with such an object.
pub fn decode(objects: &Objects) -> Result<Contents, DecodeError> {
    let (mut backends, mut routes) = (Vec::new(), Vec::new());
    let (mut quotas, mut keys) = (Vec::new(), Vec::new());
    for (key, entry) in &objects.0 {
        let EntryName { kind, name } = entry_name(key)?;
        match kind {
            EntryKind::Backend => {
                let backend: object::Backend = entry.read(key)?;
                backends.extend(backend.into_core(name));
            }
            EntryKind::Route => {
                let route: object::Route = entry.read(key)?;
                routes.push(route.into_core(name));
            }
            EntryKind::Quota => {
                let quota: quota::Quota = entry.read(key)?;
                quotas.push(quota.into_core(name));
            }
            EntryKind::Key => {
                let found: object::Key = entry.read(key)?;
                keys.push(found.into_core(name));
            }
        }
    }
    // Keys sort "a-b/x" before "a/x", names the other way round.
    backends.sort_by(|a: &Backend, b| a.name.cmp(&b.name));
    routes.sort_by(|a: &Route, b| a.name.cmp(&b.name));
    quotas.sort_by(|a: &Quota, b| a.name.cmp(&b.name));
    keys.sort_by(|a: &Key, b| a.secret.cmp(&b.secret));
    Ok(Contents::new(backends, routes, quotas, keys))
}

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

/// What turns `old` into `new`: entries to put, and keys to remove.
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
        next.0.remove(key);
    }
    let changed = delta.changed.0.iter();
    next.0
        .extend(changed.map(|(key, entry)| (key.clone(), entry.clone())));
    verify(&next, &delta.digest)?;
    Ok(next)
}

/// Checks that `objects` are what `stated` names.
///
/// # Errors
/// [`DecodeError::Digest`] if they are not.
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

/// The same objects with every backend credential replaced by a marker. [`decode`] leaves out the
/// backends so marked. An entry that does not read as a backend is left out, since nobody knows
/// what it holds. Digests of consumers' keys stay: they open nothing.
#[must_use]
pub fn without_credentials(objects: &Objects) -> Objects {
    let kept = objects.0.iter().filter_map(|(key, entry)| {
        let is_backend = EntryName::parse(key).is_some_and(|name| name.kind == EntryKind::Backend);
        let entry = if is_backend {
            Entry::of(&entry.read::<object::Backend>(key).ok()?.withheld())?
        } else {
            entry.clone()
        };
        Some((key.clone(), entry))
    });
    Objects(kept.collect())
}

fn entry_name(key: &str) -> Result<EntryName, DecodeError> {
    EntryName::parse(key).ok_or_else(|| DecodeError::Key(key.to_owned()))
}

/// An object of the domain that has an entry of its own.
trait Named: PartialEq {
    fn name(&self) -> &ObjectName;
}

struct Writer<'a> {
    previous: &'a Objects,
    objects: BTreeMap<String, Entry>,
}

impl Writer<'_> {
    fn all<'c, T: Named, W: From<&'c T> + Serialize>(
        &mut self,
        kind: EntryKind,
        now: &'c [Arc<T>],
        before: &[Arc<T>],
    ) {
        for object in now {
            let name = object.name();
            let key = EntryName::new(kind, name.clone()).to_string();
            let same = before
                .binary_search_by(|other| other.name().cmp(name))
                .ok()
                .and_then(|index| before.get(index))
                .is_some_and(|other| Arc::ptr_eq(other, object) || other == object);
            let known = same.then(|| self.previous.0.get(&key)).flatten();
            let entry = known.cloned().or_else(|| Entry::of(&W::from(&**object)));
            if let Some(entry) = entry {
                self.objects.insert(key, entry);
            }
        }
    }
}

// === impl Named ===

impl Named for Backend {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Route {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Quota {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Key {
    fn name(&self) -> &ObjectName {
        &self.secret
    }
}

// === impl Entry ===

impl Entry {
    /// The JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// `None` cannot happen for the types of this module: they have no map with keys that are not
    /// text, and nothing in them fails by itself.
    fn of(object: &impl Serialize) -> Option<Self> {
        let raw = serde_json::value::to_raw_value(object).ok()?;
        Some(Self(raw.into()))
    }

    /// An error of serde quotes a value only where another type or another word was expected;
    /// credentials are text where any text is good, so they are not quoted.
    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<T, DecodeError> {
        serde_json::from_str(self.json()).map_err(|error| DecodeError::Object {
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.json() == other.json()
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

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
