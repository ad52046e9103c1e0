//! What results were made of, so that a change makes again those that it can change, and no others.
//!
//! A result `reads` facts while it is made; it is then a reader of them. What changes is known by name, and
//! reaches the readers of that one, of its namespace, and of all.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use proxy_core::names::ObjectName;

#[cfg(test)]
mod tests;

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// A Secret.
    Secret,
    /// The ReferenceGrants of a namespace.
    Grant,
    /// An AIBackend, declared and compiled.
    Backend,
    /// Whether some deployment has no price.
    Unpriced,
    /// Whether an AIRoute exists.
    RouteName,
    /// An AIRoute, declared and compiled.
    Route,
    /// The rules of an AIRoute that send to deployments of different models.
    Mixed,
    /// A key that some route selects.
    Key,
}

/// How many of a subject a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Extent {
    All,
    Namespace(Arc<str>),
    One(ObjectName),
}

/// Something that a result may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fact(Subject, Extent);

/// Collects what one result reads.
#[derive(Debug, Default)]
pub(crate) struct Reads(RefCell<Read>);

#[derive(Debug, Default)]
struct Read {
    /// Few; what of these is read one by one is in it.
    whole: Vec<Subject>,
    parts: BTreeSet<Fact>,
}

/// What has changed.
#[derive(Debug, Default)]
pub(crate) struct Changes(HashSet<Fact>);

/// Who has read what.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    reads: HashMap<ObjectName, BTreeSet<Fact>>,
    readers: HashMap<Fact, HashSet<ObjectName>>,
}

// === impl Reads ===

impl Reads {
    /// One of the subject was looked for, found or not.
    pub(crate) fn one(&self, subject: Subject, name: &ObjectName) {
        self.part(subject, || Extent::One(name.clone()));
    }

    /// Those of a namespace were looked at.
    pub(crate) fn namespace(&self, subject: Subject, namespace: &str) {
        self.part(subject, || Extent::Namespace(namespace.into()));
    }

    /// All of the subject were looked at.
    pub(crate) fn all(&self, subject: Subject) {
        let mut read = self.0.borrow_mut();
        if !read.whole.contains(&subject) {
            read.whole.push(subject);
        }
    }

    fn part(&self, subject: Subject, extent: impl FnOnce() -> Extent) {
        let mut read = self.0.borrow_mut();
        if !read.whole.contains(&subject) {
            read.parts.insert(Fact(subject, extent()));
        }
    }

    /// What was read since the last time.
    fn take(&self) -> BTreeSet<Fact> {
        let Read { whole, mut parts } = self.0.take();
        parts.extend(whole.into_iter().map(|one| Fact(one, Extent::All)));
        parts
    }
}

// === impl Changes ===

impl Changes {
    /// One of the subject has come, gone or changed.
    pub(crate) fn add(&mut self, subject: Subject, name: &ObjectName) {
        let namespace = Extent::Namespace(name.namespace().into());
        self.0.insert(Fact(subject, Extent::One(name.clone())));
        self.0.insert(Fact(subject, namespace));
        self.add_all(subject);
    }

    /// A fact about the subject as a whole has changed.
    pub(crate) fn add_all(&mut self, subject: Subject) {
        self.0.insert(Fact(subject, Extent::All));
    }
}

// === impl Readers ===

impl Readers {
    /// Takes what `reader` has read, instead of what it read before.
    pub(crate) fn record(&mut self, reader: &ObjectName, reads: &Reads) {
        let now = reads.take();
        let before = self.reads.get(reader);
        if before.map_or(now.is_empty(), |before| *before == now) {
            return;
        }
        self.forget(reader);
        for fact in &now {
            let readers = self.readers.entry(fact.clone()).or_default();
            readers.insert(reader.clone());
        }
        self.reads.insert(reader.clone(), now);
    }

    /// The reader is gone.
    pub(crate) fn forget(&mut self, reader: &ObjectName) {
        for fact in self.reads.remove(reader).unwrap_or_default() {
            if let Some(readers) = self.readers.get_mut(&fact) {
                readers.remove(reader);
                if readers.is_empty() {
                    self.readers.remove(&fact);
                }
            }
        }
    }

    /// Everyone who has read something of `changes`.
    pub(crate) fn of(&self, changes: &Changes) -> BTreeSet<ObjectName> {
        let readers = changes.0.iter().filter_map(|fact| self.readers.get(fact));
        readers.flatten().cloned().collect()
    }
}
