//! The controller put together: watches, compiler, election and the writers.

use std::pin::pin;
use std::sync::Arc;

use kube::Client;
use operator_publish::Publisher;
use operator_publish::tls::{Certificates, StoredAuthorities};
use parking_lot::Mutex;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task::spawn;
use tokio::sync::{mpsc, watch as channel};

use crate::authority::CaKeeper;
use crate::checkpoint::CheckpointKeeper;
use crate::claims::Claims;
use crate::compiler::{Compilation, Compiler};
use crate::config::Config;
use crate::epoch::EpochWatch;
use crate::event_writer::EventWriter;
use crate::events::Announcer;
use crate::gateway_status::GatewayStatus;
use crate::gateway_watch::{GatewayWatch, StoredGateways};
use crate::health::Health;
use crate::lease::keeper::{Keeper, Leadership};
use crate::metrics::Metrics;
use crate::pods::PodWatch;
use crate::snapshot::SnapshotKeeper;
use crate::status::{Inputs, PublishedTable, StatusWriter};
use crate::stored_status::StoredObjects;
use crate::warnings::WarningWriter;
use crate::watch::{Update, Watches};

/// Updates on their way to the index. The queue is full only while a compile runs; then the watches
/// wait.
const UPDATES: usize = 1_024;

/// The controller, before it runs.
pub struct Controller {
    client: Client,
    config: Config,
    metrics: Metrics,
    health: Health,
    stored: Arc<Mutex<StoredObjects>>,
    compiler: Compiler,
    compilations: channel::Receiver<Option<Compilation>>,
    status_changes: channel::Receiver<u64>,
}

