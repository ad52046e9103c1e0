//! Namespaces whose kinds have not all been listed: nothing of them takes part, so that no route is in force
//! without its quotas. One that the API server refuses holds the others back in nothing.

use std::collections::{BTreeMap, BTreeSet};

use operator_compile::{Kind, ObjectRef};

use crate::config::Scope;
use crate::watch::Observed;

/// The scopes that are not complete yet.
#[derive(Debug)]
pub(crate) struct Pending(BTreeMap<Scope, Incomplete>);

/// What was seen so far of a scope.
#[derive(Debug)]
struct Incomplete {
    missing: BTreeSet<Kind>,
    kept: BTreeMap<ObjectRef, Observed>,
    /// The API server refuses to list a kind.
    refused: bool,
}

/// Everything in a scope, once it is complete.
pub(crate) type Complete = Vec<Observed>;

// === impl Pending ===

impl Pending {
    pub(crate) fn new(scopes: &[Scope], kinds: &[Kind]) -> Self {
        let incomplete = || Incomplete {
            missing: kinds.iter().copied().collect(),
            kept: BTreeMap::new(),
            refused: false,
        };
        let scopes = scopes.iter().cloned();
        Self(scopes.map(|scope| (scope, incomplete())).collect())
    }

    /// Whether the first table has to wait.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.values().any(|one| !one.refused)
    }

    /// Whether nothing of this scope takes part yet.
    pub(crate) fn contains(&self, scope: &Scope) -> bool {
        self.0.contains_key(scope)
    }

    /// The pending scope of an object.
    fn of(&mut self, object: &ObjectRef) -> Option<&mut Incomplete> {
        if self.0.contains_key(&None) {
            return self.0.get_mut(&None);
        }
        self.0.get_mut(&Some(object.name.namespace().to_owned()))
    }

    /// Takes a listing of a pending scope; everything in it, if it was the last.
    pub(crate) fn list(
        &mut self,
        kind: Kind,
        scope: &Scope,
        objects: Vec<Observed>,
    ) -> Option<Complete> {
        let one = self.0.get_mut(scope)?;
        one.missing.remove(&kind);
        one.kept.retain(|object, _| object.kind != kind);
        let objects = objects.into_iter();
        one.kept
            .extend(objects.map(|observed| (observed.object.clone(), observed)));
        self.completed(scope)
    }

    /// Keeps a change of a pending scope; gives back one of another.
    pub(crate) fn put(&mut self, observed: Box<Observed>) -> Option<Box<Observed>> {
        let Some(one) = self.of(&observed.object) else {
            return Some(observed);
        };
        one.kept.insert(observed.object.clone(), *observed);
        None
    }

    /// Forgets an object of a pending scope; false if it is of another.
    pub(crate) fn remove(&mut self, object: &ObjectRef) -> bool {
        let Some(one) = self.of(object) else {
            return false;
        };
        one.kept.remove(object);
        true
    }

    /// Waits for a kind in no scope; what is complete by this.
    pub(crate) fn not_served(&mut self, kind: Kind) -> Complete {
        let scopes: Vec<Scope> = self.0.keys().cloned().collect();
        for one in self.0.values_mut() {
            one.missing.remove(&kind);
        }
        let complete = scopes.iter().filter_map(|scope| self.completed(scope));
        complete.flatten().collect()
    }

    /// Waits no longer for a namespace; false if it is known to be refused, or complete.
    pub(crate) fn refuse(&mut self, namespace: &str) -> bool {
        let one = self.0.get_mut(&Some(namespace.to_owned()));
        one.is_some_and(|one| !std::mem::replace(&mut one.refused, true))
    }

    fn completed(&mut self, scope: &Scope) -> Option<Complete> {
        let is_complete = self.0.get(scope)?.missing.is_empty();
        let one = is_complete.then(|| self.0.remove(scope)).flatten()?;
        Some(one.kept.into_values().collect())
    }
}
