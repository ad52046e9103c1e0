//! From the domain's [`Contents`] to [`Objects`] and back.

use std::sync::Arc;

use proxy_core::auth::Key;
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use proxy_core::table::{Backend, Contents, Quota, Route};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::DecodeError;
use super::feature::{Declared, Features, Needing, Unsupported, needs};
use super::objects::{Entry, Objects};
use super::{backend, object, quota, restricted};

/// A table that was read, with what this proxy cannot enforce of it.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The table. Its lists are sorted by name.
    pub contents: Contents,
    /// Sorted by entry.
    pub unsupported: Arc<[Unsupported]>,
}

/// Writes `contents`: the same contents give the same bytes.
#[must_use]
pub fn encode(contents: &Contents) -> Objects {
    let (before, previous) = (Contents::default(), Objects::default());
    encode_reusing(contents, Features::KNOWN, &before, &previous)
}

/// Like [`encode`], but takes the entries of `previous` for what has not changed since `before`,
/// whose encoding with the same features `previous` must be. Both lists must be sorted, as compile
/// leaves them; an entry that is not found is encoded again.
#[must_use]
pub fn encode_reusing(
    contents: &Contents,
    features: Features,
    before: &Contents,
    previous: &Objects,
) -> Objects {
    let mut writer = Writer {
        features,
        previous,
        objects: Objects::default(),
    };
    writer.all(&contents.backends, &before.backends);
    writer.all(&contents.routes, &before.routes);
    writer.all(&contents.quotas, &before.quotas);
    writer.all(&contents.keys, &before.keys);
    writer.objects
}

/// Reads a table. Its lists are sorted by name.
///
/// Backends whose credential was withheld ([`without_credentials`]) are left out: the table then
/// leaves out their targets, so requests for them are answered with `no_backend`, not sent without
/// a credential. What an entry that needs an unknown feature becomes: see [`decode_reusing`].
///
/// # Errors
/// The first object that is malformed. Nothing is taken of a table with such an object.
pub fn decode(objects: &Objects) -> Result<Contents, DecodeError> {
    let (previous, before) = (Objects::default(), Decoded::default());
    decode_reusing(objects, Features::KNOWN, &previous, &before).map(|decoded| decoded.contents)
}

/// Like [`decode`], for a proxy that knows `features`. Takes from `before`, which `previous` was
/// decoded to with the same features, what has not changed since: a delta of one route decodes one
/// route.
///
/// An entry that needs a feature which is missing from `features` is listed in
/// [`Decoded::unsupported`] and made stricter: a route refuses what it matches, a quota refuses what
/// it covers, a backend and a key are left out. A part of such an entry that cannot be read matches
/// everything.
///
/// # Errors
/// As [`decode`].
pub fn decode_reusing(
    objects: &Objects,
    features: Features,
    previous: &Objects,
    before: &Decoded,
) -> Result<Decoded, DecodeError> {
    let mut reader = Reader {
        features,
        previous,
        before,
        unsupported: Vec::new(),
    };
    let mut contents = Contents::default();
    for (key, entry) in objects.iter() {
        let Some(EntryName { kind, name }) = EntryName::parse(key) else {
            // A kind to come, or damage.
            if reader.lacks(key, entry)?.is_some() {
                continue;
            }
            return Err(DecodeError::Key(key.to_owned()));
        };
        let known = &before.contents;
        match kind {
            EntryKind::Backend => {
                let backend = reader.entry(key, entry, name, &known.backends)?;
                contents.backends.extend(backend);
            }
            EntryKind::Route => {
                let route = reader.entry(key, entry, name, &known.routes)?;
                contents.routes.extend(route);
            }
            EntryKind::Quota => {
                let quota = reader.entry(key, entry, name, &known.quotas)?;
                contents.quotas.extend(quota);
            }
            EntryKind::Key => {
                let found = reader.entry(key, entry, name, &known.keys)?;
                contents.keys.extend(found);
            }
        }
    }
    // Keys sort "a-b/x" before "a/x", names the other way round.
    sort(&mut contents.backends);
    sort(&mut contents.routes);
    sort(&mut contents.quotas);
    sort(&mut contents.keys);
    Ok(Decoded {
        contents,
        unsupported: reader.unsupported.into(),
    })
}

/// The same objects with every backend credential replaced by a marker. [`decode`] leaves out the
/// backends so marked. An entry that does not read as a backend is left out, since any part of it
/// may be a credential. Digests of consumers' keys stay: they open nothing.
#[must_use]
pub fn without_credentials(objects: &Objects) -> Objects {
    let kept = objects.iter().filter_map(|(key, entry)| {
        let is_backend = EntryName::parse(key).is_some_and(|name| name.kind == EntryKind::Backend);
        let entry = if is_backend {
            withheld(key, entry)?
        } else {
            entry.clone()
        };
        Some((key.to_owned(), entry))
    });
    kept.collect()
}

fn withheld(key: &str, entry: &Entry) -> Option<Entry> {
    let needs = needs(entry.json()).ok()?;
    let backend: backend::Backend = entry.read(key).ok()?;
    Entry::of(&Needing {
        object: backend.withheld(),
        needs: needs.iter().map(String::as_str).collect(),
    })
}

/// An object of the domain that has an entry of its own.
trait Piece: PartialEq + Sized {
    const KIND: EntryKind;
    type Wire: Serialize + DeserializeOwned;

