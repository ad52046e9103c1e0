//! The publisher's part in snapshots that outlive every operator: the newest table, in parts that an
//! object of the API server can hold.

use std::sync::Arc;

use proxy_admin::clock;
use proxy_wire::v1::{self, PartsError, Snapshot};
use tokio::sync::watch;

use super::Publisher;

/// What a stored snapshot would say: it is written again when this changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotVersion {
    /// The digest of the table.
    pub digest: Arc<str>,
    /// Live proxy replicas, by which limits are divided.
    pub replicas: u64,
}

// === impl Publisher ===

impl Publisher {
    /// The version of the newest table; `None` before the first.
    #[must_use]
    pub fn snapshot_version(&self) -> Option<SnapshotVersion> {
        let state = self.0.state.lock();
        let newest = state.kept.back()?;
        Some(SnapshotVersion {
            digest: Arc::clone(&newest.publication.digest),
            replicas: state.members.count(),
        })
    }

    /// The newest table in at most [`PARTS`](v1::PARTS) parts, none before the first. Compresses all of
    /// it: not for a task of a runtime.
    ///
    /// # Errors
    /// It does not fit.
    pub fn snapshot_parts(&self) -> Result<Vec<Vec<u8>>, PartsError> {
        let mut snapshot = {
            let state = self.0.state.lock();
            let Some(newest) = state.kept.back() else {
                return Ok(Vec::new());
            };
            Snapshot {
                version: v1::VERSION,
                revision: newest.revision,
                digest: String::new(),
                replicas: state.members.count(),
                // Its entries are shared.
                objects: (*newest.objects).clone(),
            }
        };
        // The first proxies verify it, too.
        snapshot.digest = v1::digest_in_a_row(&snapshot.objects);
        v1::split(snapshot, clock::now().unix_ms)
    }

    /// Changes with the table and the number of replicas, and with more.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
