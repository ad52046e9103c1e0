//! HTTP/2 to backends that speak nothing else: by hyper.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use proxy_admin::{errors, task};
use tracing::debug;

use super::failure::{Failed, Lost};
use super::stream::Stream;
use crate::tail::{Outbound, Tail};

/// Window of one stream: the most of an answer that a slow client may leave in our memory.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection. Large, since h2 gives small frames (SSE) half of it as a budget before it
/// treats them as a flood.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// A connection with streams that is silent for this long is pinged, and is dead without an answer in
/// the same time again: all calls would go to it, and wait for what the calls may take.
const PING: Duration = Duration::from_secs(10);
/// hyper says how many streams a server takes, and not when it has said so. A greeting is there after a
/// round trip.
const GREETING_STEP: Duration = Duration::from_millis(1);

/// A connection, shared by the streams on it.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<Upload>,
    /// Driven by a task until it ends; here, for what the server allows.
    connection: Arc<Mutex<Option<Driven>>>,
    /// Streams on it.
    load: AtomicUsize,
    /// More streams than this were refused, whatever the server allows.
    ceiling: AtomicUsize,
}

type Driven = Connection<TokioIo<Stream>, Upload, TokioExecutor>;

// === impl Link ===

impl Link {
    /// Greets the server, and waits for its greeting: before that, nothing says how many streams it takes,
    /// and it refuses the others. The connection lives until its link is gone and its streams have ended.
    pub(super) async fn greet(stream: Stream) -> Result<Self, String> {
        let greeted = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(0)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = greeted.map_err(|error| errors::chain(&error))?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        task::spawn("backend connection", drive(Arc::clone(&connection)));
        let link = Self {
            sender,
            connection,
            load: AtomicUsize::new(0),
            ceiling: AtomicUsize::new(usize::MAX),
        };
        while link.most() == 0 {
            if link.sender.is_closed() {
                return Err("the connection ended before the server's SETTINGS".to_owned());
            }
            tokio::time::sleep(GREETING_STEP).await;
        }
        Ok(link)
    }

    /// How many streams it takes.
    pub(super) fn most(&self) -> usize {
        let connection = self.connection.lock();
        let allowed = connection
            .as_ref()
            .map_or(0, Driven::current_max_send_streams);
        allowed.min(self.ceiling.load(Ordering::Relaxed))
    }

    /// Whether new streams can be opened.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && self.ceiling.load(Ordering::Relaxed) > 0
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// A stream begins.
    pub(super) fn begin(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream has ended.
    pub(super) fn end(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// No stream begins any more.
    pub(super) fn retire(&self) {
        self.ceiling.store(0, Ordering::Relaxed);
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Upload>) -> Result<Response<Incoming>, Lost> {
        let mut error = match self.sender.clone().try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let cause = errors::chain(error.error());
        // It comes back if no part of it was sent.
        if error.take_message().is_some() {
            return Err(Lost {
                failed: Failed::unreachable(cause),
                is_unanswered: true,
            });
        }
        let is_unanswered = self.is_unprocessed(error.error());
        let failed = Failed::broke_off(cause);
        Err(Lost {
            failed,
            is_unanswered,
        })
    }

    /// Whether the server says that it has not looked at the request: RFC 9113, section 8.7.
    fn is_unprocessed(&self, error: &hyper::Error) -> bool {
        let cause = std::error::Error::source(error);
        let Some(error) = cause.and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
            return false;
        };
        // h2 gives the server's GOAWAY to the streams above the last one that it names, and to no others.
        if error.is_go_away() && error.is_remote() {
            self.retire();
            return true;
        }
        let is_refused = error.is_reset()
            && error.is_remote()
            && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        if is_refused {
            // The server takes fewer than it says, or has changed its mind.
            let fewer = self.load().saturating_sub(1);
            self.ceiling.fetch_min(fewer, Ordering::Relaxed);
        }
        is_refused
    }
}

/// Drives a connection to its end. With that its sender is closed.
async fn drive(connection: Arc<Mutex<Option<Driven>>>) {
    let ended = poll_fn(|cx| match connection.lock().as_mut() {
        Some(driven) => Pin::new(driven).poll(cx),
        None => Poll::Ready(Ok(())),
    });
    let ended = ended.await;
    let driven = connection.lock().take();
    drop(driven);
    if let Err(error) = ended {
        debug!(error = errors::chain(&error), "backend connection ended");
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Upload(Outbound);

impl From<Outbound> for Upload {
    fn from(body: Outbound) -> Self {
        Self(body)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(piece) = self.0.pieces.take_next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(tail) = &mut self.0.tail else {
            return Poll::Ready(None);
        };
        let piece = ready!(tail.poll_next(cx));
        if piece.is_none() {
            self.0.tail = None;
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.pieces.is_empty() && self.0.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let tail = self.0.tail.as_deref().map_or(0, Tail::left);
        let left = self.0.pieces.len().saturating_add(tail);
        SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX))
    }
}
