//! An operator and a proxy on loopback, and small tables to send.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use operator_publish::{
    Config as ServerConfig, Denial, Features, Metrics, Publisher, Reviewer, Server,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_core::names::Secret;
use proxy_core::quota::{Carried, CounterReading, StoreState};
use proxy_core::table::{Backend, BackendAuth, Contents, Route, Table};
use proxy_core::test_util::{self, backend, rule, target};
use proxy_sync::{Config, Counted, Update, follow};
use tempfile::TempDir;
use tests_support::eventually;
use tokio::task::JoinHandle;

/// No step of these tests takes longer, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Knows two tokens: `good-<id>` is the replica `<id>`, `anyone` no particular one. The token
/// `wrong-audience` is genuine, but for another audience.
struct Tokens;

impl Reviewer for Tokens {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<String>, Denial>> {
        let verdict = match token.split_once('-') {
            _ if token == "anyone" => Ok(None),
            Some(("good", id)) => Ok(Some(id.to_owned())),
            Some(("wrong", what)) => Err(Denial::WrongAudience {
                audience: what.to_owned(),
            }),
            _ => Err(Denial::Unauthenticated("unknown token".to_owned())),
        };
        futures::future::ready(verdict).boxed()
    }
}

/// A publisher and its server.
pub(crate) struct Operator {
    pub(crate) publisher: Publisher,
    pub(crate) address: SocketAddr,
    stop: Trigger,
    task: JoinHandle<()>,
}

impl Operator {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0".parse()?, None).await
    }

    pub(crate) async fn start_at(
        listen: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Self> {
        Self::start_with(listen, tls, Features::KNOWN).await
    }

    /// Starts an operator that knows `features`.
    pub(crate) async fn start_with(
        listen: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        features: Features,
    ) -> Result<Self> {
        let metrics = Metrics::register(&mut Registry::default());
        let publisher = Publisher::new(features, metrics);
        let config = ServerConfig {
            listen,
            heartbeat: Duration::from_millis(100),
            subscription_life: Duration::from_secs(3_600),
        };
        let server = Server::bind(config, publisher.clone(), Arc::new(Tokens), tls).await?;
        let address = server.address();
        let (stop, shutdown) = shutdown::channel();
        let task = proxy_admin::task::spawn("operator under test", server.serve(shutdown));
        Ok(Self {
            publisher,
            address,
            stop,
            task,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it and frees its port.
    pub(crate) async fn kill(self) -> Result<SocketAddr> {
        self.stop.stop();
        self.task.await.context("the server's task")?;
        Ok(self.address)
    }

    /// Waits until a replica has acknowledged the publication of `sequence`.
    pub(crate) async fn acked(&self, replica: &str, sequence: u64) -> Result<()> {
        let fleet = self.publisher.fleet();
        eventually(
            &format!("{replica} to have {sequence}"),
            PATIENCE,
            async || {
                let fleet = fleet.borrow();
                let found = fleet.replicas.iter().find(|one| one.id == replica)?;
                (found.acked >= Some(sequence)).then_some(())
            },
        )
        .await
    }
}

/// The updates that a proxy received.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) tables: Vec<(Arc<Table>, u64)>,
    pub(crate) replicas: Option<u64>,
    pub(crate) carried: Vec<Carried>,
    /// Whether an operator sent the table that came from elsewhere.
    pub(crate) confirmed: bool,
    /// Whether a table came before the first carried line.
    pub(crate) early: bool,
}

/// A follower of the channel.
pub(crate) struct Proxy {
    pub(crate) given: Arc<Mutex<Given>>,
    /// The counters that it reports.
    pub(crate) counted: Arc<Mutex<Counted>>,
    pub(crate) folder: Arc<TempDir>,
    stop: Trigger,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Follows `operators` as `id`, with a good token and a file for the last good table.
    pub(crate) fn start(id: &str, operators: &[String]) -> Result<Self> {
        let folder = Arc::new(tempfile::tempdir()?);
        Self::start_with(id, operators, &format!("good-{id}"), folder, |_| {})
    }

    pub(crate) fn start_with(
        id: &str,
        operators: &[String],
        token: &str,
        folder: Arc<TempDir>,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, token)?;
        let mut config = Config {
            operators: operators.to_vec(),
            ca_file: None,
            token_file: Some(token_file),
            replica: id.to_owned(),
            last_good: Some(last_good(folder.path())),
            snapshot: None,
            keep_credentials: false,
            allow_plaintext: true,
            max_table_age: None,
        };
        adjust(&mut config);
        let given = Arc::new(Mutex::new(Given::default()));
        let sink = {
            let given = Arc::clone(&given);
            move |update: Update| match update {
                Update::Table {
                    table, revision, ..
                } => given.lock().tables.push((table, revision)),
                Update::Confirmed => given.lock().confirmed = true,
                Update::Stale(_) => {}
                Update::Replicas(replicas) => given.lock().replicas = Some(replicas),
                Update::Carried(carried) => {
                    let mut given = given.lock();
                    given.early |= !given.tables.is_empty() && given.carried.is_empty();
                    given.carried = carried;
                }
            }
        };
        let counted = Arc::new(Mutex::new(Counted::new(StoreState::None)));
        let source = {
            let counted = Arc::clone(&counted);
            move || counted.lock().clone()
        };
        let (stop, shutdown) = shutdown::channel();
        let metrics = proxy_sync::Metrics::register(&mut Registry::default());
        let task = proxy_admin::task::spawn("proxy under test", async move {
            follow(config, metrics, sink, source, shutdown)
                .await
                .expect("the settings of the test are valid");
        });
        Ok(Self {
            given,
            counted,
            folder,
            stop,
            task,
        })
    }

    /// Reports this counter from now on.
    pub(crate) fn count(&self, reading: CounterReading) {
        self.counted.lock().counters = vec![reading];
    }

    /// Stops it as SIGKILL would: it sends nothing more.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    /// Stops it; its folder stays.
    pub(crate) async fn stop(self) -> Result<Arc<TempDir>> {
        self.stop.stop();
        self.task.await.context("the follower's task")?;
        Ok(self.folder)
    }

    /// Revision of the current table.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.given
            .lock()
            .tables
            .last()
            .map(|(_, revision)| *revision)
    }

    /// Waits for a table of at least `revision`, and returns its contents.
    pub(crate) async fn table(&self, revision: u64) -> Result<Contents> {
        eventually(&format!("revision {revision}"), PATIENCE, async || {
            let given = self.given.lock();
            let (table, newest) = given.tables.last()?;
            (*newest >= revision).then(|| table.contents().clone())
        })
        .await
    }
}

/// Where a proxy keeps its last good table.
pub(crate) fn last_good(folder: &Path) -> PathBuf {
    folder.join("last-good.json")
}

/// A route to the backend `a/east`; `created_s` makes it differ.
pub(crate) fn route(name: &str, created_s: i64) -> Route {
    let rule = rule("all", vec![target("a/east")]);
    Route {
        created_s,
        ..test_util::route(&format!("a/{name}"), vec![rule])
    }
}

/// A table of one backend with a credential, and `routes`.
pub(crate) fn contents(mut routes: Vec<Route>) -> Contents {
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    let backend = Backend {
        auth: BackendAuth::ApiKey(Secret::new("s3cr3t-credential")),
        ..backend("a/east")
    };
    Contents::new(vec![backend], routes, Vec::new(), Vec::new())
}
