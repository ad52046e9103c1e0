//! Follows the GatewayClass of the installation, Gateways, the labels of namespaces and the proxies' Service, where
//! Gateway API is installed; waits for it where it is not.
//!
//! Everything is listed before the first report: a table that is compiled without a Gateway would take the routes
//! out that are attached to it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use operator_compile::gateway::{Gateway, GatewayClass, Gateways, ports};
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use proxy_core::names::ObjectName;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::GatewayConfig;
use crate::pace::Pace;
use crate::resource::gateway_resource;
use crate::served::{SERVED_CHECK, is_unserved, served_version};
use crate::watch::Update;

#[cfg(test)]
mod tests;

/// Names the version of Gateway API in its CustomResourceDefinitions.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// Gateways that are not served for this time are not installed. An API server that starts does not know its
/// CustomResourceDefinitions for a moment, and no route may lose its Gateway by that.
const ABSENT: Duration = Duration::from_secs(10);

/// Pause after a failed call.
const RETRY: Duration = Duration::from_secs(1);

/// What is stored of Gateway API, with the statuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredGateways {
    /// The class of the installation.
    pub(crate) class: Option<DynamicObject>,
    /// Every Gateway.
    pub(crate) gateways: BTreeMap<ObjectName, DynamicObject>,
    /// The proxies' Service.
    pub(crate) service: Option<Service>,
}

/// How long Gateways have not been served.
#[derive(Debug, Default)]
struct Absence {
    since: Option<Instant>,
    is_reported: bool,
}

/// Watches what Gateways are judged by.
pub(crate) struct GatewayWatch {
    pub(crate) client: Client,
    pub(crate) config: GatewayConfig,
    pub(crate) own_namespace: String,
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) stored: watch::Sender<Option<StoredGateways>>,
}

/// An event of one of the watches.
enum Seen {
    Class(Event<DynamicObject>),
    Gateway(Event<DynamicObject>),
    Namespace(Event<PartialObjectMeta<Namespace>>),
    Service(Box<Event<Service>>),
    Failed(watcher::Error),
}

/// What was seen since a listing began, and what it was before.
#[derive(Debug)]
struct Kept<T> {
    objects: BTreeMap<ObjectName, T>,
    listing: BTreeMap<ObjectName, T>,
    is_listed: bool,
}

/// Everything that is watched.
#[derive(Debug, Default)]
struct Cluster {
    classes: Kept<DynamicObject>,
    gateways: Kept<DynamicObject>,
    namespaces: Kept<BTreeMap<String, String>>,
    services: Kept<Service>,
    /// The newest version of a Gateway or its class.
    version: u64,
}

// === impl Absence ===

impl Absence {
    /// Whether it has lasted, and was not reported yet.
    fn is_news(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_news = !self.is_reported && now - since >= ABSENT;
        self.is_reported |= is_news;
        is_news
    }
}

// === impl GatewayWatch ===

