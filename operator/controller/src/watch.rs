//! Follows the API server: one watch per kind and namespace, as untyped objects, so that an
//! undecodable object affects no other.
//!
//! Words: a `scope` is one watched namespace or all of them; a `listing` is everything in a scope.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event, watcher};
use operator_compile::Kind;
use operator_compile::gateway::Gateways;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::Scope;
use crate::health::Health;
use crate::metrics::{KindLabel, Metrics};
use crate::pace::Pace;
use crate::resource::{GRANT_PLURAL, GRANT_VERSIONS, grant_resource, resource};
use crate::served::{SERVED_CHECK, ServedError, is_unserved, served_version};

mod observed;
#[cfg(test)]
mod tests;

pub(crate) use self::observed::Observed;

/// Leaves out Helm's releases, which change with every upgrade, and our own snapshots: Secrets of up to
/// a megabyte, of which no object is made.
const SECRETS: &str = "type!=helm.sh/release.v1,type!=tundish.dev/snapshot";

/// Pause after a failed request: the API server needs time, and a watch must be back within two
/// seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait for a small response.
const PATIENCE: Duration = Duration::from_secs(30);

/// A report of a watch.
#[derive(Debug)]
pub(crate) enum Update {
    /// Every object of a kind in a scope, including all changes up to `version`.
    Listed {
        kind: Kind,
        scope: Scope,
        objects: Vec<Observed>,
        version: u64,
    },
    /// An object is new or has changed.
    Applied(Box<Observed>),
    /// An object was deleted.
    Deleted(Box<Observed>),
    /// The API server forbids to read a kind in a namespace, or knows no such namespace.
    Unreadable {
        kind: Kind,
        namespace: String,
        why: String,
    },
    /// The API server no longer knows the kind: its CRD is gone.
    Unserved { kind: Kind, scope: Scope },
    /// The Gateways as they are now; `None` if the cluster serves none.
    Gateways {
        gateways: Option<Gateways>,
        /// The newest version of one.
        version: u64,
    },
    /// Whether the cluster serves ReferenceGrants; `true` at most once, before their listing.
    GrantsServed(bool),
}

/// Every watch. They end at `shutdown` or with the receiver.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
}

// === impl Watches ===

impl Watches {
    pub(crate) fn start(&self) {
        for kind in [Kind::AiBackend, Kind::AiRoute, Kind::AiQuota, Kind::Secret] {
            self.start_kind(kind, &resource(kind));
        }
        let watches = self.clone();
        proxy_admin::task::spawn("watch for ReferenceGrant", async move {
            let mut shutdown = watches.shutdown.clone();
            tokio::select! {
                () = watches.await_grants() => {}
                () = shutdown.requested() => {}
            }
        });
    }

    fn start_kind(&self, kind: Kind, resource: &ApiResource) {
        for scope in &self.scopes {
            let watches = self.clone();
            let api = match scope {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
                None => Api::all_with(self.client.clone(), resource),
            };
            let scope = scope.clone();
            proxy_admin::task::spawn("watch", async move {
                let mut shutdown = watches.shutdown.clone();
                tokio::select! {
                    () = watches.follow(kind, scope, api) => {}
                    () = shutdown.requested() => {}
                }
            });
        }
    }

