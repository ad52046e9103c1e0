//! HTTP/1.1: requests one after the other, and long pauses between them.
//!
//! hyper keeps its state and its buffers, some 18 KB, for as long as a connection is open, and most
//! connections of clients' pools are idle. An idle one is taken apart here until its next byte comes.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::limits::{ConnectionError, Limits, close};
use crate::shutdown::Shutdown;

/// How often a connection looks whether it is idle. Long enough that a busy one stays together between
/// two requests, short enough that a burst of connections is soon small again.
const LOOK: Duration = Duration::from_millis(500);

/// What the requests of a connection and its stream are doing.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    running: AtomicUsize,
    /// The peer has not taken the last write.
    blocked: AtomicBool,
}

/// A request, until the body of its response has been sent or dropped.
#[derive(Debug)]
struct Running(Arc<Activity>);

/// The body of a response, which keeps its request running.
struct Answer<B> {
    body: B,
    _running: Running,
}

/// A stream, and the bytes that were read from it before.
struct Rewound<I> {
    stream: I,
    before: Bytes,
    activity: Arc<Activity>,
}

/// How long a connection has been without a new request.
struct Quiet {
    timer: Pin<Box<Sleep>>,
    /// The timer will wake the task.
    registered: bool,
    since: Instant,
    /// Requests at the last look.
    begun: u64,
    /// A part of the next head has come, so the connection stays together.
    amid_head: bool,
}

/// Why a connection is polled no further.
enum Pause {
    Ended(hyper::Result<()>),
    Idle,
    Late,
    Stopped,
}

/// Serves until the peer closes the connection, `head` passes without a request, or a shutdown.
pub(super) async fn serve<I, F, R, B>(
    stream: I,
    limits: &Limits,
    answer: F,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::default());
    let mut service = service_fn(|request| {
        let running = activity.begin();
        let answered = answer(request);
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, running)))
        }
    });
    let asked = shutdown.clone();
    let mut stop = pin!(shutdown.requested());
    let mut quiet = Quiet::new();
    let mut io = Rewound::new(stream, &activity);
    loop {
        // Boxed, so that nothing of it is left while it is taken apart.
        let mut connection = Box::new(limits.http1.serve_connection(TokioIo::new(io), service));
        let pause = poll_fn(|cx| {
            if asked.is_requested() {
                return Poll::Ready(Pause::Stopped);
            }
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(Pause::Ended(ended));
            }
            // Once is enough: it wakes the same task, which asks above.
            if !quiet.registered && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Pause::Stopped);
            }
            quiet.poll(cx, &activity, limits.head)
        });
        match pause.await {
            Pause::Ended(ended) => return ended.map_err(ConnectionError::Http),
            Pause::Late => return Err(ConnectionError::Silent),
            Pause::Stopped => {
                Pin::new(&mut *connection).graceful_shutdown();
                return close(connection, limits.close).await;
            }
            Pause::Idle => {}
        }
        let parts = connection.into_parts();
        (io, service) = (parts.io.into_inner(), parts.service);
        io.before = parts.read_buf;
        quiet.amid_head = !io.before.is_empty();
        if !quiet.amid_head {
            let late = quiet.since + limits.head;
            io.before = tokio::select! {
                first = io.first_byte() => match first.map_err(ConnectionError::Greeting)? {
                    Some(first) => first,
                    None => return Ok(()),
                },
                () = &mut stop => return io.stream.shutdown().await.map_err(ConnectionError::Greeting),
                () = sleep_until(late) => return Err(ConnectionError::Silent),
            };
        }
        quiet.registered = false;
    }
}

// === impl Activity ===

impl Activity {
    fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0 && !self.blocked.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Quiet ===

impl Quiet {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(sleep_until(now + LOOK)),
            registered: false,
            since: now,
            begun: 0,
            amid_head: false,
        }
    }

    /// Looks once in a while: the timer is polled when it has fired, not each time.
    fn poll(&mut self, cx: &mut Context<'_>, activity: &Activity, head: Duration) -> Poll<Pause> {
        if self.registered && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.registered = true;
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            self.timer.as_mut().reset(now + LOOK);
            let begun = activity.begun.load(Ordering::Relaxed);
            if begun != self.begun || !activity.is_idle() {
                (self.begun, self.since, self.amid_head) = (begun, now, false);
            } else if now.saturating_duration_since(self.since) >= head {
                return Poll::Ready(Pause::Late);
            } else if !self.amid_head {
                return Poll::Ready(Pause::Idle);
            }
        }
    }
}

// === impl Rewound ===

impl<I> Rewound<I> {
    fn new(stream: I, activity: &Arc<Activity>) -> Self {
        Self {
            stream,
            before: Bytes::new(),
            activity: Arc::clone(activity),
        }
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let blocked = written.is_pending();
        self.activity.blocked.store(blocked, Ordering::Relaxed);
        written
    }
}

impl<I: AsyncRead + Unpin> Rewound<I> {
    /// The byte that ends a pause; `None` at the end of the stream. TLS offers no look without a read.
    async fn first_byte(&mut self) -> io::Result<Option<Bytes>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).await?;
        let read = buffer.filled();
        Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read)))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewound<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// === impl Answer ===

impl<B> Answer<B> {
    const fn new(body: B, running: Running) -> Self {
        Self {
            body,
            _running: running,
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
