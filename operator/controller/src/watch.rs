//! Follows the API server: one watch per kind and namespace, as untyped objects, so that one object
//! that cannot be decoded is judged alone and every other goes on.
//!
//! Words: a `scope` is one watched namespace or all of them; a `listing` is everything in a scope.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use operator_compile::Kind;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::metrics::{KindLabel, Metrics};

pub(crate) use self::seen::Seen;

mod seen;
#[cfg(test)]
mod tests;

/// Helm keeps its releases in Secrets of up to a megabyte that change with every upgrade.
const SECRETS: &str = "type!=helm.sh/release.v1";

/// The group and the versions of ReferenceGrant that a Gateway API installation may serve.
const GRANT_GROUP: &str = "gateway.networking.k8s.io";
const GRANT_PLURAL: &str = "referencegrants";
const GRANT_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// How soon a Gateway API installation that comes after us is noticed.
const GRANT_CHECK: Duration = Duration::from_secs(60);

/// How long a question is left alone that the API server did not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Longest wait for a small answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which part of the cluster a watch sees: one namespace, or all.
pub(crate) type Scope = Option<String>;

/// What the watches report.
#[derive(Debug)]
pub(crate) enum Update {
    /// Everything there is of a kind in a scope. Nothing that happened up to `version` is missing.
    Listed {
        kind: Kind,
        scope: Scope,
        objects: Vec<Seen>,
        version: u64,
    },
    /// An object is new or has changed.
    Applied(Box<Seen>),
    /// An object is gone.
    Deleted(Box<Seen>),
    /// Whether ReferenceGrants exist in this cluster; `true` once at most, before their listing.
    GrantsServed(bool),
}

/// Starts every watch; they end with `shutdown` or with the receiver.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) metrics: Metrics,
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

    /// Asks until ReferenceGrants are served, then watches them.
    async fn await_grants(&self) {
        let mut told = false;
        loop {
            match self.grant_resource().await {
                Ok(Some(resource)) => {
                    info!(api_version = %resource.api_version, "ReferenceGrants are served");
                    if self.updates.send(Update::GrantsServed(true)).await.is_ok() {
                        self.start_kind(Kind::ReferenceGrant, &resource);
                    }
                    return;
                }
                Ok(None) => {
                    if !told {
                        info!("no ReferenceGrants here: references across namespaces are off");
                        told = true;
                        if self
                            .updates
                            .send(Update::GrantsServed(false))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    tokio::time::sleep(GRANT_CHECK).await;
                }
                Err(error) => {
                    self.failed(Kind::ReferenceGrant, &error);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn grant_resource(&self) -> Result<Option<ApiResource>, WatchError> {
        // The list of groups first: a group that is not served has no page to ask.
        let groups = answered(self.client.list_api_groups()).await?.groups;
        let Some(group) = groups.into_iter().find(|group| group.name == GRANT_GROUP) else {
            return Ok(None);
        };
        for version in GRANT_VERSIONS {
            let api_version = format!("{GRANT_GROUP}/{version}");
            let mut versions = group.versions.iter();
            if !versions.any(|served| served.group_version == api_version) {
                continue;
            }
            let asked = self.client.list_api_group_resources(&api_version);
            let resources = answered(asked).await?.resources;
            if resources.iter().any(|one| one.name == GRANT_PLURAL) {
                return Ok(Some(grant_resource(version)));
            }
        }
        Ok(None)
    }

    async fn follow(&self, kind: Kind, scope: Scope, api: Api<DynamicObject>) {
        // LIST, then WATCH: streaming lists do not fall back where a server lacks them.
        let mut config = watcher::Config::default();
        if kind == Kind::Secret {
            config = config.fields(SECRETS);
        }
        let events = watcher(api.clone(), config).default_backoff();
        self.forward(kind, scope, &api, events).await;
    }

    async fn forward(
        &self,
        kind: Kind,
        scope: Scope,
        api: &Api<DynamicObject>,
        events: impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>>,
    ) {
        let mut events = std::pin::pin!(events);
        let mut objects = Vec::new();
        let mut version = 0;
        while let Some(event) = events.next().await {
            let update = match event {
                Ok(Event::Init) => {
                    objects.clear();
                    version = self.version_now(kind, api).await;
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    objects.extend(Seen::read(kind, object));
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
                    Seen::read(kind, object).map(|seen| Update::Applied(Box::new(seen)))
                }
                Ok(Event::Delete(object)) => {
                    self.synced(kind, true);
                    Seen::read(kind, object).map(|seen| Update::Deleted(Box::new(seen)))
                }
                Err(error) => {
                    self.failed(kind, &WatchError::Watch(error));
                    None
                }
            };
            if let Some(update) = update
                && self.updates.send(update).await.is_err()
            {
                return;
            }
        }
    }

    /// The version of the kind's collection. Asked for *before* the listing, which is then at least
    /// as new: a restarted operator that missed a deletion still knows a version after it.
    async fn version_now(&self, kind: Kind, api: &Api<DynamicObject>) -> u64 {
        loop {
            let parameters = ListParams::default().limit(1);
            match answered(api.list(&parameters)).await {
                Ok(list) => {
                    let version = list.metadata.resource_version;
                    return version.and_then(|text| text.parse().ok()).unwrap_or(0);
                }
                Err(error) => self.failed(kind, &error),
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
    }

    fn failed(&self, kind: Kind, error: &WatchError) {
        let label = KindLabel {
            kind: kind.as_str(),
        };
        self.metrics.watch_errors.get_or_create(&label).inc();
        self.synced(kind, false);
        warn!(%kind, error = %crate::chain(error), "a watch failed and will be taken up again");
    }
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("ask the API server")]
    Ask(#[source] kube::Error),
    #[error("the API server does not answer")]
    Silent,
    #[error("watch")]
    Watch(#[source] watcher::Error),
}

/// Where the kind is found; its group and names come from the types.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::AiBackend => ApiResource::erase::<crds::AiBackend>(&()),
        Kind::AiRoute => ApiResource::erase::<crds::AiRoute>(&()),
        Kind::AiQuota => ApiResource::erase::<crds::AiQuota>(&()),
        Kind::Secret => ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
        Kind::ReferenceGrant => grant_resource("v1"),
    }
}

fn grant_resource(version: &str) -> ApiResource {
    ApiResource {
        group: GRANT_GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{GRANT_GROUP}/{version}"),
        kind: Kind::ReferenceGrant.as_str().to_owned(),
        plural: GRANT_PLURAL.to_owned(),
    }
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, WatchError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(WatchError::Ask),
        Err(_elapsed) => Err(WatchError::Silent),
    }
}
