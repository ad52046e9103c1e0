//! What the requests of a connection and its stream are doing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use http::{Request, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

use crate::connection::head::RawHead;
use crate::connection::leash::Leash;

/// How much of an answer may wait in hyper for a client that reads slowly, before more of it is asked for.
const UNSENT: usize = 64 << 10;
/// How much of a request's body is read until the other connections of the core have their turn: the copies of
/// a body take half a millisecond for so much.
const TURN: usize = 1 << 20;

/// What is known of a connection to those who work on it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    running: AtomicUsize,
    /// The peer has not taken the last write.
    blocked: AtomicBool,
    /// Something was written since the request began.
    answered: AtomicBool,
    /// The request is HTTP/1.1, so its client knows interim answers.
    knows_interim: AtomicBool,
    /// Bytes that may still be read of a body before others have their turn.
    allowance: AtomicUsize,
    /// The stream is to be looked at.
    look: AtomicBool,
    /// The next look is due at once.
    soon: AtomicBool,
    /// Bytes of an answer that hyper has and the peer has not.
    unsent: AtomicUsize,
    /// Wakes the body that waits for them to be taken.
    waits: Mutex<Option<Waker>>,
    pub(super) leash: Arc<Leash>,
    /// Only the task of the connection locks it.
    pub(super) head: Mutex<RawHead>,
}

/// A request, until the body of its response has been sent or dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

/// The body of a response, which keeps its request running.
pub(super) struct Answer<B> {
    body: B,
    running: Running,
}

// === impl Activity ===

impl Activity {
    pub(super) fn begin(self: &Arc<Self>, request: &mut Request<Incoming>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        self.answered.store(false, Ordering::Relaxed);
        self.knows_interim
            .store(request.version() == Version::HTTP_11, Ordering::Relaxed);
        self.leash.begin();
        let mut head = self.head.lock();
        // Without a coding hyper knows how long the body is.
        let has_coding = request.body().size_hint().exact().is_none();
        if let Some(ambiguity) = head.judge(request.headers().len(), has_coding) {
            request.extensions_mut().insert(ambiguity);
        }
        head.clear();
        Running(Arc::clone(self))
    }

    /// Polls the connection, which has its turn.
    pub(super) fn turn<T>(&self, poll: impl FnOnce() -> T) -> T {
        self.allowance.store(TURN, Ordering::Relaxed);
        poll()
    }

    /// Whether more of a body may be read at this turn.
    pub(super) fn may_read(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) > 0
    }

    /// Takes note of what was read of a body.
    pub(super) fn has_read(&self, bytes: usize) {
        let allowance = self.allowance.load(Ordering::Relaxed);
        let rest = allowance.saturating_sub(bytes);
        self.allowance.store(rest, Ordering::Relaxed);
    }

    /// Requests so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_running() && !self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Whether an interim answer may be written now.
    pub(super) fn may_be_asked(&self) -> bool {
        self.knows_interim.load(Ordering::Relaxed)
            && !self.answered.load(Ordering::Relaxed)
            && self.leash.is_received()
    }

    /// Lets the stream be looked at when the connection is polled next.
    pub(super) fn look(&self) {
        self.look.store(true, Ordering::Relaxed);
    }

    /// Whether a look is due. It then is not any more.
    pub(super) fn takes_look(&self) -> bool {
        self.look.load(Ordering::Relaxed) && self.look.swap(false, Ordering::Relaxed)
    }

    /// Asks for a look as soon as an answer to a question may have come.
    pub(super) fn look_soon(&self) {
        self.soon.store(true, Ordering::Relaxed);
    }

    /// Whether the next look is due soon. It then is not any more.
    pub(super) fn takes_soon(&self) -> bool {
        self.soon.load(Ordering::Relaxed) && self.soon.swap(false, Ordering::Relaxed)
    }

    /// Takes note of a write.
    pub(super) fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(written)) = written else {
            return;
        };
        self.answered.store(true, Ordering::Relaxed);
        let unsent = self.unsent.load(Ordering::Relaxed);
        // Heads are not in the sum.
        self.unsent
            .store(unsent.saturating_sub(*written), Ordering::Relaxed);
        if unsent > UNSENT
            && let Some(waker) = self.waits.lock().take()
        {
            waker.wake();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Answer ===

impl<B> Answer<B> {
    pub(super) const fn new(body: B, running: Running) -> Self {
        Self { body, running }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let activity = &self.running.0;
        // hyper would take half a megabyte before it writes.
        if activity.unsent.load(Ordering::Relaxed) > UNSENT {
            *activity.waits.lock() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let size = data.remaining();
            self.running.0.unsent.fetch_add(size, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