    fn name(&self) -> &ObjectName;
    fn declared(&self) -> Declared<'_>;
    fn to_wire(&self) -> Self::Wire;
    /// `None` if it cannot be used.
    fn from_wire(wire: Self::Wire, name: ObjectName) -> Option<Self>;
    /// What is left of an entry that needs an unknown feature.
    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self>;
}

struct Writer<'a> {
    features: Features,
    previous: &'a Objects,
    objects: Objects,
}

struct Reader<'a> {
    features: Features,
    previous: &'a Objects,
    before: &'a Decoded,
    unsupported: Vec<Unsupported>,
}

fn sort<T: Piece>(list: &mut [Arc<T>]) {
    list.sort_by(|a, b| a.name().cmp(b.name()));
}

fn find<'l, T: Piece>(sorted: &'l [Arc<T>], name: &ObjectName) -> Option<&'l Arc<T>> {
    let index = sorted.binary_search_by(|one| one.name().cmp(name)).ok()?;
    sorted.get(index)
}

// === impl Writer ===

impl Writer<'_> {
    fn all<T: Piece>(&mut self, now: &[Arc<T>], before: &[Arc<T>]) {
        for object in now {
            let key = EntryName::new(T::KIND, object.name().clone()).to_string();
            let same = find(before, object.name())
                .is_some_and(|other| Arc::ptr_eq(other, object) || other == object);
            let known = same.then(|| self.previous.entry(&key)).flatten();
            let entry = known.cloned().or_else(|| {
                Entry::of(&Needing {
                    object: object.to_wire(),
                    needs: self.features.needed_by(object.declared()),
                })
            });
            if let Some(entry) = entry {
                self.objects.insert(key, entry);
            }
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn entry<T: Piece>(
        &mut self,
        key: &str,
        entry: &Entry,
        name: ObjectName,
        known: &[Arc<T>],
    ) -> Result<Option<Arc<T>>, DecodeError> {
        if let Some(same) = self.unchanged(key, entry, &name, known) {
            return Ok(Some(same));
        }
        let found = match self.lacks(key, entry)? {
            Some(reason) => T::restricted(name, &entry.read(key)?, &reason),
            None => T::from_wire(entry.read(key)?, name),
        };
        Ok(found.map(Arc::new))
    }

    fn unchanged<T: Piece>(
        &self,
        key: &str,
        entry: &Entry,
        name: &ObjectName,
        known: &[Arc<T>],
    ) -> Option<Arc<T>> {
        let listed = &self.before.unsupported;
        let listed = listed.binary_search_by(|one| one.entry.as_str().cmp(key));
        let same = listed.is_err() && self.previous.entry(key)?.is_clone_of(entry);
        same.then(|| find(known, name).cloned()).flatten()
    }

    /// Lists the entry if it needs a feature that is not known, and gives the reason to refuse it.
    fn lacks(&mut self, key: &str, entry: &Entry) -> Result<Option<String>, DecodeError> {
        let missing = self.features.missing(entry.json());
        let needs = missing.map_err(|error| DecodeError::Object {
            key: key.to_owned(),
            reason: error.to_string(),
        })?;
        if needs.is_empty() {
            return Ok(None);
        }
        let unsupported = Unsupported {
            entry: key.to_owned(),
            needs,
        };
        let reason = unsupported.reason();
        self.unsupported.push(unsupported);
        Ok(Some(reason))
    }
}

// === impl Piece ===

impl Piece for Backend {
    const KIND: EntryKind = EntryKind::Backend;
    type Wire = backend::Backend;

    fn name(&self) -> &ObjectName {
        &self.name
    }

    fn declared(&self) -> Declared<'_> {
        Declared::Backend(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(wire: Self::Wire, name: ObjectName) -> Option<Self> {
        wire.into_core(name)
    }

    fn restricted(_: ObjectName, _: &Value, _: &str) -> Option<Self> {
        None
    }
}

impl Piece for Route {
    const KIND: EntryKind = EntryKind::Route;
    type Wire = object::Route;

    fn name(&self) -> &ObjectName {
        &self.name
    }

    fn declared(&self) -> Declared<'_> {
        Declared::Route(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(wire: Self::Wire, name: ObjectName) -> Option<Self> {
        Some(wire.into_core(name))
    }

    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self> {
        Some(restricted::route(name, entry, reason))
    }
}

impl Piece for Quota {
    const KIND: EntryKind = EntryKind::Quota;
    type Wire = quota::Quota;

    fn name(&self) -> &ObjectName {
        &self.name
    }

    fn declared(&self) -> Declared<'_> {
        Declared::Quota(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(wire: Self::Wire, name: ObjectName) -> Option<Self> {
        Some(wire.into_core(name))
    }

    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self> {
        Some(restricted::quota(name, entry, reason))
    }
}

impl Piece for Key {
    const KIND: EntryKind = EntryKind::Key;
    type Wire = object::Key;

    fn name(&self) -> &ObjectName {
        &self.secret
    }

    fn declared(&self) -> Declared<'_> {
        Declared::Key(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(wire: Self::Wire, name: ObjectName) -> Option<Self> {
        Some(wire.into_core(name))
    }

    fn restricted(_: ObjectName, _: &Value, _: &str) -> Option<Self> {
        None
    }
}
