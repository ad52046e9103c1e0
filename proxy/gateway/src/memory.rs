//! What requests hold of the memory budget, by caller.
//!
//! A request counts for as long as it runs, and its body from before it is read until it is sent. Once half
//! of the budget is used, one caller may hold a share of it only, so that a flood of large bodies ends with
//! whoever sends it. Where no room is left, the copies that are kept for a retry go first.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use http::StatusCode;
use parking_lot::Mutex;
use proxy_admin::memory::{Budget, Purpose, Room};
use proxy_admin::reminder::Reminder;
use proxy_admin::{clock, descriptors};
use proxy_core::auth::{Caller, CallerKind};
use proxy_core::names::Code;
use proxy_core::quota::Wait;
use tracing::warn;

use crate::answer::Refusal;

mod collector;
#[cfg(test)]
mod tests;

pub(crate) use collector::AtScrape;

/// What a request on HTTP/1.1 costs while it runs, with a small body: itself, and its connection to a backend.
pub(crate) const REQUEST: usize = 24 << 10;
/// The same on HTTP/2, with what may wait in its stream: a window of the request, a piece of the answer.
pub(crate) const STREAM: usize = REQUEST + (64 << 10);
/// A body up to this size is a part of its request.
pub(crate) const SMALL_BODY: usize = 16 << 10;
/// From this size on a body counts for its caller, and its copy can be given up.
pub(crate) const LARGE_BODY: usize = 256 << 10;

/// While the budget is tight a caller has a part of this size at most, or less among more callers.
const SHARES: usize = 4;
/// When a refused caller may come again: bodies are read and sent within seconds.
const WAIT_MS: u64 = 1_000;

/// The memory of one process.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) budget: Arc<Budget>,
    /// What callers hold whose share is looked at.
    callers: Mutex<HashMap<Holder, usize, foldhash::fast::RandomState>>,
    /// Copies that may be given up.
    copies: Mutex<Vec<Weak<dyn Spare>>>,
    /// Connections that had no room.
    turned_away: AtomicU64,
    /// Copies that were given up.
    given_up: AtomicU64,
    reminder: Reminder,
}

/// A copy that may be given up.
pub(crate) trait Spare: Debug + Send + Sync {
    /// Gives it up, if it is not in use. Returns how many bytes that frees.
    fn give_up(&self) -> usize;
}

/// Who holds: a consumer, or all callers together that have no Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Consumer(Arc<str>),
    Stranger,
}

/// What one request holds. Given back on drop.
#[derive(Debug)]
pub(crate) struct Hold {
    memory: Arc<Memory>,
    purpose: Purpose,
    bytes: usize,
    /// The caller that it counts for.
    holder: Option<Holder>,
}

/// Why nothing more can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The caller has its share.
    Share,
    /// The whole budget is used.
    Budget,
}

/// Three of four descriptors: the rest is for connections to backends.
fn most_connections() -> usize {
    let most = descriptors::limit().map(|limit| limit / 4 * 3);
    most.and_then(|most| most.try_into().ok())
        .unwrap_or(usize::MAX)
}

// === impl Holder ===

impl From<&Caller> for Holder {
    fn from(caller: &Caller) -> Self {
        match caller.kind {
            CallerKind::Known(_) | CallerKind::Token(_) => {
                Self::Consumer(Arc::clone(&caller.full_name))
            }
            CallerKind::Unknown | CallerKind::Anonymous => Self::Stranger,
        }
    }
}

// === impl Memory ===

