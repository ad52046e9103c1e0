//! The stream below hyper: sees what hyper does not look for.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use super::activity::Activity;
use crate::connection::accepted::Accepted;
use crate::connection::head::{Instead, of_hyper};
use crate::connection::left::has_left;
use crate::connection::limits::Limits;
use crate::memory::{CONNECTION, LONG_HEAD, Purpose, SHORT_HEAD};

/// What a client is asked that sends no more, to see whether it is still there. Every client of HTTP/1.1
/// passes over it; the kernel of one that has closed its socket answers with a reset.
const ASK: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How often the task of a connection may be polled until a request is read that has come as a whole.
const TURNS: u8 = 8;

/// A stream, and the bytes that were read from it before.
pub(super) struct Rewound<I, E> {
    pub(super) client: Accepted<I>,
    pub(super) before: Bytes,
    pub(super) activity: Arc<Activity>,
    /// Bytes of the head that is being read, and the number of the request before it.
    head: usize,
    after: u64,
    /// The last request whose client was asked whether it is still there, by its number.
    asked: u64,
    /// The client sends no more.
    ended: bool,
    /// How often its end was seen before the request was read to its own.
    early: u8,
    /// Nothing is owed to the client: it has left between two requests, or was cut.
    pub(super) is_cut: bool,
    /// See [`Limits::strained`].
    strained: Arc<AtomicBool>,
    refuse: E,
    instead: Option<Instead>,
}

impl<I, E> Rewound<I, E> {
    pub(super) fn new(
        client: Accepted<I>,
        activity: &Arc<Activity>,
        limits: &Limits,
        refuse: E,
    ) -> Self {
        Self {
            client,
            before: Bytes::new(),
            activity: Arc::clone(activity),
            head: 0,
            after: 0,
            asked: 0,
            ended: false,
            early: 0,
            is_cut: false,
            strained: Arc::clone(&limits.strained),
            refuse,
            instead: None,
        }
    }

    /// The connection is idle: what its last head held is free.
    pub(super) fn rest(&mut self) {
        self.head = 0;
        if let Some(room) = &mut self.client.room {
            // Less always fits.
            let _fits = room.resize(CONNECTION);
        }
    }

    /// Counts a head that is being read.
    fn count_head(&mut self, read: usize) -> io::Result<()> {
        let begun = self.activity.begun();
        if begun != self.after {
            (self.head, self.after) = (0, begun);
        }
        self.head = self.head.saturating_add(read);
        let Some(room) = &mut self.client.room else {
            return Ok(());
        };
        let more = CONNECTION + LONG_HEAD;
        if self.head <= SHORT_HEAD || room.bytes() >= more {
            return Ok(());
        }
        // Nothing is taken for it: it says whether heads may grow at all.
        if room.budget().take(Purpose::Head, 0) && room.resize(more) {
            Ok(())
        } else {
            self.is_cut = true;
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }

    /// A head has come, and its client may have left while it waited to be read.
    fn look_before(&mut self) -> io::Result<()> {
        let tcp = (self.client.socket)(&self.client.stream);
        if tcp.is_some_and(has_left) {
            self.is_cut = true;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Takes note of what was read of a head.
    fn note(&self, buffer: &ReadBuf<'_>, had: usize) {
        if !self.activity.is_running() {
            let read = buffer.filled().get(had..).unwrap_or_default();
            self.activity.head.lock().note(read);
        }
    }

    /// What the kernel has said of the socket so far. Asks it nothing.
    fn readiness(&self) -> Option<Ready> {
        let tcp = (self.client.socket)(&self.client.stream)?;
        let ready = pin!(tcp.ready(Interest::READABLE | Interest::WRITABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => ready.ok(),
            Poll::Pending => None,
        }
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.set_blocked(written.is_pending());
        written
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, E> Rewound<I, E> {
    /// The byte that ends a pause; `None` at the end of the stream. TLS offers no look without a read.
    pub(super) async fn first_byte(&mut self) -> io::Result<Option<Bytes>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        poll_fn(|cx| Pin::new(&mut self.client.stream).poll_read(cx, &mut buffer)).await?;
        let read = buffer.filled();
        Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read)))
    }

    /// A client sends no more while its request runs. True if it may wait for the answer.
    fn may_wait(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let request = self.activity.begun();
        if self.asked == request {
            return Ok(true);
        }
        if !self.activity.may_be_asked() {
            return Ok(false);
        }
        self.asked = request;
        self.activity.look_soon();
        match Pin::new(&mut self.client.stream).poll_write(cx, ASK)? {
            Poll::Ready(written) if written < ASK.len() => Err(io::ErrorKind::WriteZero.into()),
            // A socket that takes nothing finds out by itself.
            Poll::Ready(_) | Poll::Pending => Ok(true),
        }
    }

    /// Looks whether the client of a running request is still there: hyper, with bytes of the next request
    /// in its buffer or in the kernel's, does not.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(ready) = self.readiness() else {
            return Ok(());
        };
        if ready.is_write_closed() {
            self.is_cut = true;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if ready.is_read_closed() {
            // Without an answer to the question, writing the answer finds out.
            self.may_wait(cx)?;
        }
        Ok(())
    }
}

impl<I, E: Fn(StatusCode) -> Option<Bytes>> Rewound<I, E> {
    /// Whether another answer goes out than that which hyper writes.
    fn is_replaced(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none()
            && let Some(status) = of_hyper(bytes)
            && !self.activity.is_running()
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
            let written = Pin::new(&mut self.client.stream).poll_write(cx, instead.rest());
            instead.written(ready!(written)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, E: Unpin> AsyncRead for Rewound<I, E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let runs = self.activity.is_running();
        let had = buffer.filled().len();
        if !self.before.is_empty() {
            let length = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before.split_to(length));
            self.note(buffer, had);
            return Poll::Ready(Ok(()));
        }
        if self.ended && runs {
            return Poll::Pending;
        }
        if runs && !self.activity.may_read() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(Pin::new(&mut self.client.stream).poll_read(cx, buffer))?;
        self.note(buffer, had);
        let read = buffer.filled().len() - had;
        if !runs {
            self.count_head(read)?;
            if read == 0 && buffer.remaining() > 0 {
                self.is_cut = true;
            } else if self.strained.load(Ordering::Relaxed) {
                self.look_before()?;
            }
        } else if read > 0 {
            self.activity.has_read(read);
        } else if buffer.remaining() > 0 {
            // hyper would take it for gone.
            if self.may_wait(cx)? {
                self.ended = true;
                return Poll::Pending;
            }
            // hyper reads ahead of the request that it hands out, which may be whole.
            if !self.activity.leash.is_received() && self.early < TURNS {
                self.early += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I, E> AsyncWrite for Rewound<I, E>
where
    I: AsyncRead + AsyncWrite + Unpin,
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
        let written = Pin::new(&mut self.client.stream).poll_write(cx, bytes);
        self.activity.wrote(&written);
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
        let written = Pin::new(&mut self.client.stream).poll_write_vectored(cx, parts);
        self.activity.wrote(&written);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.takes_look() {
            self.look(cx)?;
        }
        let flushed = Pin::new(&mut self.client.stream).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            // Closing it is enough.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.client.stream).poll_shutdown(cx)
    }
}