// === impl Controller ===

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Makes a controller. It does not call the API server yet.
    #[must_use]
    pub fn new(client: Client, config: Config, metrics: Metrics) -> Self {
        let stored = Arc::<Mutex<StoredObjects>>::default();
        let (status_changed, status_changes) = channel::channel(0);
        let (mut compiler, compilations) = Compiler::new(
            config.settings(),
            &config.scopes(),
            Arc::clone(&stored),
            status_changed,
            metrics.clone(),
        );
        if config.gateways.is_some() {
            compiler.await_gateways();
        }
        Self {
            client,
            config,
            metrics,
            health: Health::default(),
            stored,
            compiler,
            compilations,
            status_changes,
        }
    }

    /// Every compiled table; `None` until everything has been listed once.
    #[must_use]
    pub fn compilations(&self) -> channel::Receiver<Option<Compilation>> {
        self.compilations.clone()
    }

    /// Which kinds are watched at present.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Works until `shutdown`, then releases the lease; an earlier end is a failure. `publisher` is
    /// where `publications` come from; `ca` is what [`load_or_create_ca`](crate::load_or_create_ca)
    /// gave, and `certificates` signs with it.
    pub async fn run(
        self,
        publications: channel::Receiver<Option<PublishedTable>>,
        publisher: Publisher,
        certificates: Arc<Certificates>,
        ca: StoredAuthorities,
        shutdown: Shutdown,
    ) {
        let (sender, updates) = mpsc::channel::<Update>(UPDATES);
        let gateways = self.watch(sender, &publisher, &shutdown);
        if let Some(selector) = &self.config.proxy_pods {
            let namespace = &self.config.own_namespace;
            let pods = PodWatch::new(self.client.clone(), namespace, selector, publisher.clone());
            spawn("pods of proxies", pods.run(shutdown.clone()));
        }
        let (keeper, leadership) = Keeper::new(
            self.client.clone(),
            &self.config.own_namespace,
            &self.config.identity,
            self.config.lease,
            self.metrics.clone(),
        );
        let claims = Arc::new(Claims::new(
            self.client.clone(),
            &self.config.own_namespace,
            Arc::clone(&self.stored),
            self.metrics.clone(),
        ));
        let inputs = Inputs {
            publications,
            fleet: publisher.fleet(),
            status_changes: self.status_changes,
            stored: Arc::clone(&self.stored),
            claims: Arc::clone(&claims),
        };
        report_gateways(&self.client, gateways, &inputs, &leadership, &shutdown);
        let keeping = (Arc::clone(&claims), leadership.clone(), shutdown.clone());
        spawn("claims", async move {
            keeping.0.run(keeping.1, keeping.2).await
        });
        let (client, identity) = (self.client.clone(), &self.config.identity);
        let events = EventWriter::new(client, identity, self.metrics.clone());
        let warnings = WarningWriter::new(publisher.clone(), self.stored, events.clone());
        let warnings = warnings.run(leadership.clone(), shutdown.clone());
        spawn("quota warnings", warnings);
        let announcer = Announcer::new(events);
        let snapshots = SnapshotKeeper::new(
            &self.client,
            &self.config,
            publisher.clone(),
            self.metrics.clone(),
        );
        let snapshots = snapshots.run(leadership.clone(), shutdown.clone());
        let snapshots = spawn("snapshot", snapshots);
        let checkpoints =
            CheckpointKeeper::new(&self.client, &self.config, publisher, self.metrics.clone());
        let checkpoints = checkpoints.run(leadership.clone(), shutdown.clone());
        let checkpoints = spawn("checkpoint", checkpoints);
        let writer = StatusWriter::new(self.client.clone(), inputs, announcer, self.metrics);
        let writing = spawn("status", writer.run(leadership.clone(), shutdown.clone()));
        let ca = CaKeeper::new(self.client, &self.config.own_namespace, certificates, ca);
        spawn("ca", ca.run(leadership, shutdown.clone()));
        let compiling = spawn("compiler", self.compiler.run(updates, shutdown.clone()));
        let asked = shutdown.clone();
        let mut keeping = pin!(keeper.run(shutdown, async {
            // The panic of a writer is logged by its task; there is nothing left to wait for.
            writing.await.ok();
            checkpoints.await.ok();
            snapshots.await.ok();
        }));
        tokio::select! {
            () = &mut keeping => {}
            // Without the compiler leadership is of no use.
            _ended = compiling => if asked.is_requested() { keeping.await; },
        }
    }

    /// Starts everything that reports to the compiler.
    fn watch(
        &self,
        updates: mpsc::Sender<Update>,
        publisher: &Publisher,
        shutdown: &Shutdown,
    ) -> Option<channel::Receiver<Option<StoredGateways>>> {
        let epochs = EpochWatch {
            client: self.client.clone(),
            namespace: self.config.own_namespace.clone(),
            proxies: publisher.proxies_revision(),
            compilations: self.compilations.clone(),
            updates: updates.clone(),
        };
        spawn("epochs", epochs.run(shutdown.clone()));
        let gateways = self.follow_gateways(&updates, shutdown);
        let watches = Watches {
            client: self.client.clone(),
            scopes: self.config.scopes(),
            updates,
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            shutdown: shutdown.clone(),
        };
        watches.start();
        gateways
    }

    /// Watches Gateways, if the installation serves any.
    fn follow_gateways(
        &self,
        updates: &mpsc::Sender<Update>,
        shutdown: &Shutdown,
    ) -> Option<channel::Receiver<Option<StoredGateways>>> {
        let config = self.config.gateways.clone()?;
        let (stored, changes) = channel::channel(None);
        let watch = GatewayWatch {
            client: self.client.clone(),
            config,
            own_namespace: self.config.own_namespace.clone(),
            updates: updates.clone(),
            stored,
        };
        spawn("watch Gateways", watch.run(shutdown.clone()));
        Some(changes)
    }
}

/// Writes the status of Gateways, if any are watched.
fn report_gateways(
    client: &Client,
    stored: Option<channel::Receiver<Option<StoredGateways>>>,
    inputs: &Inputs,
    leadership: &Leadership,
    shutdown: &Shutdown,
) {
    if let Some(stored) = stored {
        let writer = GatewayStatus::new(client, stored, inputs);
        let writer = writer.run(leadership.clone(), shutdown.clone());
        spawn("status of Gateways", writer);
    }
}
