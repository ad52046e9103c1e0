//! One connection: handshake, requests, and its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy_admin::shutdown::Shutdown;
use proxy_admin::stall::Stall;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Channel;
use crate::tls::ALPN_H2;

/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a request's headers, also between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy asks with a token and a digest.
const HEADER_BYTES: u32 = 32 * 1024;

/// HTTP/2 has no write deadline of its own for a peer that reads nothing, so it is asked for a sign
/// of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// A proxy has one subscription and a few acknowledgements under way.
const STREAMS: u32 = 16;

/// Subscriptions end by themselves when asked; this is for peers that don't read it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the peer goes or `shutdown` asks; the error is for the log.
pub(super) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    channel: Arc<Channel>,
    shutdown: Shutdown,
) -> Result<(), String> {
    // Lines are small and must not wait for more.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        let h2 = prior_knowledge(&stream).await?;
        return requests(Stall::new(stream), h2, channel, shutdown).await;
    };
    let stream = Stall::new(stream);
    let stream = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream))
        .await
        .map_err(|_elapsed| "handshake too slow".to_owned())?
        .map_err(|error| format!("handshake: {error}"))?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    requests(stream, h2, channel, shutdown).await
}

/// Whether a plain-text peer begins with HTTP/2's preface, of which no other method has the start.
async fn prior_knowledge(stream: &TcpStream) -> Result<bool, String> {
    let mut start = [0; 3];
    let peeked = timeout(HEADER_TIMEOUT, stream.peek(&mut start)).await;
    peeked
        .map_err(|_elapsed| "sent nothing".to_owned())?
        .map_err(|error| error.to_string())?;
    Ok(&start == b"PRI")
}

async fn requests<S>(
    stream: S,
    h2: bool,
    channel: Arc<Channel>,
    shutdown: Shutdown,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut asked = shutdown.clone();
    let service = service_fn(move |request| {
        let channel = Arc::clone(&channel);
        let shutdown = shutdown.clone();
        async move { Ok::<_, Infallible>(channel.answer(request, shutdown).await) }
    });
    let io = TokioIo::new(stream);
    // The two connection types have no common trait.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                () = asked.requested() => connection.as_mut().graceful_shutdown(),
            }
            match timeout(CLOSE_TIMEOUT, connection).await {
                Ok(ended) => ended.map_err(|error| error.to_string()),
                Err(_elapsed) => Err("did not close in time".to_owned()),
            }
        }};
    }
    if h2 {
        drive!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_INTERVAL)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_BYTES)
                .serve_connection(io, service)
        )
    } else {
        drive!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(io, service)
        )
    }
}
