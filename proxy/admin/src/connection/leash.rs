//! What ends an exchange from outside. hyper asks for the body of an answer only when the client takes more
//! of it, so a deadline that the body looks at is never seen while the client takes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

/// An answer whose client takes nothing of it for this long is given up, as [`crate::stall`] does for a whole
/// connection.
const STALL: Duration = Duration::from_secs(30);
/// The answer itself may notice its deadline first, and end with a word to the client.
const GRACE: Duration = Duration::from_secs(1);

/// Most of an answer that may wait in hyper for a client that takes nothing of it: a frame of HTTP/2.
const PIECE: usize = 16 << 10;

/// What is known of one exchange to those who may end it.
#[derive(Debug, Default)]
pub struct Leash {
    deadline: Mutex<Option<Instant>>,
    /// Odd while it is for the client to take a part of the answer; grows with each part.
    turns: AtomicU32,
    /// The request has been read to its end.
    received: AtomicBool,
}

/// What was seen of an exchange at the last look.
#[derive(Debug)]
pub(super) struct Seen {
    turns: u32,
    since: Instant,
}

/// The body of an answer on a leash, in pieces: hyper asks for the next one once the client takes the first byte
/// of this one.
#[derive(Debug)]
pub(super) struct Leashed<B> {
    body: B,
    /// What is left of a frame.
    rest: Bytes,
    leash: Arc<Leash>,
}

// === impl Leash ===

impl Leash {
    /// The exchange ends at `deadline`, whatever its client does.
    pub fn end_at(&self, deadline: std::time::Instant) {
        *self.deadline.lock() = Some(deadline.into());
    }

    /// The request has been read to its end: on HTTP/1.1 a client that sends no more may still wait for its
    /// answer.
    pub fn received(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// Another exchange begins, on the same connection.
    pub(super) fn begin(&self) {
        *self.deadline.lock() = None;
        self.received.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the deadline has passed, and the exchange has not noticed.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline
            .lock()
            .is_some_and(|deadline| now >= deadline + GRACE)
    }

    fn turn(&self, is_with_client: bool) {
        let turns = self.turns.load(Ordering::Relaxed);
        if (turns % 2 == 1) != is_with_client {
            self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
        }
    }
}

// === impl Seen ===

impl Seen {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            turns: 0,
            since: now,
        }
    }

    /// Whether the client has taken nothing for too long. To be asked once in a while.
    pub(super) fn is_stalled(&mut self, leash: &Leash, now: Instant) -> bool {
        let turns = leash.turns.load(Ordering::Relaxed);
        if turns.is_multiple_of(2) || turns != self.turns {
            (self.turns, self.since) = (turns, now);
        }
        now.saturating_duration_since(self.since) >= STALL
    }
}

// === impl Leashed ===

impl<B> Leashed<B> {
    /// An answer whose head goes out now. Its body is not asked for until the client takes some of it.
    pub(super) fn new(body: B, leash: Arc<Leash>) -> Self {
        leash.turn(true);
        Self {
            body,
            rest: Bytes::new(),
            leash,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Leashed<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leashed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = self.poll_piece(cx);
        // What was given before has been taken, or this would not be asked for more. Two turns for a part,
        // so that each is seen.
        self.leash.turn(false);
        self.leash.turn(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    // Asked for before the first frame only.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
