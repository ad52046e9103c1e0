//! Listeners and connections: one current-thread runtime per core, each with a listener of its
//! own on the shared port, and all deadlines that hyper does not have.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Shutdown, Trigger};
use proxy_admin::stall::Stall;
use proxy_admin::task;
use proxy_core::table::Table;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tracing::{debug, error, info};

use crate::config::Config;
use crate::learned::Learned;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::request;
use crate::store::{Agent, Store};
use crate::tls::Acceptor;
use crate::upstream::Connections;

/// Connections waiting to be accepted, per core.
const BACKLOG: i32 = 1024;
/// A peer must say what it speaks within this time, or it is gone (hyper waits for ever).
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// From the first byte to a finished TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// hyper counts the idle time of a kept-alive connection as header time, and a pool of an SDK
/// keeps connections for up to a minute: shorter, and a request meets a closing connection.
const HEADERS: Duration = Duration::from_secs(65);
/// Largest head of a request; hyper bounds the number of headers (100).
const HEAD_BYTES: usize = 32 * 1024;
/// Read at once from a connection on HTTP/1.1.
const READ_BYTES: usize = 64 * 1024;
/// HTTP/2 as Envoy advises for an edge.
const H2_STREAMS: u32 = 100;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
const H2_PING: Duration = Duration::from_secs(20);
const H2_PONG: Duration = Duration::from_secs(10);
/// What a client on HTTP/2 sends first (RFC 9113, 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How often a client is looked at that has sent a part of that.
const PEEK_AGAIN: Duration = Duration::from_millis(5);
/// How often a draining core looks whether its last request has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How often a process that starts looks whether the store lends.
const STORE_POLL: Duration = Duration::from_millis(5);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// What all cores share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Ledger,
    learned: Learned,
    store: Option<Arc<Store>>,
    /// Until it is started.
    agent: Mutex<Option<Agent>>,
    live: ArcSwapOption<Live>,
    published: Mutex<Published>,
}

struct Published {
    table: Option<Arc<Table>>,
    replicas: u64,
}

impl Shared {
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// How many replicas share the limits.
    pub(crate) fn replicas(&self) -> u64 {
        match &self.store {
            Some(store) => store.replicas(),
            None => self.published.lock().replicas,
        }
    }
}

/// What one core has for itself.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
}

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
    /// The port is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(String),
    /// No thread could be made.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// A started gateway.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Gateway {
    /// A gateway without a table, which answers `not_ready`.
    #[must_use]
    pub fn new(config: Config, metrics: Metrics) -> Self {
        let (store, agent) = config
            .store
            .clone()
            .map(|config| Store::new(config, metrics.store.clone()))
            .unzip();
        let ledger = Ledger::new(metrics.settlements(), store.clone());
        Self(Arc::new(Shared {
            store,
            agent: Mutex::new(agent),
            config,
            metrics,
            ledger,
            learned: Learned::default(),
            live: ArcSwapOption::empty(),
            published: Mutex::new(Published {
                table: None,
                replicas: 1,
            }),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Puts a table in force: for requests that begin after this returns. Counters stay.
    pub fn publish(&self, table: Arc<Table>) {
        let mut published = self.0.published.lock();
        published.table = Some(table);
        self.renew(&published);
    }

    /// Says how many replicas share the limits; each enforces its part.
    pub fn share_among(&self, replicas: u64) {
        if let Some(store) = &self.0.store {
            // Limits are whole, as long as the store answers.
            store.replicas_told(replicas.max(1));
            return;
        }
        let mut published = self.0.published.lock();
        if published.replicas != replicas.max(1) {
            published.replicas = replicas.max(1);
            self.renew(&published);
        }
    }

    fn renew(&self, published: &Published) {
        let Some(table) = &published.table else {
            return;
        };
        let shared = &self.0;
        let live = Live::new(
            Arc::clone(table),
            published.replicas,
            &shared.metrics,
            &shared.learned,
        );
        for backend in live.backends.values() {
            if let Err(cause) = &backend.origin {
                error!(backend = %backend.name, cause, "a backend cannot be used");
            }
        }
        self.0.live.store(Some(Arc::new(live)));
    }

    /// Connects to the shared store, if one is configured, and stays connected until the link is
    /// closed: not before the last request has ended. Call it within a runtime, before
    /// [`Gateway::start`].
    #[must_use]
    pub fn connect_store(&self) -> Option<StoreLink> {
        let agent = self.0.agent.lock().take()?;
        let (trigger, shutdown) = shutdown::channel();
        let shared = Arc::clone(&self.0);
        let slots = move || shared.ledger.slots();
        let task = task::spawn("quota store", agent.run(slots, shutdown));
        let store = self.0.store.clone();
        Some(StoreLink {
            trigger,
            task,
            store,
        })
    }

    /// Opens the port and serves until `shutdown`, then lets running requests end within the
    /// grace period. The port is open when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(&self, shutdown: &Shutdown) -> Result<Serving, StartError> {
        let config = &self.0.config;
        let tls = config
            .tls
            .as_ref()
            .map(Acceptor::load)
            .transpose()
            .map_err(StartError::Tls)?;
        let mut address = config.listen;
        let mut threads = Vec::new();
        for index in 0..config.threads.max(1) {
            let listen = |source| StartError::Listen { address, source };
            let listener = listener(address).map_err(listen)?;
            address = listener.local_addr().map_err(listen)?;
            let core = Arc::new(Core {
                shared: Arc::clone(&self.0),
                connections: Connections::default(),
            });
            let (tls, shutdown) = (tls.clone(), shutdown.clone());
            let thread = thread::Builder::new()
                .name(format!("gateway-{index}"))
                .spawn(move || run(core, listener, tls, shutdown))
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        info!(%address, threads = threads.len(), tls = config.tls.is_some(), "gateway port open");
        Ok(Serving { address, threads })
    }
}

/// The connection to the shared store of counters.
#[derive(Debug)]
pub struct StoreLink {
    trigger: Trigger,
    task: JoinHandle<()>,
    store: Option<Arc<Store>>,
}

impl StoreLink {
    /// Waits until the store lends, but not longer than `within`: until then limits do what
    /// `onStoreLoss` says, by a number of replicas that is not known yet.
    pub async fn opened(&self, within: Duration) {
        let open = async {
            while self.store.as_ref().is_some_and(|store| !store.is_open()) {
                tokio::time::sleep(STORE_POLL).await;
            }
        };
        if tokio::time::timeout(within, open).await.is_err() {
            tracing::warn!("serving before the quota store was reached");
        }
    }

    /// Gives back what is lent and unused, and ends the connection.
    pub async fn close(self) {
        self.trigger.stop();
        if self.task.await.is_err() {
            error!("the task of the quota store was cut short");
        }
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
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a core of the gateway panicked");
            }
        }
    }
}

fn listener(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn run(
    core: Arc<Core>,
    listener: std::net::TcpListener,
    tls: Option<Acceptor>,
    shutdown: Shutdown,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "a core of the gateway cannot start");
            return;
        }
    };
    runtime.block_on(async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => serve(core, listener, tls, shutdown).await,
            Err(error) => error!(%error, "a core of the gateway cannot listen"),
        }
    });
}

