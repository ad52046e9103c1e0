//! Listeners and connections: one current-thread runtime per core, each with a listener of its
//! own on the shared port, and all deadlines that hyper does not have.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use proxy_admin::clock;
use proxy_admin::connection::{self, Accepted, ConnectionError, Leash, Limits, Protocol, Streams};
use proxy_admin::descriptors::{Reserve, Shortage, turn_away};
use proxy_admin::errors;
use proxy_admin::memory::{Place, Room};
use proxy_admin::reminder::Reminder;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::stall::Stall;
use proxy_admin::task;
use proxy_api::proxy_protocol::{InvalidHeader, PREFIX_BYTES, Prefix};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::MissedTickBehavior;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, warn};

use crate::drain;
use crate::intake;
use crate::pace;
use crate::request;
use crate::state::Core;
use crate::tls::Acceptor;

/// Connections waiting to be accepted, per core.
const BACKLOG: i32 = 1024;
/// Connections that are opened before all other work has its turn: one costs several times as much as a request,
/// and those that are there come first.
const OPENS: u32 = 4;
/// A peer must say what it speaks within this time, or it is gone (hyper waits for ever).
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Longest wait for the first bytes of a caller that is turned away: others wait behind it.
const TURNED_AWAY: Duration = Duration::from_millis(5);
/// From the first byte to a finished TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The pause before a request counts as well, and a pool of an SDK keeps connections for up to a minute:
/// shorter, and a request meets a closing connection.
const HEADERS: Duration = Duration::from_secs(65);
/// Most that hyper reads of a list of headers on HTTP/2. Above it answers with a bare 431, so it is more than
/// is taken.
const H2_HEAD_BYTES: u32 = 128 * 1024;
/// Most that is read at once from a connection on HTTP/1.1. hyper's buffer grows to it with full reads
/// only, so that a large body comes in few pieces and is seldom copied.
const READ_BYTES: usize = 512 * 1024;
/// HTTP/2 as Envoy advises for an edge.
const H2_STREAMS: u32 = 100;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
const H2_PING: Duration = Duration::from_secs(20);
const H2_PONG: Duration = Duration::from_secs(10);
/// How often a core hands over its log and closes idle connections.
const TICK: Duration = Duration::from_secs(1);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens one of several listeners on the same address. It may join those that are `shared` already; without
/// that it is the first of its process, and the port must be free.
pub(crate) fn listener(
    address: SocketAddr,
    shared: bool,
) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Each connection has these from its listener.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // Now that the port is ours alone, the other cores may join. Another process may only if it says
    // so: otherwise its first listener does not share.
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

/// Serves with one core until the shutdown, then drains.
pub(crate) fn run(
    core: Arc<Core>,
    listener: std::net::TcpListener,
    tls: Option<Acceptor>,
    shutdown: Shutdown,
    shortage: &Shortage,
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
            Ok(listener) => serve(core, listener, tls, shutdown, shortage).await,
            Err(error) => error!(%error, "a core of the gateway cannot listen"),
        }
    });
}

async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Option<Acceptor>,
    mut shutdown: Shutdown,
    shortage: &Shortage,
) {
    let reserve = Reserve::new();
    let door = Door {
        core: Arc::clone(&core),
        unannounced: Arc::default(),
        limits: Arc::new(limits(&core)),
        tls,
    };
    task::spawn("tick", tick(Arc::clone(&core)));
    task::spawn("pace", pace::pace(Arc::clone(&core)));
    let mut leaving = shutdown.clone();
    let mut opened: u32 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = leaving.leaving(), if !core.closing.is_leaving() => {
                core.closer.leave();
                continue;
            }
            () = shutdown.requested() => break,
        };
        match accepted {
            // It costs nothing that others would wait for.
            Ok((stream, _)) if door.has_left(&stream) => {}
            Ok((stream, peer)) => {
                door.open(stream, peer).await;
                opened = (opened + 1) % OPENS;
                if opened == 0 {
                    let began = clock::instant();
                    next_round().await;
                    let lasted = clock::instant().saturating_duration_since(began);
                    core.overload.kept_waiting(lasted);
                }
            }
            Err(error) => {
                let answer = |peer: IpAddr| {
                    core.shared.memory.turned_away();
                    door.turned_away(request::without_descriptor(&core, peer.to_canonical()))
                };
                reserve.handle(&error, &listener, answer, shortage).await;
            }
        }
    }
    door.close(listener).await;
    drain::drain(&core, &mut shutdown).await;
}

