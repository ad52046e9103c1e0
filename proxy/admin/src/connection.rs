//! One HTTP connection of a server: its protocol, its requests and its graceful end.
//!
//! Works on any stream (TCP or TLS) and refuses to know what is served. Accepting connections, TLS
//! and bounds on how many there are belong to the caller.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::shutdown::Shutdown;

mod accepted;
mod faults;
mod head;
mod http1;
mod http2;
mod leash;
mod leashed;
mod left;
mod limits;
mod lingers;
mod streams;
#[cfg(test)]
mod tests;

pub use accepted::Accepted;
pub use faults::Faults;
pub use head::Ambiguity;
pub use leash::Leash;
pub use left::has_left;
pub use limits::{ConnectionError, Limits};
pub use lingers::Lingers;
pub use streams::Streams;

/// The name of HTTP/2 in TLS (RFC 9113, 3.2).
pub const ALPN_H2: &[u8] = b"h2";

/// The request line of HTTP/2's preface (RFC 9113, 3.4). No HTTP/1.1 request begins with it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// First pause between two looks at a client that has sent a part of the preface: its socket stays
/// readable, so there is nothing to wait for. Each pause is twice as long as the one before.
const PEEK_AGAIN: Duration = Duration::from_millis(5);
/// The longest one, or many such clients keep a core busy.
const PEEK_SELDOM: Duration = Duration::from_millis(200);

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

// === impl Protocol ===

impl Protocol {
    /// The protocol that a TLS handshake agreed on. Without ALPN it is HTTP/1.1.
    #[must_use]
    pub fn negotiated(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(ALPN_H2) {
            Self::Http2
        } else {
            Self::Http1
        }
    }

    /// The protocol of a client on plain text, by its first bytes. The preface of HTTP/2 may come
    /// in pieces. The bytes stay in the stream. A TLS handshake counts as HTTP/1.1, so that a
    /// server may bound the wait for its first byte here as well.
    ///
    /// # Errors
    /// The client sent too little within `longest`, or closed the connection.
    pub async fn detect(stream: &TcpStream, longest: Duration) -> Result<Self, ConnectionError> {
        match timeout(longest, peek(stream)).await {
            Ok(detected) => detected.map_err(ConnectionError::Greeting),
            Err(_elapsed) => Err(ConnectionError::Silent),
        }
    }
}

async fn peek(stream: &TcpStream) -> io::Result<Protocol> {
    let mut first = [0; PREFACE.len()];
    let mut pause = PEEK_AGAIN;
    loop {
        let length = stream.peek(&mut first).await?;
        let begun = first.get(..length).unwrap_or_default();
        if begun.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if begun == PREFACE {
            return Ok(Protocol::Http2);
        }
        if !PREFACE.starts_with(begun) {
            return Ok(Protocol::Http1);
        }
        sleep(pause).await;
        pause = PEEK_SELDOM.min(pause * 2);
    }
}

/// Answers the requests of one connection until the peer closes it. After a `shutdown` the requests
/// under way are finished and no further one is taken. Before, while the shutdown is `leaving`, answers on
/// HTTP/1.1 close the connection, and from `draining` on one on HTTP/2 ends with its last stream.
///
/// `answer` cannot fail: a failed request is a response too. On HTTP/2 its futures run as tasks of
/// their own, several at once. By its leash an exchange says when it must end. `refuse` gives the whole
/// answer to a head on HTTP/1.1 that hyper would answer with a bare status; `None` leaves it so.
///
/// # Errors
/// The connection ended in any other way. For a log: the peer has got no further response.
pub async fn serve<I, F, R, B, E>(
    client: Accepted<I>,
    protocol: Protocol,
    limits: &Limits,
    answer: F,
    refuse: E,
    shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>, Arc<Leash>) -> R,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    E: Fn(StatusCode) -> Option<Bytes> + Unpin,
{
    match protocol {
        Protocol::Http1 => http1::serve(client, limits, answer, refuse, shutdown).await,
        // Boxed, or connections of HTTP/1.1 would be as large.
        Protocol::Http2 => Box::pin(http2::serve(client, limits, answer, shutdown)).await,
    }
}
