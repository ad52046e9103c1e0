//! The memory of a process: how much it may use, and one budget for all that it holds for its peers.
//!
//! Bytes are counted before they are there, by whoever is about to hold them, and nothing here allocates
//! them. What cannot be counted in time, such as the kernel's buffers, is what the budget leaves free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

mod limit;
mod size;
#[cfg(test)]
mod tests;

pub use limit::{default_budget, limit};
pub use size::{Size, SizeError};

/// What a connection costs while it is open: its task, its buffers of 8 KB, its share of TLS.
pub const CONNECTION: usize = 24 << 10;
/// What the head of a request may cost beyond that: it is there twice, in buffers that double with what comes.
pub const LONG_HEAD: usize = 96 << 10;
/// The part of a head that a connection's own cost covers.
pub const SHORT_HEAD: usize = 8 << 10;

/// The budget is divided in eighths.
const EIGHTHS: usize = 8;

/// What bytes are held for. The small and necessary may use what is left when the large may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An open connection. All of them have half of the budget at most, so that requests find room.
    Connection,
    /// A head that is unusually long. It yields to new connections.
    Head,
    /// A request that runs, without its body.
    Request,
    /// A body, or an answer that is kept.
    Body,
}

/// How much a process may hold, and how much it holds. Counts with atomics only.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
    /// The part of it that is held for connections and their heads.
    connections: AtomicUsize,
    /// Idle connections wait here, the one that was idle first in front.
    room: Notify,
    /// How many do.
    idle: AtomicUsize,
}

/// Bytes of a budget, given back on drop.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    purpose: Purpose,
    bytes: usize,
}

// === impl Purpose ===

impl Purpose {
    /// The eighths of the budget up to which all together may hold, for this.
    const fn of_all(self) -> usize {
        match self {
            Self::Connection | Self::Request => EIGHTHS,
            Self::Body => 7,
            Self::Head => 6,
        }
    }

    /// The eighths of the budget up to which connections may hold, for this.
    const fn of_connections(self) -> Option<usize> {
        match self {
            Self::Connection => Some(4),
            Self::Head => Some(3),
            Self::Request | Self::Body => None,
        }
    }
}

// === impl Budget ===

impl Budget {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            room: Notify::new(),
            idle: AtomicUsize::new(0),
        })
    }

    /// A budget that is never spent, for servers whose peers are trusted.
    #[must_use]
    pub fn unlimited() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// How much may be held.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How much is held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether more than half would be held with `more` bytes: from here on no one may hold much alone.
    #[must_use]
    pub fn is_half_used(&self, more: usize) -> bool {
        self.held().saturating_add(more) > self.limit / 2
    }

    /// Whether what is only kept for speed is to be given up.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.held() > self.eighths(6)
    }

    /// Whether connections that are slow with their heads are to be cut.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.is_tight() || self.connections.load(Ordering::Relaxed) > self.eighths(2)
    }

    /// Takes bytes, or none of them. One atomic addition, and one more for a connection.
    #[must_use]
    pub fn take(&self, purpose: Purpose, bytes: usize) -> bool {
        if !add(&self.held, bytes, self.eighths(purpose.of_all())) {
            return false;
        }
        let Some(eighths) = purpose.of_connections() else {
            return true;
        };
        let taken = add(&self.connections, bytes, self.eighths(eighths));
        if !taken {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Takes bytes that are there already, so that others see them. May exceed the limit.
    pub fn force(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back that were taken for the same purpose.
    pub fn give_back(&self, purpose: Purpose, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        if purpose.of_connections().is_some() {
            self.connections.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Takes bytes until the value is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Option<Held> {
        self.take(purpose, bytes).then(|| Held {
            budget: Arc::clone(self),
            purpose,
            bytes,
        })
    }

    /// Asks up to `count` idle connections to close, those first that were idle first.
    pub fn close_idle(&self, count: usize) {
        // Not more than there are: the next one to become idle would be asked at once.
        for _ in 0..count.min(self.idle.load(Ordering::Relaxed)) {
            self.room.notify_one();
        }
    }

    /// Ready when an idle connection should close to make room.
    pub async fn room_is_needed(&self) {
        let _idle = Idle::new(&self.idle);
        self.room.notified().await;
    }

    const fn eighths(&self, eighths: usize) -> usize {
        if eighths == EIGHTHS {
            self.limit
        } else {
            self.limit / EIGHTHS * eighths
        }
    }
}

/// An idle connection, while it is.
struct Idle<'a>(&'a AtomicUsize);

impl<'a> Idle<'a> {
    fn new(idle: &'a AtomicUsize) -> Self {
        idle.fetch_add(1, Ordering::Relaxed);
        Self(idle)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds, unless the sum exceeds `most`. For a moment others may see the sum all the same.
fn add(sum: &AtomicUsize, bytes: usize, most: usize) -> bool {
    let before = sum.fetch_add(bytes, Ordering::Relaxed);
    let fits = before.checked_add(bytes).is_some_and(|sum| sum <= most);
    if !fits {
        sum.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}

// === impl Held ===

impl Held {
    /// The budget that it is of.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it `bytes` in all, if that is less, or if there is room for the rest.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            if !self.budget.take(self.purpose, more) {
                return false;
            }
        } else {
            self.budget.give_back(self.purpose, self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.purpose, self.bytes);
    }
}
