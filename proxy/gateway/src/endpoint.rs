//! The live part of endpoints. It outlives tables: a new table gives an endpoint another place where it
//! must, and keeps the endpoint itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use proxy_admin::clock;
use proxy_admin::pages::backends::DeploymentState;
use proxy_admin::reminder::Reminder;
use proxy_api::Api;
use proxy_core::balance::{
    Call, Change, Demand, HealthSettings, Key, OutReason, Outcome, Standing, Turn, room,
};
use proxy_core::names::{Moment, ObjectName, Usage};
use proxy_core::table::{self, Backend, BackendAuth, EndpointName};
use proxy_core::tokens::{Family, context_window, max_output_tokens, takes_cache_key};
use proxy_identity::Identities;
use tracing::{debug, error, warn};

use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::peer::{Peer, PeerName};
use crate::quirks::Quirks;
use crate::upstream::Failed;

mod place;
#[cfg(test)]
mod tests;
mod vitals;
mod warmth;

pub(crate) use place::{Place, Rated};
use vitals::Vitals;
use warmth::Warmth;

/// A deployment of a backend, as this process knows it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// `namespace/name` of the backend.
    pub(crate) backend: Arc<str>,
    pub(crate) deployment: Arc<str>,
    /// What it is known by on all replicas, for requests that prefer an endpoint.
    pub(crate) identity: Key,
    /// Calls that are under way.
    load: Gauge,
    /// Tries that failed since the last good answer.
    failures: Gauge,
    /// Answers with status 200.
    answered: Counter,
    /// The time in which calls waited for the heads of their answers.
    waited: Counter<f64, AtomicU64>,
    /// When the last answer came, in microseconds since the Unix epoch.
    last_answer: AtomicI64,
    /// The number of its newest place.
    newest: AtomicU64,
    /// The number of the token that it has refused last.
    refused: AtomicU64,
    /// What it refuses of what the gateway adds to requests.
    pub(crate) quirks: Quirks,
    vitals: Vitals,
    warmth: Warmth,
    /// The same as a metric, once it is known.
    cached_share: OnceLock<Gauge<f64, AtomicU64>>,
    /// 1 while it is not out.
    is_in: Gauge,
    /// The log says that it is out.
    is_reported: AtomicBool,
    /// For the lines of an endpoint that throttles again and again.
    throttles: Reminder,
    /// Why it went out last, in the backend's own words if it said some.
    cause: Mutex<Arc<str>>,
}

