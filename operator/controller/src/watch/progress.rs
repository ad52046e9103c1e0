//! How far a watch has come, to notice that the API server went back while it was away.
//!
//! After a restore of etcd an API server takes a watch from a version that it has not come to, and says nothing until
//! it has: what changes meanwhile would never be seen.

use std::time::Duration;

use kube::Api;
use kube::api::{DynamicObject, ListParams};
use tokio::time::{sleep, timeout};

use super::update::Update;

#[cfg(test)]
mod tests;

/// Pause between two questions.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait for an answer of a few hundred bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The newest version that a watch has reported.
#[derive(Debug, Default)]
pub(super) struct Progress {
    newest: u64,
    /// It has failed since the API server was asked for its version.
    is_doubtful: bool,
}

// === impl Progress ===

impl Progress {
    /// Takes a report of the watch.
    pub(super) fn take(&mut self, update: &Update) {
        let version = match update {
            Update::Listed { version, .. } => *version,
            Update::Applied(observed) | Update::Deleted(observed) | Update::Reread(observed) => {
                observed.stored.version
            }
            Update::Unreadable { .. }
            | Update::Unserved { .. }
            | Update::Gateways { .. }
            | Update::Epoch { .. }
            | Update::GrantsServed(_) => 0,
        };
        self.newest = self.newest.max(version);
    }

    /// The watch has failed: the next API server may be another, or the same with an older state.
    pub(super) const fn fail(&mut self) {
        self.is_doubtful = true;
    }

    /// Ends if the API server is behind this watch after a failure, and never otherwise.
    pub(super) async fn is_ahead(&mut self, api: &Api<DynamicObject>) {
        while self.is_doubtful && self.newest != 0 {
            let parameters = ListParams::default().limit(1);
            match timeout(PATIENCE, api.list(&parameters)).await {
                Ok(Ok(list)) => {
                    self.is_doubtful = false;
                    let version = list.metadata.resource_version;
                    let version: Option<u64> = version.and_then(|text| text.parse().ok());
                    if version.is_some_and(|version| version < self.newest) {
                        return;
                    }
                }
                // It may not be read, or is gone: the watch says so itself.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                    self.is_doubtful = false;
                }
                Ok(Err(_)) | Err(_) => sleep(RETRY).await,
            }
        }
        std::future::pending().await
    }
}
