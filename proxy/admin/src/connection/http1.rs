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
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::head::{Instead, RawHead, TwoLengths, of_hyper};
use super::limits::{ConnectionError, Limits, close};
use crate::shutdown::Shutdown;

/// How often a connection looks whether it is idle. Long enough that a busy one stays together between
/// two requests, short enough that a burst of connections is soon small again.
const LOOK: Duration = Duration::from_millis(500);

/// How long, and how far, a closed connection is read on. A client that is still sending would get a reset
/// instead of the answer.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_BYTES: usize = 64 << 20;
/// The silence that ends it sooner.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// What is read at once of what nothing comes of.
const LINGER_READ: usize = 8 << 10;

/// What the requests of a connection and its stream are doing.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    running: AtomicUsize,
    /// The peer has not taken the last write.
    blocked: AtomicBool,
    /// Only the task of the connection locks it.
    head: Mutex<RawHead>,
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
struct Rewound<I, E> {
    stream: I,
    before: Bytes,
    activity: Arc<Activity>,
    refuse: E,
    instead: Option<Instead>,
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
pub(super) async fn serve<I, F, R, B, E>(
    stream: I,
    limits: &Limits,
    answer: F,
    refuse: E,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    E: Fn(StatusCode) -> Option<Bytes> + Unpin,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::default());
    let mut service = service_fn(|mut request: Request<Incoming>| {
        let running = activity.begin(&mut request);
        let answered = answer(request);
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, running)))
        }
    });
    let asked = shutdown.clone();
    let mut stop = pin!(shutdown.requested());
    let mut quiet = Quiet::new();
    let mut io = Rewound::new(stream, &activity, refuse);
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
            Pause::Ended(ended) => {
                let mut stream = connection.into_parts().io.into_inner().stream;
                tokio::select! {
                    () = linger(&mut stream) => {}
                    () = &mut stop => {}
                }
                return ended.map_err(ConnectionError::Http);
            }
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
        activity.head.lock().clear();
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

/// Reads on until the client closes its side too, or for a bounded time and size.
async fn linger<I: AsyncRead + Unpin>(stream: &mut I) {
    let read = async {
        let mut bytes = vec![0; LINGER_READ];
        let mut total = 0;
        while total < LINGER_BYTES {
            match timeout(LINGER_SILENCE, stream.read(&mut bytes)).await {
                Ok(Ok(size @ 1..)) => total += size,
                Ok(Ok(_) | Err(_)) | Err(_) => return,
            }
        }
    };
    // Boxed, or every connection would be as large.
    timeout(LINGER, Box::pin(read)).await.ok();
}

// === impl Activity ===

impl Activity {
    fn begin(self: &Arc<Self>, request: &mut Request<Incoming>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        let mut head = self.head.lock();
        if head.has_two_lengths(request.headers()) {
            request.extensions_mut().insert(TwoLengths);
        }
        head.clear();
        Running(Arc::clone(self))
    }

    /// Takes note of what was read.
    fn read(&self, bytes: &[u8]) {
        if self.running.load(Ordering::Relaxed) == 0 {
            self.head.lock().note(bytes);
        }
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

impl<I, E> Rewound<I, E> {
    fn new(stream: I, activity: &Arc<Activity>, refuse: E) -> Self {
        Self {
            stream,
            before: Bytes::new(),
            activity: Arc::clone(activity),
            refuse,
            instead: None,
        }
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let blocked = written.is_pending();
        self.activity.blocked.store(blocked, Ordering::Relaxed);
        written
    }
}

impl<I, E: Fn(StatusCode) -> Option<Bytes>> Rewound<I, E> {
    /// Whether another answer goes out than that which hyper writes.
    fn is_replaced(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none()
            && let Some(status) = of_hyper(bytes)
            && self.activity.running.load(Ordering::Relaxed) == 0
        {
            self.instead = (self.refuse)(status).map(Instead::new);
        }
        self.instead.is_some()
    }
}

impl<I: AsyncWrite + Unpin, E> Rewound<I, E> {
    fn poll_replaced(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(instead) = &mut self.instead
            && !instead.rest().is_empty()
        {
            let written = Pin::new(&mut self.stream).poll_write(cx, instead.rest());
            instead.written(ready!(written)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin, E> Rewound<I, E> {
    /// The byte that ends a pause; `None` at the end of the stream. TLS offers no look without a read.
    async fn first_byte(&mut self) -> io::Result<Option<Bytes>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).await?;
        let read = buffer.filled();
        Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read)))
    }
}

impl<I: AsyncRead + Unpin, E: Unpin> AsyncRead for Rewound<I, E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        if self.before.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let length = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before.split_to(length));
        }
        let read = buffer.filled().get(known..);
        self.activity.read(read.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<I, E> AsyncWrite for Rewound<I, E>
where
    I: AsyncWrite + Unpin,
    E: Fn(StatusCode) -> Option<Bytes> + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes) {
            let written = self.poll_replaced(cx).map_ok(|()| bytes.len());
            return self.noted(written);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.first().map_or(&[][..], |part| &**part);
        if self.is_replaced(first) {
            return self.as_mut().poll_write(cx, first);
        }
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
