//! From the domain's [`Contents`] to [`Objects`] and back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proxy_core::auth::Key;
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use proxy_core::table::{Backend, Changes, Contents, List, Named, Quota, Route, Secrets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::DecodeError;
use super::feature::{Declared, Features, Needing, Unsupported, needs};
use super::object::SecretLists;
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
/// leaves them, and share what is equal ([`Contents::share`]); an entry that is not shared is encoded
/// again.
#[must_use]
pub fn encode_reusing(
    contents: &Contents,
    features: Features,
    before: &Contents,
    previous: &Objects,
) -> Objects {
    let mut writer = Writer {
        features,
        objects: previous.clone(),
    };
    writer.put(&contents.backends.changes(&before.backends));
    writer.put(&contents.routes.changes(&before.routes));
    writer.put(&contents.quotas.changes(&before.quotas));
    writer.put(&contents.keys.changes(&before.keys));
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
        unsupported: Vec::new(),
        edits: Edits::default(),
        lists: SecretLists::default(),
    };
    for (key, entry) in previous.changes(objects) {
        reader.change(key, entry)?;
    }
    let Reader {
        mut unsupported,
        edits,
        ..
    } = reader;
    let known = before.unsupported.iter();
    let known = known.filter(|one| previous.entry(&one.entry) == objects.entry(&one.entry));
    unsupported.extend(known.cloned());
    unsupported.sort_by(|a, b| a.entry.cmp(&b.entry));
    let is_same = *unsupported == *before.unsupported;
    let contents = &before.contents;
    let mut routes: Edited<Route> = edits.routes.into_iter().collect();
    share_secrets(&mut routes, &contents.routes);
    Ok(Decoded {
        contents: Contents {
            backends: contents
                .backends
                .edited(edits.backends.into_iter().collect()),
            routes: contents.routes.edited(routes),
            quotas: contents.quotas.edited(edits.quotas.into_iter().collect()),
            keys: contents.keys.edited(edits.keys.into_iter().collect()),
        },
        unsupported: if is_same {
            Arc::clone(&before.unsupported)
        } else {
            unsupported.into()
        },
    })
}

/// Lets routes that admit the keys of the same Secrets have one list of them: with those of their
/// namespaces in `before`, and among each other.
fn share_secrets(routes: &mut Edited<Route>, before: &List<Route>) {
    let mut namespace = None;
    let mut known: HashSet<Secrets> = HashSet::new();
    for (name, form) in routes {
        let Some(route) = form.as_mut().and_then(Arc::get_mut) else {
            continue;
        };
        if namespace != Some(name.namespace()) {
            namespace = Some(name.namespace());
            known = secrets_of(name.namespace(), before);
        }
        let keys = &mut route.authentication.keys;
        match known.get(keys) {
            Some(known) => *keys = known.clone(),
            None => {
                known.insert(keys.clone());
            }
        }
    }
}

/// The lists of the routes of a namespace.
fn secrets_of(namespace: &str, routes: &List<Route>) -> HashSet<Secrets> {
    let start = routes.partition_point(|route| route.name.namespace() < namespace);
    let own = routes.iter().skip(start);
    let own = own.take_while(|route| route.name.namespace() == namespace);
    let mut seen = HashSet::new();
    let lists = own.map(|route| &route.authentication.keys);
    let lists = lists.filter(|keys| seen.insert(keys.address()));
    lists.cloned().collect()
}

/// The same objects with every backend credential replaced by a marker. [`decode`] leaves out the
/// backends so marked. An entry that does not read as a backend is left out, since any part of it
/// may be a credential. Digests of consumers' keys stay: they open nothing.
#[must_use]
pub fn without_credentials(objects: &Objects) -> Objects {
    let none = Objects::default();
    without_credentials_reusing(objects, &none, &none)
}

