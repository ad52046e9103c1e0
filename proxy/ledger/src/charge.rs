//! The reservation of a request, until it is settled.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Backing, Cost, Entry, Loss, OnStoreLoss, Reservation};
use smallvec::SmallVec;

use crate::level::Levels;
use crate::limit::EnforcedLimit;
use crate::metrics::Settlements;
use crate::slot::{Slot, State};
use crate::store::Store;

/// A reservation in every limit that applies to one request. It is settled exactly once: by
/// [`Charge::settle`], or at `estimate` when it is dropped (an aborted client, a cut stream, a panic).
#[derive(Debug)]
pub struct Charge {
    pub(crate) held: SmallVec<[Held; 4]>,
    pub(crate) settled: bool,
    /// What a drop settles at: the reservation, narrowed as the answer goes on.
    pub estimate: Cost,
    /// How the limits stood once it was reserved.
    pub levels: Levels,
    pub(crate) clock: fn() -> Moment,
    pub(crate) settlements: Settlements,
    pub(crate) store: Option<Arc<Store>>,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) slot: Arc<Slot>,
    pub(crate) limit: Arc<EnforcedLimit>,
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
    /// Replaces the reservation by what was used.
    pub fn settle(mut self, actual: Cost, how: Settled) {
        self.finish(actual, how);
    }

    /// Gives everything back: nothing was sent, or the backend bills nothing.
    pub fn release(self) {
        self.settle(Cost::default(), Settled::Released);
    }

    fn finish(&mut self, actual: Cost, how: Settled) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        match how {
            Settled::Measured => self.settlements.measured.inc(),
            Settled::Estimated => self.settlements.estimated.inc(),
            Settled::Released => self.settlements.released.inc(),
        };
        let now = (self.clock)();
        for held in self.held.drain(..) {
            let live = &held.limit;
            let used = match how {
                Settled::Released => 0,
                Settled::Measured | Settled::Estimated => actual.of(live.limit.unit),
            };
            let mut state = held.slot.state.lock();
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
                store.list(&held.slot);
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.finish(self.estimate, Settled::Estimated);
    }
}
