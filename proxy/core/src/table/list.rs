//! Lists of entries that tables share: a copy costs one count, and the entries are copied when a copy
//! changes.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

use crate::names::ObjectName;

/// Entries of one kind.
#[derive(Debug)]
pub struct List<T>(Arc<Vec<Arc<T>>>);

/// An entry of a list, known by its name.
pub trait Named {
    /// Its name, of which a list has one.
    fn name(&self) -> &ObjectName;
}

// === impl List ===

impl<T> List<T> {
    /// Whether both are copies of one list that has not changed since. Compares no entry.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Named> List<T> {
    /// The entry `name` of a list that is sorted by name.
    #[must_use]
    pub fn find(&self, name: &ObjectName) -> Option<&Arc<T>> {
        let place = self.binary_search_by(|one| one.name().cmp(name)).ok()?;
        self.get(place)
    }

    /// The list with other entries of these names, or none: sorted by name, as this one must be.
    #[must_use]
    pub fn edited(&self, edits: BTreeMap<ObjectName, Option<Arc<T>>>) -> Self {
        if edits.is_empty() {
            return self.clone();
        }
        let mut rest = self.as_slice();
        let mut entries = Vec::with_capacity(rest.len().saturating_add(edits.len()));
        for (name, form) in edits {
            let (before, after) = rest.split_at(rest.partition_point(|one| *one.name() < name));
            entries.extend_from_slice(before);
            rest = match after.split_first() {
                Some((first, after)) if *first.name() == name => after,
                Some(_) | None => after,
            };
            entries.extend(form);
        }
        entries.extend_from_slice(rest);
        entries.into()
    }
}

impl<T: Named + PartialEq> List<T> {
    /// Replaces each entry by the equal one of `before`, and itself by `before` if all are the same. Both
    /// are sorted by name; what is not found is kept. Looks at no more than the addresses of entries that
    /// are shared already.
    pub(super) fn share(&mut self, before: &Self) {
        if self.is_copy_of(before) {
            return;
        }
        let mut known: Vec<(usize, Arc<T>)> = Vec::new();
        let mut next = 0usize;
        let mut same = 0usize;
        for (place, entry) in self.iter().enumerate() {
            let Some((at, found)) = before.near(next, entry) else {
                continue;
            };
            next = at.saturating_add(1);
            let is_shared = Arc::ptr_eq(found, entry);
            if is_shared || found == entry {
                same = same.saturating_add(1);
                if !is_shared {
                    known.push((place, Arc::clone(found)));
                }
            }
        }
        if same == self.len() && same == before.len() {
            *self = before.clone();
            return;
        }
        if known.is_empty() {
            return;
        }
        let entries = Arc::make_mut(&mut self.0);
        for (place, found) in known {
            if let Some(entry) = entries.get_mut(place) {
                *entry = found;
            }
        }
    }

    /// The entry with the name of `entry`, and where it stands: at `next` in most cases.
    fn near(&self, next: usize, entry: &Arc<T>) -> Option<(usize, &Arc<T>)> {
        let expected = self.get(next);
        if let Some(found) = expected
            && (Arc::ptr_eq(found, entry) || found.name() == entry.name())
        {
            return Some((next, found));
        }
        let place = self.binary_search_by(|one| one.name().cmp(entry.name()));
        place.ok().and_then(|at| Some((at, self.get(at)?)))
    }

    /// The entries that `before` does not have, and those of `before` that this does not have: a changed
    /// one is among both. Both are sorted by name, and share what is equal.
    #[must_use]
    pub fn changes<'a>(&'a self, before: &'a Self) -> Changes<'a, T> {
        let mut changes = Changes {
            fresh: Vec::new(),
            gone: Vec::new(),
        };
        if self.is_copy_of(before) {
            return changes;
        }
        let (mut now, mut then) = (self.iter().peekable(), before.iter().peekable());
        loop {
            let order = match (now.peek(), then.peek()) {
                (None, None) => return changes,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(new), Some(old)) if Arc::ptr_eq(new, old) => {
                    now.next();
                    then.next();
                    continue;
                }
                (Some(new), Some(old)) => new.name().cmp(old.name()),
            };
            if order.is_le() {
                changes.fresh.extend(now.next());
            }
            if order.is_ge() {
                changes.gone.extend(then.next());
            }
        }
    }
}

/// What differs between two lists.
#[derive(Debug)]
pub struct Changes<'a, T> {
    /// Entries of the newer one alone.
    pub fresh: Vec<&'a Arc<T>>,
    /// Entries of the older one alone.
    pub gone: Vec<&'a Arc<T>>,
}

impl<T> Changes<'_, T> {
    pub(super) const fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.gone.is_empty()
    }

    /// Every entry that came or went.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        let both = self.fresh.iter().chain(&self.gone);
        both.map(|one| &***one)
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Eq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_copy_of(other) || self.0 == other.0
    }
}

impl<T: Eq> Eq for List<T> {}

impl<T> Deref for List<T> {
    type Target = Vec<Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Copies the entries first if another copy of the list is in use.
impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<Vec<Arc<T>>> for List<T> {
    fn from(entries: Vec<Arc<T>>) -> Self {
        Self(Arc::new(entries))
    }
}

impl<T> FromIterator<Arc<T>> for List<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(entries: I) -> Self {
        Vec::from_iter(entries).into()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a Arc<T>;
    type IntoIter = slice::Iter<'a, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut List<T> {
    type Item = &'a mut Arc<T>;
    type IntoIter = slice::IterMut<'a, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
