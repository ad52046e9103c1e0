//! When each entry of a table last changed. The next publication shares what it does not change.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use proxy_core::names::EntryName;

#[cfg(test)]
mod tests;

/// A changed entry copies its shard: a hundred entries where a table has thirty thousand.
const SHARDS: u64 = 256;

type Shard = Arc<HashMap<EntryName, u64>>;

/// For every entry of a table the sequence of the publication that last changed it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedAt(Arc<Vec<Shard>>);

impl Default for ChangedAt {
    fn default() -> Self {
        Self(Arc::new((0..SHARDS).map(|_| Shard::default()).collect()))
    }
}

// === impl ChangedAt ===

impl ChangedAt {
    /// The sequence of the publication that last changed an entry; `None` if the table has no such entry.
    #[must_use]
    pub fn get(&self, entry: &EntryName) -> Option<u64> {
        let shard = self.0.get(place(entry))?;
        shard.get(entry).copied()
    }

    pub(crate) fn insert(&mut self, entry: EntryName, sequence: u64) {
        let place = place(&entry);
        if let Some(shard) = Arc::make_mut(&mut self.0).get_mut(place) {
            Arc::make_mut(shard).insert(entry, sequence);
        }
    }

    pub(crate) fn remove(&mut self, entry: &EntryName) {
        let place = place(entry);
        if let Some(shard) = Arc::make_mut(&mut self.0).get_mut(place) {
            Arc::make_mut(shard).remove(entry);
        }
    }
}

/// Who writes objects may know the hash: a full shard costs its copy and no more.
fn place(entry: &EntryName) -> usize {
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    usize::try_from(hasher.finish() % SHARDS).unwrap_or_default()
}

impl FromIterator<(EntryName, u64)> for ChangedAt {
    fn from_iter<I: IntoIterator<Item = (EntryName, u64)>>(all: I) -> Self {
        let mut changed_at = Self::default();
        for (entry, sequence) in all {
            changed_at.insert(entry, sequence);
        }
        changed_at
    }
}