async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Option<Acceptor>,
    mut shutdown: Shutdown,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let connection = Connection {
                    core: Arc::clone(&core),
                    shutdown: shutdown.clone(),
                };
                task::spawn("client connection", connection.run(stream, tls.clone()));
            }
            Err(error) => {
                // Out of descriptors, or a peer that is gone already.
                debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let drained = async {
        while core.shared.metrics.connections.get() > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    if tokio::time::timeout(core.shared.config.drain_grace, drained)
        .await
        .is_err()
    {
        let requests = core.shared.metrics.in_flight.get();
        tracing::warn!(
            requests,
            "the grace period is over; cutting what still runs"
        );
    }
}

struct Connection {
    core: Arc<Core>,
    shutdown: Shutdown,
}

/// Counts a connection while it is open.
struct Open(Arc<Core>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.metrics.connections.dec();
    }
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Acceptor>) {
        self.core.shared.metrics.connections.inc();
        let _open = Open(Arc::clone(&self.core));
        if let Err(error) = prepare(&stream) {
            debug!(%error, "a connection could not be prepared");
            return;
        }
        let shutdown = &mut self.shutdown.clone();
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(FIRST_BYTE, greets_in_h2(&stream)) => greeted,
            () = shutdown.requested() => return,
        };
        let Ok(Some(h2)) = greeted else { return };
        let Some(tls) = tls else {
            return self.http(stream, h2).await;
        };
        match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.http(stream, h2).await;
            }
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_elapsed) => debug!("TLS handshake took too long"),
        }
    }

    async fn http<S>(mut self, stream: S, h2: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(Stall::new(stream));
        let core = Arc::clone(&self.core);
        let service = service_fn(move |request: Request<Incoming>| {
            let core = Arc::clone(&core);
            async move { Ok::<_, Infallible>(request::handle(core, request).await) }
        });
        // The arms differ in type only: a connection has no common trait.
        let ended = if h2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(H2_STREAM_WINDOW)
                .initial_connection_window_size(H2_CONNECTION_WINDOW)
                .max_concurrent_streams(H2_STREAMS)
                .keep_alive_interval(H2_PING)
                .keep_alive_timeout(H2_PONG)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.shutdown.requested() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_header_size(HEAD_BYTES)
                .max_buf_size(READ_BYTES)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = self.shutdown.requested() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "client connection ended");
        }
    }
}

/// Whether the client begins with HTTP/2's preface; `None` if it went away. Nothing is taken from the
/// stream. A preface may come in pieces.
async fn greets_in_h2(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await.ok()?;
        let begun = first.get(..length).filter(|begun| !begun.is_empty())?;
        if length == H2_PREFACE.len() || !H2_PREFACE.starts_with(begun) {
            return Some(begun == H2_PREFACE);
        }
        // The socket stays readable: there is nothing else to wait for.
        tokio::time::sleep(PEEK_AGAIN).await;
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