impl Memory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::with_connections(limit, most_connections()),
            callers: Mutex::default(),
            copies: Mutex::default(),
            turned_away: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            reminder: Reminder::default(),
        })
    }

    /// Room for one more connection, for which others close that do nothing.
    pub(crate) async fn connection(&self) -> Option<Room> {
        let room = self.budget.room_for_newcomer().await;
        if room.is_none() {
            self.turned_away();
        }
        if room.is_none() && self.reminder.is_due(clock::instant()) {
            warn!(
                connections = self.budget.open(),
                held = self.budget.held(),
                budget = self.budget.limit(),
                "no room is left for connections: new ones are turned away"
            );
        }
        room
    }

    /// Counts a connection that is refused.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Holds `bytes` for a caller. Takes a lock only for much, or once half of the budget is used.
    pub(crate) fn hold(
        self: &Arc<Self>,
        purpose: Purpose,
        caller: &Caller,
        bytes: usize,
    ) -> Result<Hold, Full> {
        let mut hold = Hold {
            memory: Arc::clone(self),
            purpose,
            bytes: 0,
            holder: None,
        };
        hold.grow(caller, bytes)?;
        Ok(hold)
    }

    /// Registers a copy that may be given up.
    pub(crate) fn keep(&self, copy: Weak<dyn Spare>) {
        let mut copies = self.copies.lock();
        copies.retain(|copy| copy.strong_count() > 0);
        copies.push(copy);
    }

    /// Gives up copies of bodies that are sent, until `bytes` are free. True if any was given up.
    fn reclaim(&self, bytes: usize) -> bool {
        // Taken out: a copy that is dropped here looks for nothing under this lock.
        let copies = self.copies.lock().clone();
        let mut freed = 0;
        for copy in copies.iter().filter_map(Weak::upgrade) {
            if freed >= bytes {
                break;
            }
            let given_up = copy.give_up();
            self.given_up
                .fetch_add(u64::from(given_up > 0), Ordering::Relaxed);
            freed += given_up;
        }
        freed > 0
    }

    /// Counts `bytes` for a caller, unless they exceed its share.
    fn share(&self, holder: &Holder, bytes: usize) -> Result<(), Full> {
        let mut callers = self.callers.lock();
        let others = usize::from(!callers.contains_key(holder));
        let most = self.budget.limit() / SHARES.max(callers.len() + others);
        let held = callers.get(holder).copied().unwrap_or(0);
        if self.budget.is_half_used(bytes) && held.saturating_add(bytes) > most {
            return Err(Full::Share);
        }
        callers.insert(holder.clone(), held.saturating_add(bytes));
        Ok(())
    }

    fn unshare(&self, holder: &Holder, bytes: usize) {
        let mut callers = self.callers.lock();
        let rest = callers.get_mut(holder).map(|held| {
            *held = held.saturating_sub(bytes);
            *held
        });
        if rest == Some(0) {
            callers.remove(holder);
        }
    }
}

// === impl Hold ===

impl Hold {
    /// Makes it `bytes` in all, or leaves it as it is.
    pub(crate) fn grow(&mut self, caller: &Caller, bytes: usize) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let memory = &self.memory;
        let counts =
            self.holder.is_some() || bytes >= LARGE_BODY || memory.budget.is_half_used(more);
        // What it held before without a look at the caller counts from now on.
        let holder = counts.then(|| self.holder.clone().unwrap_or_else(|| caller.into()));
        let counted = if self.holder.is_some() { more } else { bytes };
        if let Some(holder) = &holder {
            memory.share(holder, counted)?;
        }
        let taken = memory.budget.take(self.purpose, more)
            || (memory.reclaim(more) && memory.budget.take(self.purpose, more));
        if !taken {
            if let Some(holder) = &holder {
                memory.unshare(holder, counted);
            }
            return Err(Full::Budget);
        }
        (self.holder, self.bytes) = (holder, bytes);
        Ok(())
    }

    /// Whether there is room for the large, and not only for the small.
    pub(crate) fn has_room(&self) -> bool {
        self.memory.budget.take(Purpose::Body, 0)
    }

    /// Makes it `bytes` in all, if it is less, and whether there is room or not.
    pub(crate) fn force(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.memory.budget.force(more);
        self.bytes += more;
    }

    /// Makes it `bytes` in all, if it is more.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.memory.budget.give_back(self.purpose, less);
        if let Some(holder) = &self.holder {
            self.memory.unshare(holder, less);
        }
    }

    /// Where it is held.
    pub(crate) const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// How much it is.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

// === impl Full ===

impl From<Full> for Box<Refusal> {
    fn from(full: Full) -> Self {
        let message = match full {
            Full::Share => {
                "memory is short, and this caller holds its share of it: send fewer large bodies at once"
            }
            Full::Budget => "the gateway has no memory left for the request",
        };
        let mut refusal = Refusal::new(Code::Overloaded, message)
            .closing()
            .waiting(Wait::Millis(WAIT_MS));
        if full == Full::Share {
            refusal.status = Some(StatusCode::TOO_MANY_REQUESTS);
        }
        Self::new(refusal)
    }
}