/// A try that has ended.
pub(crate) struct Ended<'a> {
    /// The status that it came to, or its failure.
    pub(crate) result: Result<StatusCode, &'a Failed>,
    /// What it tells of the endpoint.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) demand: Demand,
    pub(crate) began: Instant,
    pub(crate) now: Instant,
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
            answered: metrics.tries(&backend, &name.deployment, "200"),
            waited: metrics.waited(&backend, &name.deployment),
            is_in: metrics.is_in(&backend, &name.deployment),
            deployment: Arc::clone(&name.deployment),
            identity: Key::new()
                .with(backend.as_bytes())
                .with(name.deployment.as_bytes()),
            backend,
            last_answer: AtomicI64::new(i64::MIN),
            newest: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            quirks: Quirks::default(),
            vitals: Vitals::default(),
            warmth: Warmth::default(),
            cached_share: OnceLock::new(),
            is_reported: AtomicBool::new(false),
            throttles: Reminder::default(),
            cause: Mutex::default(),
        }
    }

    /// Whether the next try is for it, at its place.
    pub(crate) fn turn(
        &self,
        demand: Demand,
        now: Moment,
        place: &Place,
        metrics: &Metrics,
    ) -> Turn {
        let silent = |change| self.report(change, metrics, None);
        let settings = &place.declared.backend.health;
        if self.vitals.ails() {
            self.sees_token(place, metrics);
        }
        self.vitals
            .turn(demand, now, settings, place.rate(), silent)
    }

    /// Whether it takes a try that is its turn. If it is out and a probe is due, this try is the probe.
    pub(crate) fn admits(&self, demand: Demand, now: Moment) -> bool {
        self.vitals.admits(demand, now)
    }

    /// It tells how many thousandths of it are free.
    pub(crate) fn tells_room(&self, free: i32, now: Moment, place: &Place) {
        self.vitals.tells_room(free, now, place.rate());
    }

    /// A call takes this much of a provisioned deployment, where `before` tokens were reckoned for it. Returns what is
    /// reckoned now.
    pub(crate) fn takes(&self, rated: Rated, before: u64, usage: Usage, now: Moment) -> u64 {
        let tokens = room::taken(usage, rated.output_weight);
        self.vitals
            .takes(before, tokens, rated.tokens_per_minute, now);
        tokens
    }

    /// Calls that are under way.
    pub(crate) fn load(&self) -> u32 {
        u32::try_from(self.load.get()).unwrap_or(0)
    }

    /// The time to the first byte of late, in microseconds; 0 before the first.
    pub(crate) fn first_byte_us(&self) -> u64 {
        self.vitals.first_byte_us()
    }

    /// Why it is out for such a request, and for how long until a call may try it.
    pub(crate) fn out(&self, demand: Demand, now: Moment) -> Option<(OutReason, Duration)> {
        self.vitals.out(demand, now)
    }

    /// Whether it is back, and its share still grows.
    pub(crate) fn is_returning(&self, demand: Demand, now: Moment) -> bool {
        self.vitals.is_returning(demand, now)
    }

    /// Why it went out last, in the backend's own words if it said some.
    pub(crate) fn cause(&self) -> Arc<str> {
        Arc::clone(&self.cause.lock())
    }

    /// As the page of backends shows it.
    pub(crate) fn state(&self, now: Moment, place: &Place, metrics: &Metrics) -> DeploymentState {
        let settings = &place.declared.backend.health;
        if let Some(change) = self.vitals.looks(now, settings) {
            self.report(change, metrics, None);
        }
        let sign = self.vitals.sign(place.rate(), now);
        let out = sign.out.map(|(reason, _)| reason);
        let state = match sign.standing {
            Standing::In => "In",
            Standing::Ramp(_) => "Returning",
            Standing::Due(_) | Standing::Out(..) => "Out",
        };
        DeploymentState {
            backend: self.backend.to_string(),
            deployment: self.deployment.to_string(),
            state: state.to_owned(),
            reason: out.map_or_else(String::new, |reason| reason.as_str().to_owned()),
            cause: out.map_or_else(String::new, |_| self.cause().to_string()),
            out_ms: sign.out.map(|(_, lasted)| millis(lasted)),
            retry_in_ms: match sign.standing {
                Standing::Out(_, left) => Some(millis(left)),
                Standing::Due(_) => Some(0),
                Standing::In | Standing::Ramp(_) => None,
            },
            in_flight: self.load(),
            failures_in_a_row: u64::try_from(self.failures.get()).unwrap_or(0),
            first_byte_ms: sign.first_byte.map(millis),
            utilisation_percent: sign.used.map(|used| used / 10),
            cached_input_percent: self.warmth.percent(),
            proxies: None,
        }
    }

    /// A byte of an answer has come.
    pub(crate) fn heard(&self) {
        self.vitals.heard();
    }

    /// Takes note of the input of an answer, as the backend reports it.
    pub(crate) fn read(&self, usage: Usage, metrics: &Metrics) {
        let Some(share) = self.warmth.read(usage) else {
            return;
        };
        let gauge = || metrics.cached_share(&self.backend, &self.deployment);
        self.cached_share.get_or_init(gauge).set(share);
    }

    /// Whether an answer of any request has come since.
    pub(crate) fn has_answered_since(&self, moment: Instant) -> bool {
        self.last_answer.load(Ordering::Relaxed) > clock::unix_micros(moment)
    }

    /// Takes note of a try.
    pub(crate) fn tried(&self, ended: &Ended<'_>, settings: &HealthSettings, metrics: &Metrics) {
        if let Ok(status) = ended.result {
            let waited = ended.now.saturating_duration_since(ended.began);
            self.waited.inc_by(waited.as_secs_f64());
            self.vitals.answered_after(waited);
            let now = clock::unix_micros(ended.now);
            self.last_answer.store(now, Ordering::Relaxed);
            if status == StatusCode::OK {
                self.answered.inc();
            }
        }
        self.tells(ended, settings, metrics);
    }

    /// Takes note of what a call tells, at its head or at its end.
    pub(crate) fn tells(&self, ended: &Ended<'_>, settings: &HealthSettings, metrics: &Metrics) {
        let Some(outcome) = ended.outcome else { return };
        match outcome {
            Outcome::Begun => {}
            Outcome::Answered => {
                if self.failures.get() != 0 {
                    self.failures.set(0);
                }
            }
            Outcome::Throttled(_)
            | Outcome::Failed
            | Outcome::CredentialRefused
            | Outcome::NotThere
            | Outcome::OutOfReach => drop(self.failures.inc()),
        }
        if !self.vitals.listens_to(outcome) {
            return;
        }
        let call = Call {
            began: clock::moment(ended.began),
            ended: clock::moment(ended.now),
            demand: ended.demand,
        };
        let answered = self.answered.get();
        let change = self.vitals.record(outcome, call, answered, settings);
        if let Some(change) = change {
            self.report(change, metrics, Some(ended));
        }
    }

    /// Whether another good answer would change nothing.
    pub(crate) fn is_well(&self) -> bool {
        self.failures.get() == 0 && !self.vitals.listens_to(Outcome::Answered)
    }

    /// Counts and logs that it goes out or is back: one line each. One that throttles again and again is
    /// logged once a minute.
    fn report(&self, change: Change, metrics: &Metrics, ended: Option<&Ended<'_>>) {
        let (backend, deployment) = (&*self.backend, &*self.deployment);
        match change {
            Change::Out(reason, lasts) => {
                self.is_in.set(0);
                metrics.ejected(backend, deployment, reason.as_str());
                let failed = ended.and_then(|ended| ended.result.err());
                let status = ended.and_then(|ended| ended.result.ok());
                let status = status.map(|status| format!("status {}", status.as_u16()));
                let cause = failed.map(|one| one.cause.clone()).or(status);
                *self.cause.lock() = cause.unwrap_or_default().into();
                let is_due = || ended.is_none_or(|ended| self.throttles.is_due(ended.now));
                if reason == OutReason::Throttled && !is_due() {
                    return;
                }
                self.is_reported.store(true, Ordering::Relaxed);
                warn!(
                    backend,
                    deployment,
                    reason = reason.as_str(),
                    out_ms = millis(lasts),
                    status = ended
                        .and_then(|ended| ended.result.ok())
                        .map(|status| status.as_u16()),
                    code = failed.map(|failed| failed.how.code().as_str()),
                    cause = failed.map(|failed| &*failed.cause),
                    request_id = ended.and_then(|ended| ended.request_id.to_str().ok()),
                    "a deployment is left out"
                );
            }
            Change::Back(reason, lasted) => {
                self.is_in.set(1);
                if self.is_reported.swap(false, Ordering::Relaxed) {
                    warn!(
                        backend,
                        deployment,
                        reason = reason.as_str(),
                        out_ms = millis(lasted),
                        "a deployment is back"
                    );
                }
            }
        }
    }

    /// Whether no later table gives it another credential or address than this place.
    pub(crate) fn is_still_at(&self, place: &Place) -> bool {
        self.newest.load(Ordering::Relaxed) == place.number
    }

    /// It refuses the credential that it is shown.
    pub(crate) fn refuses(&self, place: &Place) {
        self.refused.store(place.token(), Ordering::Relaxed);
    }

    /// If it is out for a token, and another has come since, it is back.
    fn sees_token(&self, place: &Place, metrics: &Metrics) {
        let token = place.token();
        if self.refused.swap(token, Ordering::Relaxed) != token {
            self.renewed(metrics);
        }
    }

    /// It is called with another credential, or under another address.
    fn renewed(&self, metrics: &Metrics) {
        if let Some(change) = self.vitals.renewed(clock::now()) {
            self.report(change, metrics, None);
        }
    }

    /// Begins a call.
    pub(crate) fn call(self: &Arc<Self>, now: Moment, settings: &HealthSettings) -> Ongoing {
        self.load.inc();
        self.vitals.called(now, settings);
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
            // First: what a call at an earlier place comes to now tells nothing of this one.
            let number = endpoint.newest.fetch_add(1, Ordering::Relaxed) + 1;
            endpoint.renewed(metrics);
            let origin = self.origins.get(&name.backend);
            Arc::new(Place {
                number,
                declared: Arc::clone(declared),
                origin: origin.and_then(|(_, origin)| origin.clone()),
                window: context_window(&declared.deployment.model),
                longest: max_output_tokens(&declared.deployment.model),
                family: Family::of_model(&declared.deployment.model),
                takes_cache_key: takes_cache_key(&declared.deployment.model),
                rated: Rated::of(&declared.deployment),
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
