//! The reservation of a request, until it is settled.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Backing, Cost, Entry, Loss, OnStoreLoss, Reservation};
use smallvec::SmallVec;

use crate::counters::Counters;
use crate::level::Levels;
use crate::metrics::Settlements;
use crate::slot::State;
use crate::store::Store;

/// A reservation in every limit that applies to one request. It is settled exactly once: by
/// [`Charge::settle`], or at `estimate` when it is dropped (an aborted client, a cut stream, a panic).
#[derive(Debug)]
pub struct Charge {
    pub(crate) counters: Arc<Counters>,
    /// What is held of each counter.
    pub(crate) held: SmallVec<[Held; 4]>,
    pub(crate) settled: bool,
    /// What a drop settles at: the reservation, narrowed as the answer goes on.
    pub estimate: Cost,
    /// How the limits stood once it was reserved.
    pub levels: Levels,
    pub(crate) clock: fn() -> Moment,
    pub(crate) settlements: Arc<Settlements>,
    pub(crate) store: Option<Arc<Store>>,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) taken: Reservation,
    pub(crate) asked: u64,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// By the usage that the backend reported.
    Measured,
    /// By an estimate: the usage is unknown.
    Estimated,
    /// Given back: the backend bills nothing.
    Released,
}

impl Charge {
    /// Replaces the reservation by what was used until `now`.
    pub fn settle(mut self, actual: Cost, how: Settled, now: Moment) {
        self.finish(actual, how, now);
    }

    fn finish(&mut self, actual: Cost, how: Settled, now: Moment) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        match how {
            Settled::Measured => self.settlements.measured.inc(),
            Settled::Estimated => self.settlements.estimated.inc(),
            Settled::Released => self.settlements.released.inc(),
        };
        for ((slot, live), held) in self.counters.all().iter().zip(self.held.drain(..)) {
            let used = match how {
                Settled::Released => 0,
                Settled::Measured | Settled::Estimated => actual.of(live.limit.unit),
            };
            let mut state = slot.state.lock();
            state.reserved = state.reserved.saturating_sub(held.asked);
            if !state.counter.suits(&live.limit) {
                // A later table counts by another window, with a new counter.
                continue;
            }
            let State {
                counter, escrow, ..
            } = &mut *state;
            let mut entry = Entry {
                limit: &live.limit,
                mode: live.mode(),
                counter,
                backing: escrow.as_mut().map_or(Backing::Own, |escrow| {
                    let (on, share) = (OnStoreLoss::Deny, 0);
                    Backing::Cut(escrow, Loss { on, share })
                }),
            };
            entry.settle(held.taken, used, now);
            let unlisted = !std::mem::replace(&mut state.listed, true);
            drop(state);
            if unlisted && let Some(store) = &self.store {
                store.list(slot);
            }
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