impl GatewayWatch {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.follow() => {}
            () = shutdown.requested() => {}
        }
    }

    async fn follow(&self) {
        let mut absence = Absence::default();
        loop {
            match served_version(&self.client, "gateways", &["v1"]).await {
                Ok(Some(_version)) => {
                    let bundle = self.bundle_version().await;
                    info!(
                        bundle_version = bundle.as_deref().unwrap_or("unknown"),
                        class = self.config.class,
                        "Gateways are followed"
                    );
                    if !self.watch(bundle).await {
                        return;
                    }
                    absence = Absence::default();
                }
                Ok(None) => {
                    if absence.is_news(Instant::now()) {
                        info!("Gateways are not served: Gateway API is not installed");
                        if !self.report(None, None, 0).await {
                            return;
                        }
                    }
                }
                Err(error) => {
                    warn!(error = %chain(&error), "whether Gateways are served cannot be read");
                }
            }
            tokio::time::sleep(SERVED_CHECK).await;
        }
    }

    async fn report(
        &self,
        gateways: Option<Gateways>,
        stored: Option<StoredGateways>,
        version: u64,
    ) -> bool {
        self.stored.send_replace(stored);
        let update = Update::Gateways { gateways, version };
        self.updates.send(update).await.is_ok()
    }

    /// The version of the installed API, by its own annotation.
    async fn bundle_version(&self) -> Option<String> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        loop {
            let read = definitions.get_metadata("gatewayclasses.gateway.networking.k8s.io");
            match read.await {
                Ok(definition) => return definition.annotations().get(BUNDLE_VERSION).cloned(),
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                    warn!(%status, "the version of Gateway API cannot be read");
                    return None;
                }
                Err(error) => {
                    warn!(error = %chain(&error), "the version of Gateway API cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows every kind until Gateways are served no longer; false if no report is wanted.
    async fn watch(&self, bundle_version: Option<String>) -> bool {
        let mut seen = self.events();
        let mut cluster = Cluster::default();
        let mut pace = Pace::default();
        let mut before = None;
        while let Some(event) = seen.next().await {
            if let Seen::Failed(error) = event {
                if is_unserved(&error) {
                    return true;
                }
                warn!(error = %chain(&error), "a watch of Gateways failed and starts again");
                pace.wait(&error).await;
                continue;
            }
            cluster.take(event);
            if !cluster.is_listed() {
                continue;
            }
            let gateways = cluster.gateways(&self.config, bundle_version.clone());
            let stored = cluster.stored(self.config.service.is_some());
            if before.as_ref() == Some(&gateways) {
                self.stored.send_replace(Some(stored));
                continue;
            }
            before = Some(gateways.clone());
            if !self
                .report(Some(gateways), Some(stored), cluster.version)
                .await
            {
                return false;
            }
        }
        false
    }

    fn events(&self) -> impl Stream<Item = Seen> + Unpin + use<> {
        let client = || self.client.clone();
        let all = |kind, plural| -> Api<DynamicObject> {
            let resource: ApiResource = gateway_resource(kind, plural);
            Api::all_with(client(), &resource)
        };
        let config = watcher::Config::default;
        let named = |name: &str| config().fields(&format!("metadata.name={name}"));
        let classes = watcher(
            all("GatewayClass", "gatewayclasses"),
            named(&self.config.class),
        );
        let gateways = watcher(all("Gateway", "gateways"), config());
        let namespaces = watcher(Api::<PartialObjectMeta<Namespace>>::all(client()), config());
        let services: BoxStream<'static, Seen> = match &self.config.service {
            Some(name) => {
                let services: Api<Service> = Api::namespaced(client(), &self.own_namespace);
                seen(watcher(services, named(name)), |event| {
                    Seen::Service(Box::new(event))
                })
                .boxed()
            }
            None => stream::iter([Seen::Service(Box::new(Event::InitDone))])
                .chain(stream::pending())
                .boxed(),
        };
        stream::select_all([
            seen(classes, Seen::Class).boxed(),
            seen(gateways, Seen::Gateway).boxed(),
            seen(namespaces, Seen::Namespace).boxed(),
            services,
        ])
    }
}

fn seen<T>(
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
    of: impl Fn(Event<T>) -> Seen,
) -> impl Stream<Item = Seen> {
    events.map(move |event| match event {
        Ok(event) => of(event),
        Err(error) => Seen::Failed(error),
    })
}

// === impl Kept ===

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
            is_listed: false,
        }
    }
}

impl<T> Kept<T> {
    fn take<K: kube::Resource>(&mut self, event: Event<K>, read: impl Fn(K) -> T) {
        let name =
            |object: &K| ObjectName::new(object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.insert(name(&object), read(object));
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.is_listed = true;
            }
            Event::Apply(object) => {
                self.objects.insert(name(&object), read(object));
            }
            Event::Delete(object) => {
                self.objects.remove(&name(&object));
            }
        }
    }
}

// === impl Cluster ===

impl Cluster {
    fn take(&mut self, event: Seen) {
        match event {
            Seen::Class(event) => {
                self.version = self.version.max(version(&event));
                self.classes.take(event, |class| class);
            }
            Seen::Gateway(event) => {
                self.version = self.version.max(version(&event));
                self.gateways.take(event, |gateway| gateway);
            }
            Seen::Namespace(event) => self
                .namespaces
                .take(event, |namespace| namespace.labels().clone()),
            Seen::Service(event) => self.services.take(*event, |service| service),
            Seen::Failed(_) => {}
        }
    }

    const fn is_listed(&self) -> bool {
        self.classes.is_listed
            && self.gateways.is_listed
            && self.namespaces.is_listed
            && self.services.is_listed
    }

    /// What the compiler judges. Labels only where a listener selects by them: others change often.
    fn gateways(&self, config: &GatewayConfig, bundle_version: Option<String>) -> Gateways {
        let json = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let class = self.classes.objects.values().next();
        let read = self.gateways.objects.values();
        let gateways: BTreeMap<ObjectName, Gateway> = read
            .filter_map(|gateway| Gateway::from_json(&json(gateway)))
            .map(|gateway| (gateway.name.clone(), gateway))
            .collect();
        let selects = gateways.values().any(Gateway::selects_namespaces);
        let namespaces = self.namespaces.objects.iter().filter(|_| selects);
        Gateways {
            class_name: config.class.clone(),
            class: class.map(|class| GatewayClass::from_json(&json(class))),
            gateways,
            namespaces: namespaces
                .map(|(name, labels)| (name.name().to_owned(), labels.clone()))
                .collect(),
            from: config.namespaces.clone(),
            certificates: config.certificates.clone(),
            ports: self.services.objects.values().next().map(ports),
            bundle_version,
        }
    }

    fn stored(&self, has_service: bool) -> StoredGateways {
        let service = self.services.objects.values().next();
        StoredGateways {
            class: self.classes.objects.values().next().cloned(),
            gateways: self.gateways.objects.clone(),
            service: service.filter(|_| has_service).cloned(),
        }
    }
}

fn version(event: &Event<DynamicObject>) -> u64 {
    match event {
        Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => {
            let version = object.resource_version();
            version.and_then(|text| text.parse().ok()).unwrap_or(0)
        }
        Event::Init | Event::InitDone => 0,
    }
}
