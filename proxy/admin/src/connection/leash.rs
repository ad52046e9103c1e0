//! What ends an exchange from outside. hyper asks for the body of an answer only when the client takes more
//! of it, so a deadline that the body looks at is never seen while the client takes nothing.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// An answer whose client takes nothing of it for this long is given up, as [`crate::stall`] does for a whole
/// connection.
const STALL: Duration = Duration::from_secs(30);
/// The answer itself may notice its deadline first, and end with a word to the client.
const GRACE: Duration = Duration::from_secs(1);

/// What is known of one exchange to those who may end it.
#[derive(Debug, Default)]
pub struct Leash {
    deadline: Mutex<Option<Instant>>,
    /// Odd while it is for the client to take a part of the answer; grows with each part.
    turns: AtomicU32,
    /// The request has been read to its end.
    received: AtomicBool,
    /// Of the task that answers, on HTTP/2.
    waker: Mutex<Option<Waker>>,
}

/// What was seen of an exchange at the last look.
#[derive(Debug)]
pub(super) struct Seen {
    turns: u32,
    since: Instant,
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

    /// Takes note of the task that answers. A task is woken as a whole, so once is enough.
    pub(super) async fn answered_here(&self) {
        poll_fn(|cx| {
            *self.waker.lock() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Lets the task that answers look at its state.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.lock().as_ref() {
            waker.wake_by_ref();
        }
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

    /// Says whether it is for the client to take a part of the answer.
    pub(super) fn turn(&self, is_with_client: bool) {
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
