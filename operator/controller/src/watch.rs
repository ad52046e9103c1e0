//! Follows the API server: one watch per kind and namespace, as untyped objects, so that an
//! undecodable object affects no other. Of a Secret only what is needed is kept.
//!
//! Words: a `scope` is one watched namespace or all of them; a `listing` is everything in a scope.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use operator_compile::Kind;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use proxy_core::names::ObjectName;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::Scope;
use crate::health::Health;
use crate::metrics::{KindLabel, Metrics};
use crate::pace::Pace;
use crate::resource::{GRANT_PLURAL, GRANT_VERSIONS, grant_resource, resource};
use crate::served::{Absence, SERVED_CHECK, ServedError, is_unserved, served_version};

mod link;
mod observed;
mod progress;
mod referred;
mod retained;
mod stream;
#[cfg(test)]
mod tests;
mod update;

use self::link::{Link, Request};
pub(crate) use self::observed::Observed;
use self::progress::Progress;
use self::referred::Referred;
use self::retained::retain;
use self::stream::is_unsupported;
pub(crate) use self::update::Update;

/// Leaves out Helm's releases, which change with every upgrade, and our own snapshots: Secrets of up to
/// a megabyte, of which no object is made.
const SECRETS: &str = "type!=helm.sh/release.v1,type!=tundish.dev/snapshot";

/// Secrets in a page, where the API server lists in pages only. A page is held in memory as a whole, and each may
/// have a megabyte. Those of consumers are small, and a page of them takes hardly more than a millisecond.
const PAGE: u32 = 16;

