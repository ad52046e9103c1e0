//! The state of a gateway: what all cores share, and what each has for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::connection::Lingers;
use proxy_admin::memory::Room;
use proxy_admin::shutdown::{self, Shutdown, Trigger};
use proxy_core::table::Table;
use proxy_identity::Identities;
use proxy_identity::caller::Issuers;
use proxy_ledger::{Agent, Ledger};

use crate::access::Lines;
use crate::config::Config;
use crate::endpoint::Endpoints;
use crate::live::Live;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::overload::{Overload, Overloads};
use crate::proofs::Proofs;
use crate::scan::Scans;
use crate::sizes::Sizes;
use crate::upstream::Connections;

/// What all cores share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) memory: Arc<Memory>,
    pub(crate) overloads: Arc<Overloads>,
    pub(crate) ledger: Arc<Ledger>,
    /// The ledger's way to the store, until its task is started.
    pub(crate) agent: Mutex<Option<Agent>>,
    pub(crate) proofs: Proofs,
    pub(crate) scans: Scans,
    /// The turn of connections that are closed behind a refusal.
    pub(crate) lingers: Lingers,
    /// The gateway's own tokens.
    pub(crate) identities: Arc<Identities>,
    /// Those of callers' tokens.
    pub(crate) issuers: Arc<Issuers>,
    /// Responses in the background that were not followed to their end, since the process stops.
    pub(crate) given_up: AtomicUsize,
    sizes: Sizes,
    endpoints: Endpoints,
    live: ArcSwapOption<Live>,
    published: Mutex<Published>,
}

/// What the live table was made of.
struct Published {
    table: Option<Arc<Table>>,
    replicas: u64,
}

/// What one core has for itself.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
    /// What it refuses while it has more to do than it can.
    pub(crate) overload: Overload,
    /// Its part of the access log.
    pub(crate) log: Option<Lines>,
    /// Exchanges that have begun and not ended.
    pub(crate) exchanges: AtomicUsize,
    /// Open connections of clients.
    pub(crate) clients: AtomicUsize,
    /// Takes those connections to their end.
    pub(crate) closer: Trigger,
    /// How far that has come.
    pub(crate) closing: Shutdown,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: Config, metrics: Metrics) -> Self {
        let (ledger, agent) = match config.store.clone() {
            Some(store) => {
                let (ledger, agent) = Agent::new(store, &metrics.ledger);
                (ledger, Some(agent))
            }
            None => (Arc::new(Ledger::new(&metrics.ledger)), None),
        };
        let issuers = Issuers::new(
            &config.identity,
            Arc::clone(&config.reach),
            metrics.identity.clone(),
        );
        let identities = Identities::new(config.identity.clone(), metrics.identity.clone());
        let identities = Arc::new(identities);
        Self {
            overloads: Overloads::new(&metrics.refused),
            metrics,
            memory: Memory::new(config.memory_budget),
            ledger,
            agent: Mutex::new(agent),
            proofs: Proofs::default(),
            scans: Scans::new(config.threads),
            lingers: Lingers::default(),
            sizes: Sizes::default(),
            endpoints: Endpoints::new(config.apis, Arc::clone(&identities)),
            identities,
            issuers: Arc::new(issuers),
            given_up: AtomicUsize::new(0),
            live: ArcSwapOption::empty(),
            published: Mutex::new(Published {
                table: None,
                replicas: 1,
            }),
            config,
        }
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// How many replicas share the limits.
    pub(crate) fn replicas(&self) -> u64 {
        let of_store = self.ledger.replicas();
        of_store.unwrap_or_else(|| self.published.lock().replicas)
    }

    pub(crate) fn publish(&self, table: Arc<Table>) {
        let mut published = self.published.lock();
        published.table = Some(table);
        self.renew(&published);
        let now = Duration::from_micros(clock::unix_micros(clock::instant()).unsigned_abs());
        self.metrics.table_published.set(now.as_secs_f64());
    }

    pub(crate) fn share_among(&self, replicas: u64) {
        if self.ledger.share_among(replicas) {
            return;
        }
        let mut published = self.published.lock();
        if published.replicas != replicas.max(1) {
            published.replicas = replicas.max(1);
            self.renew(&published);
        }
    }

    fn renew(&self, published: &Published) {
        let Some(table) = &published.table else {
            return;
        };
        let before = self.live();
        let verifier = before.as_ref().and_then(|live| live.verifier.as_ref());
        let verifier = self.issuers.verifier(table, verifier);
        let mut live = Live::after(
            before.as_deref(),
            (table, published.replicas),
            &self.metrics,
            &self.sizes,
            &self.endpoints,
        );
        live.verifier = verifier;
        self.live.store(Some(Arc::new(live)));
    }
}

// === impl Core ===

impl Core {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let log = shared.config.access_log.as_ref();
        let dropped = &shared.metrics.access_log_dropped;
        let (closer, closing) = shutdown::channel();
        Self {
            closer,
            closing,
            log: log.map(|log| Lines::new(log, dropped.clone())),
            connections: Connections::new(Arc::clone(&shared.config.reach)),
            overload: Overload::new(&shared.overloads),
            exchanges: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            shared,
        }
    }

    /// Writes out the lines of the access log so far.
    pub(crate) fn flush_log(&self) {
        if let Some(log) = &self.log {
            log.flush();
        }
    }

    /// Whether some exchange has not ended.
    pub(crate) fn is_busy(&self) -> bool {
        self.exchanges.load(Ordering::Relaxed) > 0
    }

    /// Whether what still runs must end: the grace period is over.
    pub(crate) fn is_cut(&self) -> bool {
        self.closing.is_cutting()
    }

    /// Room for one more connection of a client.
    pub(crate) async fn room(&self) -> Option<Room> {
        self.shared.memory.connection().await
    }

    /// Whether some client is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.clients.load(Ordering::Relaxed) > 0
    }
}
