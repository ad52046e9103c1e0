//! Notices that the API server's versions went back, as after a restore of etcd: a proxy has a revision that the API
//! server has not come to. From then on tables are of a new [`epoch`], or every proxy would ignore them.

use kube::Client;
use kube::api::{Api, ListParams};
use operator_publish::epoch;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use std::time::Duration;
use tokio::sync::{mpsc, watch as channel};
use tracing::warn;

use crate::compiler::Compilation;
use crate::watch::Update;

#[cfg(test)]
mod tests;

/// Pause after a failed request.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait for an answer of a few hundred bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares the proxies' revisions with those of the API server.
pub(crate) struct EpochWatch {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The newest revision of a proxy.
    pub(crate) proxies: channel::Receiver<u64>,
    pub(crate) compilations: channel::Receiver<Option<Compilation>>,
    pub(crate) updates: mpsc::Sender<Update>,
}

// === impl EpochWatch ===

impl EpochWatch {
    pub(crate) async fn run(mut self, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.follow() => {}
            () = shutdown.requested() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let proxies = *self.proxies.borrow_and_update();
            let compiled = self
                .compilations
                .borrow_and_update()
                .as_ref()
                .map(|one| one.revision);
            if let Some(compiled) = compiled.filter(|compiled| *compiled < proxies)
                && !self.judge(proxies, compiled).await
            {
                return;
            }
            let ended = tokio::select! {
                changed = self.proxies.changed() => changed.is_err(),
                // The first table, or one that was late.
                changed = self.compilations.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    /// A proxy is ahead: of this operator only, or of the API server. False if the updates are not wanted.
    async fn judge(&self, proxies: u64, compiled: u64) -> bool {
        let now = self.version().await;
        let (own, _) = epoch::parts(compiled);
        let Some(epoch) = next(proxies, own, now) else {
            return true;
        };
        warn!(
            epoch,
            version = now,
            revision = proxies,
            "the API server's versions are behind those of the proxies, as after a restore of etcd; an epoch begins"
        );
        let update = Update::Epoch {
            epoch,
            version: now,
        };
        self.updates.send(update).await.is_ok()
    }

    /// The API server's newest version.
    async fn version(&self) -> u64 {
        let routes = Api::<crds::AiRoute>::namespaced(self.client.clone(), &self.namespace);
        loop {
            let parameters = ListParams::default().limit(1);
            match tokio::time::timeout(PATIENCE, routes.list(&parameters)).await {
                Ok(Ok(list)) => {
                    let version = list.metadata.resource_version;
                    if let Some(version) = version.and_then(|text| text.parse().ok()) {
                        return version;
                    }
                }
                Ok(Err(error)) => {
                    warn!(error = %chain(&error), "the version of the API server could not be read")
                }
                Err(_elapsed) => warn!("the API server did not say its version in time"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// The epoch that follows from the newest revision of a proxy, in the `own` epoch, at this version of the API server.
/// Every operator comes to the same.
fn next(proxies: u64, own: u16, now: u64) -> Option<u16> {
    let (epoch, version) = epoch::parts(proxies);
    let epoch = if version > now {
        epoch.checked_add(1)?
    } else {
        epoch
    };
    (epoch > own).then_some(epoch)
}