    /// Waits until ReferenceGrants are served, then watches them.
    async fn await_grants(&self) {
        let mut reported = false;
        loop {
            match served_version(&self.client, GRANT_PLURAL, &GRANT_VERSIONS).await {
                Ok(Some(version)) => {
                    let resource = grant_resource(version);
                    info!(api_version = %resource.api_version, "ReferenceGrants are served");
                    if self.updates.send(Update::GrantsServed(true)).await.is_ok() {
                        self.start_kind(Kind::ReferenceGrant, &resource);
                    }
                    return;
                }
                Ok(None) => {
                    if !reported {
                        info!(
                            "ReferenceGrants are not served: references across namespaces are off"
                        );
                        reported = true;
                        if self
                            .updates
                            .send(Update::GrantsServed(false))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    tokio::time::sleep(SERVED_CHECK).await;
                }
                Err(error) => {
                    self.failed(Kind::ReferenceGrant, &WatchError::Served(error));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn follow(&self, kind: Kind, scope: Scope, api: Api<DynamicObject>) {
        // LIST, then WATCH: a streaming list does not fall back where the server lacks it.
        let mut config = watcher::Config::default();
        if kind == Kind::Secret {
            config = config.fields(SECRETS);
        }
        loop {
            let events = watcher(api.clone(), config.clone());
            match self.forward(kind, &scope, &api, events).await {
                // A kind that is served again has other objects: nothing of the old watch helps.
                Ended::Unserved => {}
                Ended::Unwanted => return,
            }
        }
    }

    async fn forward(
        &self,
        kind: Kind,
        scope: &Scope,
        api: &Api<DynamicObject>,
        events: impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>>,
    ) -> Ended {
        let mut events = std::pin::pin!(events);
        let mut pace = Pace::default();
        let mut objects = Vec::new();
        let mut version = 0;
        while let Some(event) = events.next().await {
            let update = match event {
                Ok(Event::Init) => {
                    objects.clear();
                    version = self.version_now(kind, scope.as_deref(), api).await;
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    objects.extend(Observed::read(kind, object));
                    continue;
                }
                Ok(Event::InitDone) => {
                    self.synced(kind, true);
                    debug!(%kind, count = objects.len(), version, "listed");
                    Some(Update::Listed {
                        kind,
                        scope: scope.clone(),
                        objects: std::mem::take(&mut objects),
                        version,
                    })
                }
                Ok(Event::Apply(object)) => {
                    self.synced(kind, true);
                    Observed::read(kind, object).map(|observed| Update::Applied(Box::new(observed)))
                }
                Ok(Event::Delete(object)) => {
                    self.synced(kind, true);
                    Observed::read(kind, object).map(|observed| Update::Deleted(Box::new(observed)))
                }
                Err(error) => {
                    pace.wait(&error).await;
                    let is_unserved = is_unserved(&error);
                    self.failed(kind, &WatchError::Watch(error));
                    if is_unserved {
                        let scope = scope.clone();
                        let sent = self.updates.send(Update::Unserved { kind, scope }).await;
                        return sent.map_or(Ended::Unwanted, |()| Ended::Unserved);
                    }
                    None
                }
            };
            if let Some(update) = update
                && self.updates.send(update).await.is_err()
            {
                return Ended::Unwanted;
            }
        }
        Ended::Unwanted
    }

    /// The version of the kind's collection. Read *before* the listing, which is then at least as
    /// new: a restarted operator that missed a deletion still knows a version after it.
    async fn version_now(&self, kind: Kind, scope: Option<&str>, api: &Api<DynamicObject>) -> u64 {
        loop {
            let parameters = ListParams::default().limit(1);
            let error = match answered(api.list(&parameters)).await {
                Ok(list) => {
                    let version = list.metadata.resource_version;
                    return version.and_then(|text| text.parse().ok()).unwrap_or(0);
                }
                Err(error) => error,
            };
            match scope.filter(|_| error.is_refusal()) {
                Some(namespace) => {
                    let unreadable = Update::Unreadable {
                        kind,
                        namespace: namespace.to_owned(),
                        why: chain(&error).to_string(),
                    };
                    if self.updates.send(unreadable).await.is_err() {
                        return 0;
                    }
                }
                None => self.failed(kind, &error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn synced(&self, kind: Kind, synced: bool) {
        let label = KindLabel {
            kind: kind.as_str(),
        };
        let gauge = self.metrics.watch_synced.get_or_create(&label);
        gauge.set(i64::from(synced));
        if synced && self.health.works(kind) {
            info!(%kind, "a watch works again");
        }
    }

    fn failed(&self, kind: Kind, error: &WatchError) {
        let label = KindLabel {
            kind: kind.as_str(),
        };
        self.metrics.watch_errors.get_or_create(&label).inc();
        self.synced(kind, false);
        if self.health.failed(kind) {
            warn!(%kind, error = %chain(error), "a watch failed and starts again");
        } else {
            debug!(%kind, error = %chain(error), "a watch fails");
        }
    }
}

/// Why a watch is followed no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The API server does not know the kind.
    Unserved,
    /// Its updates are not wanted.
    Unwanted,
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("call the API server")]
    Call(#[source] kube::Error),
    #[error("the API server did not answer in time")]
    Silent,
    #[error("find ReferenceGrants")]
    Served(#[source] ServedError),
    #[error("watch")]
    Watch(#[source] watcher::Error),
}

impl WatchError {
    /// The API server has judged the request: nothing of the network is at fault.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Call(kube::Error::Api(status)) if matches!(status.code, 403 | 404))
    }
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, WatchError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(WatchError::Call),
        Err(_elapsed) => Err(WatchError::Silent),
    }
}
