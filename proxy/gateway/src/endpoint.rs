//! The live part of endpoints. It outlives tables: a new table gives an endpoint another place where it
//! must, and keeps the endpoint itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use foldhash::quality::RandomState;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use proxy_admin::clock;
use proxy_api::Api;
use proxy_core::names::{ObjectName, Usage};
use proxy_core::table::{self, Backend, BackendAuth, EndpointName};
use proxy_core::tokens::{Family, context_window, max_output_tokens};
use proxy_identity::Identities;
use tracing::{debug, error, warn};

use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::peer::{Peer, PeerName};
use crate::quirks::Quirks;
use crate::upstream::{Failed, Failure};

#[cfg(test)]
mod tests;

/// The tokens that no model reads or writes at once.
const UNKNOWN_CEILING: u64 = 1 << 24;

/// The failures in a row with which a deployment begins to fail, for the log: Envoy's `consecutive_5xx`. One
/// that throttles does what it should, so a 429 neither counts nor ends a row.
const FAILING: u32 = 5;

/// A deployment of a backend, as this process knows it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// `namespace/name` of the backend.
    pub(crate) backend: Arc<str>,
    pub(crate) deployment: Arc<str>,
    /// Calls that are under way.
    load: Gauge,
    /// Tries that failed since the last good answer.
    failures: Gauge,
    /// The same without 429.
    broken: AtomicU32,
    /// Answers with status 200.
    answered: Counter,
    /// The time in which calls waited for the heads of their answers.
    waited: Counter<f64, AtomicU64>,
    /// When the last answer came, in microseconds since the Unix epoch.
    last_answer: AtomicI64,
    /// What it refuses of what the gateway adds to requests.
    pub(crate) quirks: Quirks,
}

/// Where one table places an endpoint. A request keeps the place of the table that admitted it: its
/// caller was judged by that table, so it must not meet the credential of a later one.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) declared: Arc<table::Endpoint>,
    /// `None` for a backend whose address cannot be used.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The most that its model reads and writes at once, as far as that is known.
    pub(crate) window: Option<u64>,
    pub(crate) longest: Option<u64>,
    /// How its model splits text.
    pub(crate) family: Family,
}

/// An endpoint at its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) place: Arc<Place>,
}

/// A call to an endpoint, from the choice to the end of its answer.
#[derive(Debug)]
pub(crate) struct Ongoing(Arc<Endpoint>);

/// All endpoints of the process, found by name when a table is published.
#[derive(Debug)]
pub(crate) struct Endpoints(Mutex<Registry>);

/// A backend, and its address if that can be used.
type Prepared = (Arc<Backend>, Option<Arc<Origin>>);

/// The endpoints while a table is published.
#[derive(Debug)]
pub(crate) struct Registry {
    apis: &'static [Api],
    identities: Arc<Identities>,
    endpoints: HashMap<EndpointName, (Weak<Endpoint>, Weak<Place>), RandomState>,
    origins: HashMap<ObjectName, Prepared, RandomState>,
    peers: HashMap<PeerName, Weak<Peer>, RandomState>,
    /// Endpoints and places made since the start.
    changes: u64,
}

// === impl Endpoint ===

impl Endpoint {
    fn new(name: &EndpointName, metrics: &Metrics) -> Self {
        let backend: Arc<str> = name.backend.to_string().into();
        Self {
            load: metrics.load(&backend, &name.deployment),
            failures: metrics.failures(&backend, &name.deployment),
            broken: AtomicU32::new(0),
            answered: metrics.tries(&backend, &name.deployment, "200"),
            waited: metrics.waited(&backend, &name.deployment),
            deployment: Arc::clone(&name.deployment),
            backend,
            last_answer: AtomicI64::new(i64::MIN),
            quirks: Quirks::default(),
        }
    }

    /// Whether an answer of any request has come since.
    pub(crate) fn has_answered_since(&self, moment: Instant) -> bool {
        self.last_answer.load(Ordering::Relaxed) > clock::unix_micros(moment)
    }

    /// Takes note of a try that began at `began`: of the status that it came to, or of its failure.
    pub(crate) fn tried(
        &self,
        outcome: Result<StatusCode, &Failed>,
        request_id: &HeaderValue,
        began: Instant,
        now: Instant,
    ) {
        if let Ok(status) = outcome {
            let waited = now.saturating_duration_since(began);
            self.waited.inc_by(waited.as_secs_f64());
            let now = clock::unix_micros(now);
            self.last_answer.store(now, Ordering::Relaxed);
            if status == StatusCode::OK {
                self.answered.inc();
            }
            if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
                if self.failures.get() != 0 {
                    self.recovered();
                }
                return;
            }
        }
        self.failures.inc();
        if !matches!(outcome, Ok(StatusCode::TOO_MANY_REQUESTS)) {
            self.broke(outcome, request_id);
        }
    }

    /// Another failure of the row. The line comes once for each row.
    fn broke(&self, outcome: Result<StatusCode, &Failed>, request_id: &HeaderValue) {
        let before = self.broken.fetch_add(1, Ordering::Relaxed);
        let failed = outcome.err();
        // What is declared wrong does not heal, so its first failure says it.
        let is_wrong = failed.is_some_and(|failed| failed.how == Failure::OutOfReach);
        let failures = before.saturating_add(1);
        if failures != FAILING && !(is_wrong && failures == 1) {
            return;
        }
        warn!(
            backend = &*self.backend,
            deployment = &*self.deployment,
            failures,
            status = outcome.ok().map(|status| status.as_u16()),
            code = failed.map(|failed| failed.how.code().as_str()),
            cause = failed.map(|failed| &*failed.cause),
            request_id = request_id.to_str().ok(),
            "a deployment fails"
        );
    }

    /// The row has ended.
    fn recovered(&self) {
        self.failures.set(0);
        let failures = self.broken.swap(0, Ordering::Relaxed);
        if failures >= FAILING {
            warn!(
                backend = &*self.backend,
                deployment = &*self.deployment,
                failures,
                "a deployment is back"
            );
        }
    }

    /// Begins a call.
    pub(crate) fn call(self: &Arc<Self>) -> Ongoing {
        self.load.inc();
        Ongoing(Arc::clone(self))
    }
}

