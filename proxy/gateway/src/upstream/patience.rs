//! How long a call waits for the head of its answer.

use std::time::{Duration, Instant};

use proxy_admin::clock;

/// The bounds of the wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// When the call begins.
    pub(crate) now: Instant,
    /// From the end of the request, and while it is sent, from the last progress of that.
    pub(crate) answer: Duration,
    /// The end of everything.
    pub(crate) until: Instant,
}

/// A wait on a connection that knows how much of the request it has taken.
#[derive(Debug)]
pub(super) struct Progress {
    patience: Patience,
    unsent: Option<usize>,
    moved: Instant,
}

impl Patience {
    /// The end of a wait without progress.
    pub(super) fn end(self) -> Instant {
        self.until.min(self.now + self.answer)
    }
}

impl Progress {
    pub(super) const fn new(patience: Patience) -> Self {
        Self {
            patience,
            unsent: None,
            moved: patience.now,
        }
    }

    /// When the wait ends, with these bytes left to send. Most requests are out at once, and need no look at
    /// the clock.
    pub(super) fn end(&mut self, unsent: usize) -> Instant {
        let before = self.unsent.replace(unsent);
        if before.is_some_and(|before| before != unsent) {
            self.moved = clock::instant();
        }
        self.patience.until.min(self.moved + self.patience.answer)
    }
}
