//! The gateway as others see it: publish tables to it, and it serves them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use prometheus_client::registry::Registry;
use proxy_admin::background::Background;
use proxy_admin::clock;
use proxy_admin::descriptors::Shortage;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task;
use proxy_core::names::ObjectName;
use proxy_core::quota::{Carried, CounterReading, StoreState};
use proxy_core::table::Table;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::memory::AtScrape;
use crate::metrics::Metrics;
use crate::server;
use crate::slot::Place;
use crate::state::{Core, Shared};
use crate::tls::Acceptor;

/// The gateway: publish tables to it, and it serves them. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

/// The gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the port.
    #[error(
        "{address} is in use by another process; stop it, or hand over from it with --reuse-port"
    )]
    InUse {
        /// The address of the configuration.
        address: SocketAddr,
    },
    /// The port is not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(String),
    /// No thread could be made.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A started gateway.
pub struct Serving {
    address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway without a table, which answers `not_ready`.
    #[must_use]
    pub fn new(config: Config, metrics: Metrics) -> Self {
        Self(Arc::new(Shared::new(config, metrics)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Registers what a scrape sees of the memory budget.
    pub fn register_memory(&self, registry: &mut Registry) {
        let memory = Arc::clone(&self.0.memory);
        registry.register_collector(Box::new(AtScrape(memory)));
    }

    /// Puts a table in force: for requests that begin after this returns. Counters stay.
    pub fn publish(&self, table: Arc<Table>) {
        self.0.publish(table);
    }

    /// Sets how many replicas share the limits; each enforces its part.
    pub fn share_among(&self, replicas: u64) {
        self.0.share_among(replicas);
    }

    /// Starts what the gateway does besides serving: the tasks that fetch its tokens for backends and the
    /// keys of callers' issuers, and with a shared store the one that carries calls to it. Call it within a runtime, before [`Gateway::start`]; stop it after the last request.
    pub fn start_background(&self, background: &mut Background) {
        if let Some(agent) = self.0.agent.lock().take() {
            background.start("quota store", |shutdown| agent.run(shutdown));
        }
        let identities = Arc::clone(&self.0.identities);
        background.start("backend tokens", |shutdown| identities.run(shutdown));
        let issuers = Arc::clone(&self.0.issuers);
        background.start("issuers' keys", |shutdown| issuers.run(shutdown));
    }

    /// Waits until the shared store lends, if there is one, but not longer than `within`.
    pub async fn store_opened(&self, within: Duration) {
        self.0.ledger.opened(within).await;
    }

    /// What this replica has counted, of every limit in force. Waits for no request.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterReading> {
        let live = self.0.live();
        let live = live.as_deref();
        live.map_or_else(Vec::new, |live| {
            self.0.ledger.readings(|name| live.limit(name))
        })
    }

    /// The backends that the gateway has no token for, each with the reason and what to do. Before the first
    /// try has ended there is none.
    #[must_use]
    pub fn tokenless(&self) -> Vec<(ObjectName, String)> {
        let live = self.0.live();
        live.map_or_else(Vec::new, |live| live.tokenless(clock::instant()))
    }

    /// Whether the shared store of counters answers.
    #[must_use]
    pub fn store_state(&self) -> StoreState {
        self.0.ledger.store_state()
    }

    /// Takes over what replicas that are gone used of calendar periods: this replica's part of it.
    /// Everything that is carried over, each time; a repeated entry counts once.
    pub fn carry(&self, carried: Vec<Carried>) {
        self.0.ledger.carry(carried);
    }

    /// Opens the port and serves until `shutdown`, then lets running requests end within the
    /// grace period. The port is open when this returns. Call it within a runtime, which follows the
    /// certificates.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(&self, shutdown: &Shutdown) -> Result<Serving, StartError> {
        let config = &self.0.config;
        let tls = config
            .tls
            .as_ref()
            .map(|source| Acceptor::load(source, &self.0.metrics.certificates))
            .transpose()
            .map_err(StartError::Tls)?;
        if let Some(tls) = &tls {
            task::spawn("TLS certificates", tls.clone().follow(shutdown.clone()));
        }
        let mut address = config.listen;
        let mut threads = Vec::new();
        let shortage = Arc::new(Shortage::default());
        for index in 0..config.threads.max(1) {
            let listen = |source: io::Error| {
                if source.kind() == io::ErrorKind::AddrInUse {
                    return StartError::InUse { address };
                }
                StartError::Listen { address, source }
            };
            let shared = config.reuse_port || index > 0;
            let listener = server::listener(address, shared).map_err(listen)?;
            address = listener.local_addr().map_err(listen)?;
            let core = Arc::new(Core::new(Arc::clone(&self.0)));
            let (tls, shutdown) = (tls.clone(), shutdown.clone());
            let shortage = Arc::clone(&shortage);
            let thread = thread::Builder::new()
                .name(format!("gateway-{index}"))
                .spawn(move || server::run(core, listener, tls, shutdown, &shortage))
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        let budget = config.memory_budget;
        if budget / 2 < config.max_body {
            warn!(
                memory_budget = budget,
                max_body = config.max_body,
                "the memory budget has room for one body of the largest size, or for none; raise the \
                 limit of memory, or lower --max-body"
            );
        }
        info!(
            %address,
            threads = threads.len(),
            tls = config.tls.is_some(),
            memory_budget = budget,
            "gateway port open"
        );
        Ok(Serving {
            address,
            threads,
            shared: Arc::clone(&self.0),
        })
    }
}

impl Serving {
    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every core has drained and ended. Blocks: not for an async task.
    pub fn join(self) {
        let followed = Place::taken();
        if followed > 0 {
            info!(
                responses = followed,
                seconds = self.shared.config.drain_grace.as_secs(),
                "responses in the background are followed for the grace period at most; what has not ended then \
                 settles as reserved"
            );
        }
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a core of the gateway panicked");
            }
        }
        let given_up = self.shared.given_up.load(Ordering::Relaxed);
        if given_up > 0 {
            warn!(
                responses = given_up,
                "responses in the background had not ended; they are settled as reserved"
            );
        }
    }
}
