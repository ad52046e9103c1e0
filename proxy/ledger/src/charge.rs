//! The reservation of a request, until it is settled.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Backing, Cost, Entry, LimitName, Reservation, Unit};
use smallvec::SmallVec;

use crate::counters::Counters;
use crate::level::Levels;
use crate::limit::EnforcedLimit;
use crate::metrics::Settlements;
use crate::slot::{Slot, State};
use crate::store::Store;

/// A reservation in every limit that applies to one request. It is settled exactly once: by
/// [`Charge::settle`], or at `estimate` when it is dropped (an aborted client, a cut stream, a panic).
#[derive(Debug)]
pub struct Charge {
    pub(crate) counters: Arc<Counters>,
    /// What is held of each counter; `None` once it is settled.
    pub(crate) held: SmallVec<[Option<Held>; 4]>,
    pub(crate) settled: bool,
    /// What it holds, and what a drop settles at.
    pub estimate: Cost,
    /// How the limits stood once it was reserved.
    pub levels: Levels,
    /// The place of the enforced limit that is nearest to be spent of those which have reached a level of
    /// `warnAt`, and how much of it was used, in per cent.
    pub(crate) warning: Option<(usize, u64)>,
    /// The limits in mode `Shadow` that would have refused it.
    pub would_refuse: Vec<LimitName>,
    /// Whether it was waited for: the moment that was asked with has passed.
    pub waited: bool,
    pub(crate) clock: fn() -> Moment,
    pub(crate) settlements: Arc<Settlements>,
    pub(crate) store: Option<Arc<Store>>,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) taken: Reservation,
    pub(crate) asked: u64,
    /// What it may use beyond that.
    pub(crate) exposure: u64,
    /// What an unproved caller holds of a limit that it shares.
    pub(crate) unproved: u64,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// By the usage that the backend reported.
    Measured,
    /// By an estimate: the usage is unknown.
    Estimated,
    /// Given back: no backend answered.
    Released,
    /// Given back but for the request itself: a backend answered, and bills nothing.
    Refused,
}

impl Charge {
    /// Replaces the reservation by what was used until `now`.
    pub fn settle(mut self: Box<Self>, actual: Cost, how: Settled, now: Moment) {
        self.finish(actual, how, now);
    }

    /// The enforced limit that is nearest to be spent, if it has reached a level of its quota's `warnAt`, and
    /// how much of it was used once this was reserved, in per cent.
    #[must_use]
    pub fn warning(&self) -> Option<(&LimitName, u64)> {
        let (place, percent) = self.warning?;
        let (slot, _) = self.counters.all().get(place)?;
        Some((&slot.limit, percent))
    }

    /// Gives back what it holds of `Concurrency` limits, while the rest goes on.
    pub fn release_permits(&mut self) {
        let now = (self.clock)();
        for ((slot, live), held) in self.counters.all().iter().zip(&mut self.held) {
            if live.limit.unit == Unit::Concurrency
                && let Some(held) = held.take()
            {
                held.settle(slot, live, 0, now, self.store.as_deref());
            }
        }
    }

    /// Gives all of it back: another charge counts the same request.
    pub fn withdraw(mut self: Box<Self>, now: Moment) {
        self.settled = true;
        for ((slot, live), held) in self.counters.all().iter().zip(&mut self.held) {
            if let Some(held) = held.take() {
                held.settle(slot, live, 0, now, self.store.as_deref());
            }
        }
    }

    fn finish(&mut self, actual: Cost, how: Settled, now: Moment) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        match how {
            Settled::Measured => self.settlements.measured.inc(),
            Settled::Estimated => self.settlements.estimated.inc(),
            Settled::Released | Settled::Refused => self.settlements.released.inc(),
        };
        for ((slot, live), held) in self.counters.all().iter().zip(&mut self.held) {
            let Some(held) = held.take() else { continue };
            let used = match how {
                Settled::Refused if live.limit.unit == Unit::Requests => held.asked,
                Settled::Released | Settled::Refused => 0,
                Settled::Measured | Settled::Estimated => actual.of(live.limit.unit),
            };
            held.settle(slot, live, used, now, self.store.as_deref());
        }
    }
}

// === impl Held ===

impl Held {
    fn settle(
        self,
        slot: &Arc<Slot>,
        live: &EnforcedLimit,
        used: u64,
        now: Moment,
        store: Option<&Store>,
    ) {
        let mut state = slot.state.lock();
        state.reserved = state.reserved.saturating_sub(self.asked);
        state.exposure.remove(self.exposure);
        state.unproved = state.unproved.saturating_sub(self.unproved);
        if !state.counter.suits(&live.limit) {
            // A later table counts by another window, with a new counter.
            return;
        }
        let State {
            counter, escrow, ..
        } = &mut *state;
        let mut entry = Entry {
            limit: &live.limit,
            mode: live.mode(),
            counter,
            backing: escrow.as_mut().map_or(Backing::Own, Backing::Lent),
        };
        entry.settle(self.taken, used, now);
        let warning = (used > self.asked).then(|| state.warning(now)).flatten();
        let unlisted = !std::mem::replace(&mut state.listed, true);
        drop(state);
        if let Some(warning) = warning {
            warning.announce(slot, live);
        }
        if unlisted && let Some(store) = store {
            store.list(slot);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.settled {
            let now = (self.clock)();
            self.finish(self.estimate, Settled::Estimated, now);
        }
    }
}
