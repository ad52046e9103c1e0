//! Version 1 of the control channel.
//!
//! A table is sent as [`Objects`]: one piece of JSON per backend, route, quota and key, so that a
//! change of one route is a delta of one piece. Lines ([`Line`]) are newline-delimited JSON. Words:
//! a `digest` identifies the bytes of all objects, a `revision` orders tables in time, a `base` is
//! the digest that a delta starts from. Counters are sent the other way, as a [`Report`].

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_core::auth::Key;
use proxy_core::names::{EntryKind, EntryName, ObjectName};
use proxy_core::table::{Backend, Contents, Quota, Route};
use serde::Serialize;

mod checkpoint;
mod error;
mod fields;
mod line;
mod object;
mod objects;
mod quota;
mod report;
#[cfg(test)]
mod tests;
mod version;

pub use checkpoint::{Checkpoint, CheckpointCounter, CheckpointReplica};
pub use error::DecodeError;
pub use line::{Ack, AckResult, Delta, Heartbeat, Line, Snapshot};
pub use objects::{Entry, Objects, diff, digest, verify};
pub use report::{Carried, CarriedEntry, Denials, Report};
pub use version::VERSION;

/// Writes `contents`: the same contents give the same bytes.
#[must_use]
pub fn encode(contents: &Contents) -> Objects {
    encode_reusing(contents, &Contents::default(), &Objects::default())
}

/// Like [`encode`], but reuses the entries of `previous`, the encoding of `before`, for objects
/// that have not changed. The lists must be sorted, as compile leaves them; an object that is not
/// found is encoded again.
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
/// Backends whose credential was withheld ([`without_credentials`]) are left out. The table then
/// leaves out their targets, so their requests are answered with "no backend" instead of being sent
/// without a credential.
///
/// # Errors
/// The first malformed object. No part of such a table is taken.
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
    // As texts "a-b/x" sorts before "a/x", as names after it.
    backends.sort_by(|a: &Backend, b| a.name.cmp(&b.name));
    routes.sort_by(|a: &Route, b| a.name.cmp(&b.name));
    quotas.sort_by(|a: &Quota, b| a.name.cmp(&b.name));
    keys.sort_by(|a: &Key, b| a.secret.cmp(&b.secret));
    Ok(Contents::new(backends, routes, quotas, keys))
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

/// The objects with every backend credential replaced by a marker. [`decode`] leaves out the marked
/// backends. A backend that cannot be read is left out, since it may hold a credential. Digests of
/// consumers' keys stay: nobody can authenticate with them.
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