/// Does what a core does once a second, until its runtime ends.
async fn tick(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.flush_log();
        let now = clock::instant();
        core.overload.look(now);
        core.connections.prune(now);
        if core.shared.memory.budget.is_tight() {
            core.connections.close_idle();
        }
    }
}

/// Ends when all work that is ready has had its turn. The runtime polls `serve` itself far more often.
async fn next_round() {
    // An error is a panic of nothing, or the end of the runtime.
    task::spawn("round", yield_now()).await.ok();
}

/// Where connections come in.
struct Door {
    core: Arc<Core>,
    /// For the line that a connection lacks its header.
    unannounced: Arc<Reminder>,
    limits: Arc<Limits>,
    tls: Option<Acceptor>,
}

impl Door {
    /// Whether a client is gone before it was served, as far as that is looked at.
    fn has_left(&self, stream: &TcpStream) -> bool {
        self.core.overload.strained.load(Ordering::Relaxed) && connection::has_left(stream)
    }

    /// Serves a connection, if there is room for it.
    async fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let core = &self.core;
        let peer = peer.ip().to_canonical();
        let Some(room) = core.room().await else {
            let answer = self.turned_away(request::without_room(core, peer));
            return turn_away(&stream, &answer, TURNED_AWAY).await;
        };
        let connection = Connection {
            core: Arc::clone(core),
            peer,
            unannounced: Arc::clone(&self.unannounced),
            limits: Arc::clone(&self.limits),
            shutdown: core.closing.clone(),
            room,
        };
        task::spawn(
            "client connection",
            connection.run(stream, self.tls.clone()),
        );
    }

    /// What a connection gets that is not served. With TLS it just ends: a handshake would need more of what is
    /// lacking.
    fn turned_away(&self, answer: Bytes) -> Bytes {
        if self.tls.is_none() {
            answer
        } else {
            Bytes::new()
        }
    }

    /// Closes the port. Connections that the kernel has taken already are served: it would reset them.
    async fn close(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.open(stream, peer).await;
            }
        }
    }
}

struct Connection {
    core: Arc<Core>,
    /// The other end, or the client that the balancer there speaks for.
    peer: IpAddr,
    /// For the line that a connection lacks its header.
    unannounced: Arc<Reminder>,
    limits: Arc<Limits>,
    shutdown: Shutdown,
    /// What the connection holds of the memory budget.
    room: Room,
}

/// Counts a connection while it is open.
struct Open(Arc<Core>);

