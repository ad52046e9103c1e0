//! Which entries of Secrets the AIBackends refer to.
//!
//! The operator keeps no other entries, but for the keys of consumers. So a Secret is read again when the
//! references to it change: for an entry that was not kept, or to forget one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use operator_compile::{Object, ObjectRef};
use parking_lot::Mutex;
use proxy_core::names::ObjectName;

use super::observed::Observed;

#[cfg(test)]
mod tests;

/// Names of entries of one Secret.
pub(crate) type Entries = BTreeSet<String>;

/// The entries of Secrets that one AIBackend refers to.
type References = BTreeMap<ObjectName, Entries>;

/// The references of all AIBackends. Cheap to clone: every clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Referred(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_backend: BTreeMap<ObjectName, References>,
    /// The AIBackends that refer to a Secret.
    by_secret: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
}

/// Secrets to which the references have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// More of them is needed now, for what changed the references.
    pub(super) more: BTreeSet<ObjectName>,
    /// Less of them is needed.
    pub(super) less: BTreeSet<ObjectName>,
}

// === impl Referred ===

impl Referred {
    /// The entries of a Secret to which AIBackends refer.
    pub(super) fn entries(&self, secret: &ObjectName) -> Entries {
        self.0.lock().entries(secret)
    }

    /// Takes in an AIBackend that is new or has changed.
    pub(super) fn put(&self, backend: &Observed) -> Changed {
        let mut known = self.0.lock();
        known.replace(&backend.object.name, references(&backend.content))
    }

    /// Forgets a deleted AIBackend.
    pub(super) fn remove(&self, backend: &ObjectRef) -> Changed {
        self.0.lock().replace(&backend.name, References::new())
    }

    /// Takes in all AIBackends of a namespace, or of all.
    pub(super) fn list(&self, scope: Option<&str>, backends: &[Observed]) -> Changed {
        let mut known = self.0.lock();
        let listed: BTreeSet<&ObjectName> = backends.iter().map(|one| &one.object.name).collect();
        let before = known.by_backend.keys();
        let gone = before
            .filter(|name| scope.is_none_or(|scope| scope == name.namespace()))
            .filter(|name| !listed.contains(name));
        let gone: Vec<ObjectName> = gone.cloned().collect();
        let mut changed = Changed::default();
        for backend in backends {
            let references = references(&backend.content);
            changed.add(known.replace(&backend.object.name, references));
        }
        for name in gone {
            changed.add(known.replace(&name, References::new()));
        }
        changed
    }
}

// === impl Known ===

impl Known {
    fn entries(&self, secret: &ObjectName) -> Entries {
        let backends = self.by_secret.get(secret).into_iter().flatten();
        let references = backends.filter_map(|backend| self.by_backend.get(backend)?.get(secret));
        references.flatten().cloned().collect()
    }

    fn replace(&mut self, backend: &ObjectName, references: References) -> Changed {
        let before = self.by_backend.get(backend);
        if before.map_or(references.is_empty(), |before| *before == references) {
            return Changed::default();
        }
        let secrets = before.into_iter().flatten().chain(&references);
        let secrets: BTreeSet<ObjectName> = secrets.map(|(name, _)| name.clone()).collect();
        let before: Vec<Entries> = secrets.iter().map(|name| self.entries(name)).collect();
        for secret in &secrets {
            let backends = self.by_secret.entry(secret.clone()).or_default();
            if references.contains_key(secret) {
                backends.insert(backend.clone());
            } else {
                backends.remove(backend);
            }
            if backends.is_empty() {
                self.by_secret.remove(secret);
            }
        }
        if references.is_empty() {
            self.by_backend.remove(backend);
        } else {
            self.by_backend.insert(backend.clone(), references);
        }
        let mut changed = Changed::default();
        for (secret, before) in secrets.into_iter().zip(before) {
            let now = self.entries(&secret);
            if !now.is_subset(&before) {
                changed.more.insert(secret);
            } else if now != before {
                changed.less.insert(secret);
            }
        }
        changed
    }
}

// === impl Changed ===

impl Changed {
    fn add(&mut self, other: Self) {
        self.more.extend(other.more);
        self.less.extend(other.less);
    }
}

/// What an AIBackend refers to; nothing, if it cannot be read.
fn references(object: &Object) -> References {
    let mut references = References::new();
    match object {
        Object::Backend(backend) => {
            let namespace = backend.metadata.namespace.as_deref().unwrap_or_default();
            for (secret, entry) in backend.spec.secret_entries() {
                let name = ObjectName::new(namespace, secret);
                let entries: &mut Entries = references.entry(name).or_default();
                entries.insert(entry.to_owned());
            }
        }
        Object::Route(_)
        | Object::Quota(_)
        | Object::Secret(_)
        | Object::Grant(_)
        | Object::Undecodable { .. } => {}
    }
    references
}
