//! The connections of the channel: TLS handshake, limits, and their requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use proxy_admin::connection::{
    self, Accepted, ConnectionError, Faults, Limits, Lingers, Protocol, Streams,
};
use proxy_admin::shutdown::Shutdown;
use proxy_admin::stall::Stall;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::channel::Channel;

/// Longest TLS handshake: two round trips, and a busy proxy.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the headers of a request, also between two requests. A proxy sends its requests
/// at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A request carries a token and a digest.
const HEADER_BYTES: u32 = 32 * 1024;

/// HTTP/2 has no write deadline for a peer that reads nothing, so the server sends pings.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// A proxy has one subscription and a few acknowledgements under way.
const STREAMS: u32 = 16;

/// Subscriptions end at a shutdown. This is for peers that do not read the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that a connection needs.
#[derive(Debug)]
pub(super) struct Connections {
    channel: Arc<Channel>,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// The socket could not be set up.
    #[error("set up the socket")]
    Socket(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake")]
    Handshake(#[source] io::Error),
    /// The TLS handshake took longer than [`HANDSHAKE_TIMEOUT`].
    #[error("the TLS handshake took too long")]
    SlowHandshake,
    /// The requests failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

// === impl Connections ===

impl Connections {
    pub(super) fn new(channel: Channel, tls: Option<Arc<ServerConfig>>) -> Self {
        Self {
            channel: Arc::new(channel),
            tls,
            limits: Limits {
                http1: http1::Builder::new(),
                http2,
                faults: Faults::default(),
                lingers: Lingers::default(),
                strained: Arc::default(),
                head: HEADER_TIMEOUT,
                close: Some(CLOSE_TIMEOUT),
            },
        }
    }

    /// Serves until the peer closes the connection or `shutdown` asks.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        shutdown: Shutdown,
    ) -> Result<(), ServeError> {
        // Lines are small and must not wait for more.
        stream.set_nodelay(true).map_err(ServeError::Socket)?;
        let Some(tls) = &self.tls else {
            let protocol = Protocol::detect(&stream, HEADER_TIMEOUT).await?;
            return self.answer(Stall::new(stream), protocol, shutdown).await;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(tls));
        let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(Stall::new(stream)))
            .await
            .map_err(|_elapsed| ServeError::SlowHandshake)?
            .map_err(ServeError::Handshake)?;
        let protocol = Protocol::negotiated(stream.get_ref().1.alpn_protocol());
        self.answer(stream, protocol, shutdown).await
    }

    async fn answer<S>(
        &self,
        stream: S,
        protocol: Protocol,
        shutdown: Shutdown,
    ) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ends = shutdown.clone();
        let answer = |request, _leash| {
            let channel = Arc::clone(&self.channel);
            let ends = ends.clone();
            async move { channel.answer(request, ends).await }
        };
        let client = Accepted::unbudgeted(stream);
        connection::serve(
            client,
            protocol,
            &self.limits,
            answer,
            |_bare| None,
            shutdown,
        )
        .await?;
        Ok(())
    }
}

fn http2(builder: &mut http2::Builder<Streams>) {
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES);
}
