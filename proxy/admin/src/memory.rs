//! The memory of a process: how much it may use, and one budget for all that it holds for its peers.
//!
//! Bytes are counted before they are there, by whoever is about to hold them, and nothing here allocates
//! them. What cannot be counted in time, such as the kernel's buffers, is what the budget leaves free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod limit;
mod queue;
mod room;
mod size;
#[cfg(test)]
mod tests;

use queue::Connections;

pub use limit::{default_budget, limit};
pub use queue::{Made, Rank};
pub use room::{Place, Room};
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

/// How much a process may hold, and how much it holds. Bytes are counted with atomics only.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
    /// The part of it that is held for connections and their heads.
    for_connections: AtomicUsize,
    connections: Connections,
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
        Self::with_connections(limit, usize::MAX)
    }

    /// A budget of this many bytes, and of this many connections.
    #[must_use]
    pub fn with_connections(limit: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            for_connections: AtomicUsize::new(0),
            connections: Connections::new(most),
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
        self.is_tight() || self.for_connections.load(Ordering::Relaxed) > self.eighths(2)
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
        let taken = add(&self.for_connections, bytes, self.eighths(eighths));
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
            self.for_connections.fetch_sub(bytes, Ordering::Relaxed);
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

    const fn eighths(&self, eighths: usize) -> usize {
        if eighths == EIGHTHS {
            self.limit
        } else {
            self.limit / EIGHTHS * eighths
        }
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
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(self.purpose, more) {
            return false;
        }
        let less = self.bytes.saturating_sub(bytes);
        self.budget.give_back(self.purpose, less);
        self.bytes = bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.purpose, self.bytes);
    }
}