impl std::ops::Deref for Ongoing {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.load.dec();
    }
}

// === impl Place ===

impl Place {
    /// More than one answer can use: twice what the model is known for, since models grow under their names.
    pub(crate) fn ceiling(&self) -> Usage {
        let most =
            |known: Option<u64>| known.map_or(UNKNOWN_CEILING, |known| known.saturating_mul(2));
        Usage {
            input_tokens: most(self.window),
            output_tokens: most(self.longest),
            ..Usage::default()
        }
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// None yet, for the rows of `apis`.
    pub(crate) fn new(apis: &'static [Api], identities: Arc<Identities>) -> Self {
        Self(Mutex::new(Registry {
            apis,
            identities,
            endpoints: HashMap::default(),
            origins: HashMap::default(),
            peers: HashMap::default(),
            changes: 0,
        }))
    }

    /// Lets `build` take the endpoints of a table with these backends. Touches only those whose backend
    /// or deployment changed.
    pub(crate) fn publish<T>(
        &self,
        backends: &[Arc<Backend>],
        build: impl FnOnce(&mut Registry) -> T,
    ) -> T {
        let mut registry = self.0.lock();
        registry.renew_origins(backends);
        let built = build(&mut registry);
        registry
            .endpoints
            .retain(|_, (endpoint, _)| endpoint.strong_count() > 0);
        debug!(changes = registry.changes, "endpoints published");
        built
    }

    #[cfg(test)]
    fn changes(&self) -> u64 {
        self.0.lock().changes
    }
}

// === impl Registry ===

impl Registry {
    /// The endpoint of a declared one, at its place in this table.
    pub(crate) fn placed(&mut self, declared: &Arc<table::Endpoint>, metrics: &Metrics) -> Placed {
        let name = declared.name();
        let known = self.endpoints.get(&name);
        let (endpoint, place) = known.map_or((None, None), |(endpoint, place)| {
            (endpoint.upgrade(), place.upgrade())
        });
        let endpoint = endpoint.unwrap_or_else(|| {
            self.changes += 1;
            Arc::new(Endpoint::new(&name, metrics))
        });
        let place = place.filter(|place| Arc::ptr_eq(&place.declared, declared));
        let place = place.unwrap_or_else(|| {
            self.changes += 1;
            let origin = self.origins.get(&name.backend);
            Arc::new(Place {
                declared: Arc::clone(declared),
                origin: origin.and_then(|(_, origin)| origin.clone()),
                window: context_window(&declared.deployment.model),
                longest: max_output_tokens(&declared.deployment.model),
                family: Family::of_model(&declared.deployment.model),
            })
        });
        let known = (Arc::downgrade(&endpoint), Arc::downgrade(&place));
        self.endpoints.insert(name, known);
        Placed { endpoint, place }
    }

    fn renew_origins(&mut self, backends: &[Arc<Backend>]) {
        let mut origins = HashMap::default();
        for backend in backends {
            let entry = match self.origins.remove(&backend.name) {
                Some(known) if Arc::ptr_eq(&known.0, backend) => known,
                before => {
                    let before = before.and_then(|(_, origin)| origin);
                    if backend.skips_verification {
                        warn!(
                            backend = %backend.name,
                            "the certificate of the backend is not checked: tls.dangerInsecureSkipVerify"
                        );
                    }
                    (Arc::clone(backend), self.origin(backend, before.as_deref()))
                }
            };
            origins.insert(backend.name.clone(), entry);
        }
        self.origins = origins;
        self.peers.retain(|_, known| known.strong_count() > 0);
    }

    fn origin(&mut self, backend: &Backend, before: Option<&Origin>) -> Option<Arc<Origin>> {
        let identity = match &backend.auth {
            BackendAuth::Identity(identity) => {
                let before = before.and_then(Origin::identity);
                Some(self.identities.credential(identity, before))
            }
            BackendAuth::ApiKey(_) | BackendAuth::PassThrough | BackendAuth::None => None,
        };
        let peers = &mut self.peers;
        let peer = |name: PeerName| match peers.get(&name).and_then(Weak::upgrade) {
            Some(known) => known,
            None => {
                let made = Arc::new(Peer::new(name.clone()));
                peers.insert(name, Arc::downgrade(&made));
                made
            }
        };
        match Origin::of(backend, self.apis, identity.as_ref(), peer) {
            Ok(origin) => Some(Arc::new(origin)),
            Err(cause) => {
                error!(backend = %backend.name, %cause, "a backend cannot be used");
                None
            }
        }
    }
}