/// Pause after a failed request: the API server needs time, and a watch must be back within two
/// seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait for a small response.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let referred = Referred::default();
        for scope in &self.scopes {
            let (referring, secrets) = Link::pair();
            for (kind, link) in [
                (Kind::AiBackend, referring),
                (Kind::AiRoute, Link::None),
                (Kind::AiQuota, Link::None),
                (Kind::Secret, secrets),
            ] {
                self.start_kind((kind, scope), &resource(kind), (link, &referred));
            }
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

    fn start_kind(
        &self,
        (kind, scope): (Kind, &Scope),
        resource: &ApiResource,
        (link, referred): (Link, &Referred),
    ) {
        let api = match scope {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let watch = Watch {
            watches: self.clone(),
            kind,
            scope: scope.clone(),
            api,
            referred: referred.clone(),
        };
        proxy_admin::task::spawn("watch", async move {
            let mut shutdown = watch.watches.shutdown.clone();
            tokio::select! {
                () = watch.follow(link) => {}
                () = shutdown.requested() => {}
            }
        });
    }

    /// Waits until ReferenceGrants are served, then watches them.
    async fn await_grants(&self) {
        let mut absence = Absence::default();
        loop {
            match served_version(&self.client, GRANT_PLURAL, &GRANT_VERSIONS).await {
                Ok(Some(version)) => {
                    let resource = grant_resource(version);
                    info!(api_version = %resource.api_version, "ReferenceGrants are served");
                    if self.updates.send(Update::GrantsServed(true)).await.is_ok() {
                        for scope in &self.scopes {
                            let link = (Link::None, &Referred::default());
                            self.start_kind((Kind::ReferenceGrant, scope), &resource, link);
                        }
                    }
                    return;
                }
                Ok(None) => match absence.is_news(&self.client).await {
                    Ok(true) => {
                        info!(
                            "ReferenceGrants are not served: references across namespaces are off"
                        );
                        let sent = self.updates.send(Update::GrantsServed(false)).await;
                        if sent.is_err() {
                            return;
                        }
                        tokio::time::sleep(SERVED_CHECK).await;
                    }
                    Ok(false) => tokio::time::sleep(SERVED_CHECK).await,
                    Err(error) => {
                        self.failed(Kind::ReferenceGrant, &WatchError::Served(error));
                        tokio::time::sleep(RETRY).await;
                    }
                },
                Err(error) => {
                    self.failed(Kind::ReferenceGrant, &WatchError::Served(error));
                    tokio::time::sleep(RETRY).await;
                }
            }
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

/// The watch of one kind in one scope.
struct Watch {
    watches: Watches,
    kind: Kind,
    scope: Scope,
    api: Api<DynamicObject>,
    referred: Referred,
}

// === impl Watch ===

impl Watch {
    async fn follow(&self, mut link: Link) {
        link.begin().await;
        let is_of_secrets = self.kind == Kind::Secret;
        let mut streams = is_of_secrets;
        loop {
            let ended = if streams {
                let parameters = WatchParams::default().fields(SECRETS);
                let events = stream::events(self.api.clone(), parameters);
                self.forward(&mut link, events).await
            } else {
                let mut config = watcher::Config::default();
                if is_of_secrets {
                    config = config.fields(SECRETS).page_size(PAGE);
                }
                let events = watcher(self.api.clone(), config);
                self.forward(&mut link, events).await
            };
            match ended {
                Ended::Unsupported => streams = false,
                // A kind that is served again has other objects: nothing of the old watch helps. A listing has
                // what could not be read by itself.
                Ended::Unserved | Ended::Unread | Ended::Ahead => {}
                Ended::Unwanted => return,
            }
        }
    }

    async fn forward(
        &self,
        link: &mut Link,
        events: impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>>,
    ) -> Ended {
        let kind = self.kind;
        let mut events = std::pin::pin!(events);
        let (mut pace, mut progress) = (Pace::default(), Progress::default());
        let mut objects = Vec::new();
        let mut version = 0;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = progress.is_ahead(&self.api) => {
                    warn!(%kind, "the API server went back behind what was watched; it is listed again");
                    return Ended::Ahead;
                }
                request = link.requested() => {
                    match self.read_again(request, &mut objects).await {
                        Ok(()) => continue,
                        Err(ended) => return ended,
                    }
                }
            };
            let Some(event) = event else {
                return Ended::Unwanted;
            };
            let update = match event {
                Ok(Event::Init) => {
                    objects.clear();
                    version = self.version_now(link).await;
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    objects.extend(self.observed(object));
                    continue;
                }
                Ok(Event::InitDone) => {
                    debug!(%kind, count = objects.len(), version, "listed");
                    Some(Update::Listed {
                        kind,
                        scope: self.scope.clone(),
                        objects: std::mem::take(&mut objects),
                        version,
                    })
                }
                Ok(Event::Apply(object)) => {
                    self.observed(object).map(Box::new).map(Update::Applied)
                }
                Ok(Event::Delete(object)) => {
                    self.observed(object).map(Box::new).map(Update::Deleted)
                }
                Err(error) if is_unsupported(&error) => {
                    debug!(%kind, error = %chain(&error), "its listings have pages");
                    return Ended::Unsupported;
                }
                Err(error) => {
                    pace.wait(&error).await;
                    progress.fail();
                    let is_unserved = is_unserved(&error);
                    self.watches.failed(kind, &WatchError::Watch(error));
                    if is_unserved {
                        let scope = self.scope.clone();
                        let sent = self.send(Update::Unserved { kind, scope }, link).await;
                        return sent.map_or_else(|ended| ended, |()| Ended::Unserved);
                    }
                    continue;
                }
            };
            self.watches.synced(kind, true);
            let Some(update) = update else { continue };
            progress.take(&update);
            if let Err(ended) = self.send(update, link).await {
                return ended;
            }
        }
    }

    fn observed(&self, mut object: DynamicObject) -> Option<Observed> {
        if self.kind == Kind::Secret {
            let (namespace, name) = (object.namespace()?, object.name_any());
            let entries = self.referred.entries(&ObjectName::new(namespace, name));
            retain(&mut object, &entries);
        }
        Observed::read(self.kind, object)
    }

    async fn send(&self, update: Update, link: &mut Link) -> Result<(), Ended> {
        let changed = link.changes(&update, &self.referred);
        // An AIBackend must not lack its Secret for a moment.
        link.read_again(changed.more).await;
        let is_listing = matches!(update, Update::Listed { .. });
        let sent = self.watches.updates.send(update).await;
        if is_listing {
            link.listed().await;
        }
        link.read_again(changed.less).await;
        sent.map_err(|_closed| Ended::Unwanted)
    }

    /// Reads Secrets again, since other entries of them are needed. `listed` is what was listed so far.
    async fn read_again(&self, request: Request, listed: &mut [Observed]) -> Result<(), Ended> {
        let resource = resource(Kind::Secret);
        for name in &request.secrets {
            let client = self.watches.client.clone();
            let secrets =
                Api::<DynamicObject>::namespaced_with(client, name.namespace(), &resource);
            let secret = match answered(secrets.get_opt(name.name())).await {
                Ok(secret) => secret.and_then(|secret| self.observed(secret)),
                Err(error) => {
                    self.watches.failed(self.kind, &error);
                    return Err(Ended::Unread);
                }
            };
            let Some(secret) = secret else { continue };
            let update = Update::Reread(Box::new(secret.clone()));
            let sent = self.watches.updates.send(update).await;
            sent.map_err(|_closed| Ended::Unwanted)?;
            let place = listed.iter_mut().find(|one| one.object == secret.object);
            if let Some(place) = place {
                *place = secret;
            }
        }
        Ok(())
    }

    /// The version of the kind's collection. Read *before* the listing, which is then at least as
    /// new: a restarted operator that missed a deletion still knows a version after it.
    async fn version_now(&self, link: &mut Link) -> u64 {
        loop {
            tokio::select! {
                version = self.try_version() => {
                    if let Some(version) = version {
                        return version;
                    }
                }
                // What it asks for is in the listing.
                _request = link.requested() => {}
            }
        }
    }

    /// `None` after a failure, and a pause.
    async fn try_version(&self) -> Option<u64> {
        let parameters = ListParams::default().limit(1);
        let error = match answered(self.api.list(&parameters)).await {
            Ok(list) => {
                let version = list.metadata.resource_version;
                return Some(version.and_then(|text| text.parse().ok()).unwrap_or(0));
            }
            Err(error) => error,
        };
        match self.scope.as_ref().filter(|_| error.is_refusal()) {
            Some(namespace) => {
                let unreadable = Update::Unreadable {
                    kind: self.kind,
                    namespace: namespace.clone(),
                    why: chain(&error),
                };
                if self.watches.updates.send(unreadable).await.is_err() {
                    return Some(0);
                }
            }
            None => self.watches.failed(self.kind, &error),
        }
        tokio::time::sleep(RETRY).await;
        None
    }
}

/// Why a watch is followed no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The API server does not know the kind.
    Unserved,
    /// The API server cannot list in this way.
    Unsupported,
    /// A Secret could not be read again.
    Unread,
    /// The API server has an older state than what was watched.
    Ahead,
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
