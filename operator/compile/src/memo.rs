//! Objects, and what was made of them, so that a change compiles again what it can change.

use std::collections::BTreeSet;
use std::fmt;

use crate::compile::{Compiled, Facts, Made};
use crate::index::Index;
use crate::object::{Kind, Object, ObjectRef};
use crate::settings::Settings;

#[cfg(test)]
mod tests;

/// Keeps objects and compiles them. Gives what [`compile`](crate::compile) gives of the same objects, and shares
/// with the last result what has not changed.
///
/// `Debug` shows counts only: Secrets hold credentials.
#[derive(Default)]
pub struct Memo {
    index: Index,
    /// Since the last compile.
    changed: BTreeSet<ObjectRef>,
    made: Made,
    /// What it was made for; `None` before the first compile.
    conditions: Option<Conditions>,
}

/// What everything depends on.
#[derive(PartialEq, Eq)]
struct Conditions {
    settings: Settings,
    is_shared: bool,
}

// === impl Memo ===

impl Memo {
    /// Adds `object`, or replaces the one of the same kind and name.
    pub fn apply(&mut self, object: Object) {
        self.changed.insert(object.object_ref());
        self.index.apply(object);
    }

    /// Removes an object, if it is there.
    pub fn delete(&mut self, object: &ObjectRef) {
        self.changed.insert(object.clone());
        self.index.delete(object);
    }

    /// Compiles what the changes since the last time can change. Other settings compile everything, and so does
    /// a second namespace with routes, and a grant where Gateways are followed.
    pub fn compile(&mut self, settings: &Settings) -> Compiled {
        let mut changed = std::mem::take(&mut self.changed);
        let facts = Facts::new(&self.index, settings);
        let is_known = self
            .conditions
            .as_ref()
            .is_some_and(|known| known.is_shared == facts.is_shared && known.settings == *settings);
        let is_granted = || changed.iter().any(|one| one.kind == Kind::ReferenceGrant);
        if is_known && !(settings.gateways.is_some() && is_granted()) {
            return self.made.update(&facts, &changed);
        }
        changed = self.index.objects().collect();
        self.made = Made::default();
        self.conditions = Some(Conditions {
            settings: settings.clone(),
            is_shared: facts.is_shared,
        });
        self.made.update(&facts, &changed)
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo")
            .field("index", &self.index)
            .field("changed", &self.changed.len())
            .finish_non_exhaustive()
    }
}
