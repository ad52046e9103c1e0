//! The operator's side of the API server, and the only one that speaks to it: watches the objects,
//! has them compiled, and, as the holder of the lease, writes what came of it into their status.
//!
//! It refuses to know how a table reaches the proxies: whoever publishes says so in [`Publication`]
//! and [`Fleet`]. Every operator replica watches and compiles; one, the `leader`, writes.
//!
//! Nothing here trusts order between kinds: the watches are independent, and the `revision` of a
//! table is the newest resource version that is in it.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task::spawn;
use tokio::sync::{mpsc, watch as channel};

mod authority;
mod checkpoint;
mod compiler;
mod events;
mod known;
mod lease;
mod metrics;
mod review;
#[cfg(test)]
mod scenario;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub use authority::{Authority, CaError, CaPem, load_or_create_ca};
pub use checkpoint::{Checkpoint, load_checkpoint};
pub use compiler::Compilation;
pub use kube::Client;
pub use lease::Timing;
pub use metrics::Metrics;
pub use operator_compile::wire_key;
pub use review::{ReplicaIdentity, ReviewDenied, TokenReviewer};
pub use status::{ChangedAt, Fleet, Publication, Replica};

use crate::authority::CaKeeper;
use crate::checkpoint::CheckpointKeeper;
use crate::compiler::Compiler;
use crate::events::Announcer;
use crate::lease::keeper::Keeper;
use crate::status::{Inputs, StatusWriter};
use crate::watch::{Scope, Update, Watches};

/// Who writes, for the API server: the one manager of every field that we apply.
pub(crate) const FIELD_MANAGER: &str = "tundish-operator";

/// Updates on their way to the index. Full only while a compile runs; the watches then wait.
const UPDATES: usize = 1_024;

/// The API server could not be prepared for.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or lacks something.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Neither in a cluster nor with a kubeconfig.
    #[error("find the API server: neither a kubeconfig nor a service account is there")]
    Nowhere(#[source] kube::config::InferConfigError),
    /// The credentials or certificates cannot be used.
    #[error("prepare a client for the API server")]
    Client(#[source] kube::Error),
}

/// How the controller works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the installation lives: its lease, its CA, and quotas for the whole gateway.
    pub own_namespace: String,
    /// Namespaces to watch beside the own one, whose quotas hold for all; none = every namespace.
    pub watch_namespaces: Vec<String>,
    /// The name of this replica in the lease; different for each.
    pub identity: String,
    /// The election's times.
    pub lease: Timing,
    /// The ConfigMap for checkpoints of counters; it has to be there.
    pub checkpoint: String,
}

/// The controller, about to run.
pub struct Controller {
    client: Client,
    config: Config,
    metrics: Metrics,
    known: Arc<Mutex<known::KnownObjects>>,
    compiler: Compiler,
    compilations: channel::Receiver<Option<Compilation>>,
    status_changes: channel::Receiver<u64>,
}

/// A client for the API server: of `kubeconfig` if given, else of the service account or the usual
/// kubeconfig.
///
/// # Errors
/// There is none, or it cannot be used. The API server is not called yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(ConnectError::Kubeconfig)?;
            let options = KubeConfigOptions::default();
            let loaded = kube::Config::from_custom_kubeconfig(file, &options).await;
            loaded.map_err(ConnectError::Kubeconfig)?
        }
        None => kube::Config::infer().await.map_err(ConnectError::Nowhere)?,
    };
    Client::try_from(config).map_err(ConnectError::Client)
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
    /// Prepares a controller; nothing is called yet.
    #[must_use]
    pub fn new(client: Client, config: Config, metrics: Metrics) -> Self {
        let scopes = scopes(&config);
        let known = Arc::<Mutex<known::KnownObjects>>::default();
        let (status_changed, status_changes) = channel::channel(0);
        let (compiler, compilations) = Compiler::new(
            &config.own_namespace,
            scopes,
            Arc::clone(&known),
            status_changed,
            metrics.clone(),
        );
        Self {
            client,
            config,
            metrics,
            known,
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

    /// Works until `shutdown`, then gives the lease back; an end before that is a failure.
    /// `authority` looks after the CA that was loaded with it, and `checkpoint` tells what is to be
    /// kept of the counters.
    pub async fn run<A: Authority>(
        self,
        publications: channel::Receiver<Option<Publication>>,
        fleet: channel::Receiver<Fleet>,
        authority: (A, CaPem),
        checkpoint: impl Checkpoint,
        shutdown: Shutdown,
    ) {
        let (sender, updates) = mpsc::channel::<Update>(UPDATES);
        let watches = Watches {
            client: self.client.clone(),
            scopes: scopes(&self.config),
            updates: sender,
            metrics: self.metrics.clone(),
            shutdown: shutdown.clone(),
        };
        watches.start();
        drop(watches);

        let (keeper, leadership) = Keeper::new(
            self.client.clone(),
            &self.config.own_namespace,
            &self.config.identity,
            self.config.lease,
            self.metrics.clone(),
        );
        let inputs = Inputs {
            publications,
            fleet,
            status_changes: self.status_changes,
            known: self.known,
        };
        let announcer = Announcer::new(
            self.client.clone(),
            &self.config.identity,
            self.metrics.clone(),
        );
        let checkpoints =
            CheckpointKeeper::new(&self.client, &self.config, checkpoint, self.metrics.clone());
        let checkpoints = checkpoints.run(leadership.clone(), shutdown.clone());
        let checkpoints = spawn("checkpoint", checkpoints);
        let writer = StatusWriter::new(self.client.clone(), inputs, announcer, self.metrics);
        let writing = spawn("status", writer.run(leadership.clone(), shutdown.clone()));
        let (authority, ca) = authority;
        let ca = CaKeeper::new(self.client, &self.config.own_namespace, authority, ca);
        spawn("ca", ca.run(leadership, shutdown.clone()));
        let compiling = spawn("compiler", self.compiler.run(updates, shutdown.clone()));
        let asked = shutdown.clone();
        let mut keeping = pin!(keeper.run(shutdown, async {
            // A panic of a writer is logged where it is; there is nothing left to wait for.
            writing.await.ok();
            checkpoints.await.ok();
        }));
        tokio::select! {
            () = &mut keeping => {}
            // Without the compiler there is nothing worth leading.
            _ended = compiling => if asked.is_requested() { keeping.await; },
        }
    }
}

/// Each namespace once. The own one always: its quotas are the platform's ceiling.
fn scopes(config: &Config) -> Vec<Scope> {
    if config.watch_namespaces.is_empty() {
        return vec![None];
    }
    let own = [&config.own_namespace];
    let namespaces = config.watch_namespaces.iter().chain(own);
    let namespaces: BTreeSet<&String> = namespaces.collect();
    namespaces.into_iter().cloned().map(Some).collect()
}

/// An error with everything below it, on one line of a log.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Some libraries repeat the source in their own words.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text.replace('\n', " ")
}
