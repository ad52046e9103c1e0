//! Listeners and connections: one current-thread runtime per core, each with a listener of its
//! own on the shared port, and all deadlines that hyper does not have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proxy_admin::clock;
use proxy_admin::connection::{self, Limits, Protocol};
use proxy_admin::descriptors::{Reserve, Shortage};
use proxy_admin::errors;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::stall::Stall;
use proxy_admin::task;
use proxy_api::Dialect;
use proxy_core::names::Code;
use proxy_core::quota::Wait;
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, warn};

use crate::answer::{self, Refusal};
use crate::intake;
use crate::request;
use crate::state::Core;
use crate::tls::Acceptor;

#[cfg(test)]
mod tests;

/// Connections waiting to be accepted, per core.
const BACKLOG: i32 = 1024;
/// A peer must say what it speaks within this time, or it is gone (hyper waits for ever).
const FIRST_BYTE: Duration = Duration::from_secs(10);
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
/// How often a draining core looks whether its last exchange has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long a draining core without an exchange waits for connections: for the last bytes of an answer
/// to be written, and for a request whose head is on its way.
const FLUSH: Duration = Duration::from_secs(1);
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
    let answer = if tls.is_some() {
        Bytes::new()
    } else {
        turned_away()
    };
    let limits = Arc::new(limits());
    task::spawn("tick", tick(Arc::clone(&core)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let connection = Connection {
                    core: Arc::clone(&core),
                    limits: Arc::clone(&limits),
                    shutdown: shutdown.clone(),
                };
                task::spawn("client connection", connection.run(stream, tls.clone()));
            }
            Err(error) => reserve.handle(&error, &listener, &answer, shortage).await,
        }
    }
    drop(listener);
    if tokio::time::timeout(core.shared.config.drain_grace, drained(&core))
        .await
        .is_err()
    {
        let exchanges = core.exchanges.load(Ordering::Relaxed);
        warn!(
            exchanges,
            "the grace period is over; cutting what still runs"
        );
    }
}

/// The answer to a caller on plain HTTP that no file descriptor is left for. With TLS the connection just
/// ends: a handshake would need more of what is lacking.
fn turned_away() -> Bytes {
    let message = "the gateway has no file descriptor left";
    let refusal = Refusal::new(Code::Overloaded, message).closing();
    let refusal = refusal.waiting(Wait::Millis(1_000));
    let id = intake::request_id(&HeaderMap::new());
    answer::on_wire(&answer::error(&refusal, Dialect::OpenAi, &id))
}

/// Does what a core does once a second, until its runtime ends.
async fn tick(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.flush_log();
        core.connections.prune(clock::instant());
    }
}

/// Waits for the exchanges of this core, whatever carries them, and then shortly for its connections.
async fn drained(core: &Core) {
    let mut busy = clock::instant();
    while core.is_busy() || core.is_connected() {
        if core.is_busy() {
            busy = clock::instant();
        } else if clock::instant().saturating_duration_since(busy) >= FLUSH {
            return;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

struct Connection {
    core: Arc<Core>,
    limits: Arc<Limits>,
    shutdown: Shutdown,
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
    async fn run(self, stream: TcpStream, tls: Option<Acceptor>) {
        let _open = Open::new(&self.core);
        if let Err(error) = prepare(&stream) {
            debug!(%error, "a connection could not be prepared");
            return;
        }
        let shutdown = &mut self.shutdown.clone();
        let protocol = tokio::select! {
            detected = Protocol::detect(&stream, FIRST_BYTE) => match detected {
                Ok(protocol) => protocol,
                Err(_gone) => return,
            },
            () = shutdown.requested() => return,
        };
        let Some(tls) = tls else {
            return self.serve(stream, protocol).await;
        };
        // Boxed, or plain connections would be as large.
        let handshake = Box::pin(tls.accept(stream));
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => {
                let protocol = Protocol::negotiated(stream.get_ref().1.alpn_protocol());
                Box::pin(self.serve(stream, protocol)).await;
            }
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_elapsed) => debug!("TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S, protocol: Protocol)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let core = self.core;
        let of_refused = Arc::clone(&core);
        let refuse = move |status| Some(request::unreadable(&of_refused, status));
        // Boxed, so that nothing of it is left while its answer streams.
        let answer =
            move |request: Request<Incoming>| Box::pin(request::handle(Arc::clone(&core), request));
        let stream = Stall::new(stream);
        // Awaited where it is made: a future in a variable would be there twice.
        if let Err(error) = connection::serve(
            stream,
            protocol,
            &self.limits,
            answer,
            refuse,
            self.shutdown,
        )
        .await
        {
            debug!(error = errors::chain(&error), "client connection ended");
        }
    }
}

fn limits() -> Limits {
    let mut http1 = http1::Builder::new();
    http1
        .max_header_size(intake::HEAD_BYTES)
        .max_buf_size(READ_BYTES);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_HEAD_BYTES)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PONG);
    Limits {
        http1,
        http2,
        head: HEADERS,
        close: None,
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
