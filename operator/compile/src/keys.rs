//! The keys that routes select, as quotas look at them.

use std::sync::Arc;

use proxy_core::auth::Key;
use proxy_core::table::List;

use crate::reads::{Reads, Subject};

/// Finds keys by namespace.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    /// Sorted by Secret.
    all: &'a List<Key>,
    reads: &'a Reads,
}

// === impl Keys ===

impl<'a> Keys<'a> {
    pub(crate) const fn new(all: &'a List<Key>, reads: &'a Reads) -> Self {
        Self { all, reads }
    }

    /// Every key, sorted by Secret.
    pub(crate) fn all(&self) -> &'a [Arc<Key>] {
        self.reads.all(Subject::Key);
        self.all
    }

    /// The keys of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> &'a [Arc<Key>] {
        self.reads.namespace(Subject::Key, namespace);
        of_namespace(self.all, namespace)
    }
}

/// Those of a namespace among `sorted` ones.
pub(crate) fn of_namespace<'a>(sorted: &'a [Arc<Key>], namespace: &str) -> &'a [Arc<Key>] {
    let start = sorted.partition_point(|key| key.secret.namespace() < namespace);
    let end = sorted.partition_point(|key| key.secret.namespace() <= namespace);
    sorted.get(start..end).unwrap_or_default()
}