impl Open {
    fn new(core: &Arc<Core>) -> Self {
        core.shared.metrics.connections.inc();
        core.clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(core))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.metrics.connections.dec();
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream, tls: Option<Acceptor>) {
        let _open = Open::new(&self.core);
        let place = self.room.place().clone();
        if self.core.shared.config.proxy_protocol {
            // Boxed, or connections without it would be as large.
            let announced = Box::pin(self.announced(&mut stream));
            let Some(Some(peer)) = unless_asked(&place, announced).await else {
                return;
            };
            self.peer = peer;
        }
        let shutdown = &mut self.shutdown.clone();
        let protocol = tokio::select! {
            biased;
            detected = Protocol::detect(&stream, FIRST_BYTE) => match detected {
                Ok(protocol) => protocol,
                Err(_gone) => return,
            },
            () = place.asked() => return,
            () = shutdown.requested() => return,
        };
        let Some(tls) = tls else {
            return self
                .serve(stream, |stall| Some(stall.get_ref()), protocol)
                .await;
        };
        // Boxed, or plain connections would be as large.
        let handshake = Box::pin(tls.accept(stream));
        let handshake = tokio::time::timeout(HANDSHAKE, handshake);
        let Some(handshake) = unless_asked(&place, handshake).await else {
            return;
        };
        match handshake {
            Ok(Ok(stream)) => {
                let protocol = Protocol::negotiated(stream.get_ref().1.alpn_protocol());
                Box::pin(self.serve(stream, below_tls, protocol)).await;
            }
            Ok(Err(error)) => debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_elapsed) => debug!(peer = %self.peer, "TLS handshake took too long"),
        }
    }

    /// The client that a balancer names before it passes on the first byte; `None` if it names none in time.
    async fn announced(&self, stream: &mut TcpStream) -> Option<IpAddr> {
        let why = match tokio::time::timeout(FIRST_BYTE, announcement(stream)).await {
            Ok(Ok(client)) => return Some(client.unwrap_or(self.peer)),
            Ok(Err(Unannounced::Gone(_))) => return None,
            Ok(Err(Unannounced::Invalid(why))) => why.to_string(),
            Err(_elapsed) => "it did not come in time".to_owned(),
        };
        if self.unannounced.is_due(clock::instant()) {
            warn!(
                peer = %self.peer,
                "a connection is closed, since --proxy-protocol wants a header first: {why}"
            );
        }
        None
    }

    async fn serve<S>(
        self,
        stream: S,
        socket: fn(&Stall<S>) -> Option<&TcpStream>,
        protocol: Protocol,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            core,
            peer,
            limits,
            shutdown,
            room,
            ..
        } = self;
        let (refusing, answering) = (Arc::clone(&core), Arc::clone(&core));
        let refuse = move |status| Some(request::unreadable(&refusing, peer, status));
        // Boxed, so that nothing of it is left while its answer streams.
        let answer = move |request: Request<Incoming>, leash: Arc<Leash>| {
            Box::pin(request::handle(
                Arc::clone(&answering),
                peer,
                request,
                leash,
            ))
        };
        let client = Accepted {
            stream: Stall::new(stream),
            socket,
            peer: Some(peer),
            room: Some(room),
        };
        // Awaited where it is made: a future in a variable would be there twice.
        if let Err(error) =
            connection::serve(client, protocol, &limits, answer, refuse, shutdown).await
        {
            if matches!(error, ConnectionError::Memory) {
                core.shared.memory.turned_away();
            }
            debug!(%peer, error = errors::chain(&error), "client connection ended");
        }
    }
}

/// Why a balancer's header was not read.
#[derive(Debug, thiserror::Error)]
enum Unannounced {
    #[error("the connection ended")]
    Gone(#[from] std::io::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidHeader),
}

/// Reads a balancer's header, and no byte behind it.
async fn announcement(stream: &mut TcpStream) -> Result<Option<IpAddr>, Unannounced> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let prefix = Prefix::read(prefix)?;
    let mut rest = vec![0; prefix.length];
    stream.read_exact(&mut rest).await?;
    Ok(prefix.client(&rest)?)
}

fn below_tls(stream: &Stall<TlsStream<TcpStream>>) -> Option<&TcpStream> {
    Some(stream.get_ref().get_ref().0)
}

fn limits(core: &Core) -> Limits {
    let shared = &core.shared;
    let mut http1 = http1::Builder::new();
    http1
        .max_header_size(intake::HEAD_BYTES)
        .max_buf_size(READ_BYTES);
    Limits {
        http1,
        http2,
        faults: shared.metrics.faults.clone(),
        lingers: shared.lingers.clone(),
        strained: Arc::clone(&core.overload.strained),
        head: HEADERS,
        close: None,
    }
}

fn http2(builder: &mut http2::Builder<Streams>) {
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_HEAD_BYTES)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PONG);
}

/// What a silent connection is about to do, or `None` if others need its room.
async fn unless_asked<T>(place: &Place, next: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        next = next => Some(next),
        () = place.asked() => None,
    }
}
