//! What bounds a connection, and how it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use tokio::time::timeout;

use super::faults::Faults;
use super::lingers::Lingers;
use super::streams::Streams;

/// The bounds of a connection. hyper's own bounds (size of headers, windows, streams, pings) are those of
/// its builders.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How HTTP/1.1 is served; without a timer, see `head`.
    pub http1: http1::Builder,
    /// Sets how HTTP/2 is served. Each connection has a builder of its own.
    pub http2: fn(&mut http2::Builder<Streams>),
    /// Counts the errors of HTTP/2.
    pub faults: Faults,
    /// The turn of closed connections on HTTP/1.1.
    pub lingers: Lingers,
    /// Set while requests may have waited until their clients left: one on HTTP/1.1 whose client has closed its
    /// sending side is then not begun.
    pub strained: Arc<AtomicBool>,
    /// Longest wait on HTTP/1.1 for the whole head of a request, the pause before it included. Looked at
    /// once a second.
    pub head: Duration,
    /// Longest wait for the last response after a shutdown; `None` waits for as long as it takes.
    pub close: Option<Duration>,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer sent nothing, or a part of a preface, for too long.
    #[error("the peer sent no request in time")]
    Silent,
    /// The peer closed the connection, or the system failed it, before the first request.
    #[error("wait for the first request")]
    Greeting(#[source] io::Error),
    /// The peer broke the protocol or a limit, or went away.
    #[error("serve requests")]
    Http(#[source] hyper::Error),
    /// The last request has reached its deadline, and its client takes nothing of the answer.
    #[error("the client takes nothing of an answer whose time is over")]
    Overdue,
    /// The budget of the process has no room for the connection.
    #[error("no memory is left for the connection")]
    Memory,
    /// The last response took longer than [`Limits::close`].
    #[error("the connection did not close in time")]
    Unclosed,
}

/// Waits for the last response of a connection that takes no further request.
pub(super) async fn close(
    connection: impl Future<Output = hyper::Result<()>>,
    longest: Option<Duration>,
) -> Result<(), ConnectionError> {
    let ended = match longest {
        Some(longest) => match timeout(longest, connection).await {
            Ok(ended) => ended,
            Err(_elapsed) => return Err(ConnectionError::Unclosed),
        },
        None => connection.await,
    };
    ended.map_err(ConnectionError::Http)
}