/// Like [`without_credentials`]. Takes from `before`, which `previous` became by it, what has not changed since.
#[must_use]
pub fn without_credentials_reusing(
    objects: &Objects,
    previous: &Objects,
    before: &Objects,
) -> Objects {
    let mut kept = before.clone();
    for (key, entry) in previous.changes(objects) {
        let is_backend = EntryName::parse(key).is_some_and(|name| name.kind == EntryKind::Backend);
        let entry = if is_backend {
            entry.and_then(|entry| withheld(key, entry))
        } else {
            entry.cloned()
        };
        match entry {
            Some(entry) => kept.insert(key, entry),
            None => kept.remove(key),
        }
    }
    kept
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
trait Piece: Named + Sized {
    const KIND: EntryKind;
    type Wire: Serialize + DeserializeOwned;

    fn declared(&self) -> Declared<'_>;
    fn to_wire(&self) -> Self::Wire;
    /// `None` if it cannot be used.
    fn from_wire(
        wire: Self::Wire,
        name: ObjectName,
        lists: &mut SecretLists,
    ) -> Result<Option<Self>, serde_json::Error>;
    /// What is left of an entry that needs an unknown feature.
    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self>;
}

struct Writer {
    features: Features,
    objects: Objects,
}

/// What becomes of names: objects, and none where nothing is left.
type Edited<T> = BTreeMap<ObjectName, Option<Arc<T>>>;

/// As they come, each name once: to sort a whole table at the end is cheaper than to keep it sorted.
#[derive(Default)]
struct Edits {
    backends: Vec<Edit<Backend>>,
    routes: Vec<Edit<Route>>,
    quotas: Vec<Edit<Quota>>,
    keys: Vec<Edit<Key>>,
}

type Edit<T> = (ObjectName, Option<Arc<T>>);

struct Reader {
    features: Features,
    unsupported: Vec<Unsupported>,
    edits: Edits,
    lists: SecretLists,
}

// === impl Writer ===

impl Writer {
    fn put<T: Piece>(&mut self, changes: &Changes<'_, T>) {
        let key = |one: &T| EntryName::new(T::KIND, one.name().clone()).to_string();
        for object in &changes.gone {
            self.objects.remove(&key(object));
        }
        for object in &changes.fresh {
            let entry = Entry::of(&Needing {
                object: object.to_wire(),
                needs: self.features.needed_by(object.declared()),
            });
            if let Some(entry) = entry {
                self.objects.insert(&key(object).into(), entry);
            }
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Reads what has become of `key`.
    fn change(&mut self, key: &str, entry: Option<&Entry>) -> Result<(), DecodeError> {
        let Some(EntryName { kind, name }) = EntryName::parse(key) else {
            // A kind to come, or damage.
            return match entry {
                Some(entry) if self.lacks(key, entry)?.is_none() => {
                    Err(DecodeError::Key(key.to_owned()))
                }
                Some(_) | None => Ok(()),
            };
        };
        match kind {
            EntryKind::Backend => {
                let form = self.entry(key, entry, &name)?;
                self.edits.backends.push((name, form));
            }
            EntryKind::Route => {
                let form = self.entry(key, entry, &name)?;
                self.edits.routes.push((name, form));
            }
            EntryKind::Quota => {
                let form = self.entry(key, entry, &name)?;
                self.edits.quotas.push((name, form));
            }
            EntryKind::Key => {
                let form = self.entry(key, entry, &name)?;
                self.edits.keys.push((name, form));
            }
        }
        Ok(())
    }

    fn entry<T: Piece>(
        &mut self,
        key: &str,
        entry: Option<&Entry>,
        name: &ObjectName,
    ) -> Result<Option<Arc<T>>, DecodeError> {
        let Some(entry) = entry else {
            return Ok(None);
        };
        let found = match self.lacks(key, entry)? {
            Some(reason) => T::restricted(name.clone(), &entry.read(key)?, &reason),
            None => {
                let read = T::from_wire(entry.read(key)?, name.clone(), &mut self.lists);
                read.map_err(|error| DecodeError::Object {
                    key: key.to_owned(),
                    reason: error.to_string(),
                })?
            }
        };
        Ok(found.map(Arc::new))
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

    fn declared(&self) -> Declared<'_> {
        Declared::Backend(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(
        wire: Self::Wire,
        name: ObjectName,
        _: &mut SecretLists,
    ) -> Result<Option<Self>, serde_json::Error> {
        Ok(wire.into_core(name))
    }

    fn restricted(_: ObjectName, _: &Value, _: &str) -> Option<Self> {
        None
    }
}

impl Piece for Route {
    const KIND: EntryKind = EntryKind::Route;
    type Wire = object::Route;

    fn declared(&self) -> Declared<'_> {
        Declared::Route(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(
        wire: Self::Wire,
        name: ObjectName,
        lists: &mut SecretLists,
    ) -> Result<Option<Self>, serde_json::Error> {
        wire.into_core(name, lists).map(Some)
    }

    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self> {
        Some(restricted::route(name, entry, reason))
    }
}

impl Piece for Quota {
    const KIND: EntryKind = EntryKind::Quota;
    type Wire = quota::Quota;

    fn declared(&self) -> Declared<'_> {
        Declared::Quota(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(
        wire: Self::Wire,
        name: ObjectName,
        _: &mut SecretLists,
    ) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(wire.into_core(name)))
    }

    fn restricted(name: ObjectName, entry: &Value, reason: &str) -> Option<Self> {
        Some(restricted::quota(name, entry, reason))
    }
}

impl Piece for Key {
    const KIND: EntryKind = EntryKind::Key;
    type Wire = object::Key;

    fn declared(&self) -> Declared<'_> {
        Declared::Key(self)
    }

    fn to_wire(&self) -> Self::Wire {
        self.into()
    }

    fn from_wire(
        wire: Self::Wire,
        name: ObjectName,
        _: &mut SecretLists,
    ) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(wire.into_core(name)))
    }

    fn restricted(_: ObjectName, _: &Value, _: &str) -> Option<Self> {
        None
    }
}
