//! What a request has reserved, until it is settled.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Backing, Cost, Entry, Loss, OnStoreLoss, Reservation};
use smallvec::SmallVec;

use super::slot::{Slot, State};
use crate::answer::Levels;
use crate::live::LiveLimit;
use crate::metrics::SettlementCounters;
use crate::store::Store;

/// What one request has reserved. It is settled exactly once: by its request's end, or by its drop,
/// at `estimate`, when nobody else did (an aborted client, a cut stream, a panic).
#[derive(Debug)]
pub(crate) struct Charge {
    pub(super) held: SmallVec<[Held; 4]>,
    pub(super) settled: bool,
    /// What to settle at if nobody settles: the reservation, narrowed as the answer goes on.
    pub(crate) estimate: Cost,
    /// How the limits stood once it was reserved.
    pub(crate) levels: Levels,
    pub(super) clock: fn() -> Moment,
    pub(super) settlements: SettlementCounters,
    pub(super) store: Option<Arc<Store>>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: Arc<Slot>,
    pub(super) limit: Arc<LiveLimit>,
    pub(super) taken: Reservation,
    pub(super) asked: u64,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// By the usage that the backend told.
    Measured,
    /// By an estimate: the usage is unknown.
    Estimated,
    /// Given back: the backend bills nothing.
    Released,
}

impl Charge {
    /// Replaces the reservation by what was used. Later calls and the drop do nothing.
    pub(crate) fn settle(&mut self, actual: Cost, how: Settled) {
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
                // Another table counts by another window, and began anew.
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

    /// Gives everything back: nothing was sent, or the backend bills nothing.
    pub(crate) fn release(&mut self) {
        self.settle(Cost::default(), Settled::Released);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle(self.estimate, Settled::Estimated);
    }
}
