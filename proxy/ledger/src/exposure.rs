//! What running requests may use beyond what they hold, and the queue of those that have to wait for
//! one of them to end.
//!
//! A hold that was learned from earlier requests is a guess, and callers can teach it. So the requests
//! whose hold is a guess may together exceed their holds by the limit at most, or two of them by
//! whatever they need: then each gets its turn. The bound that follows is in docs/quota-bounds.md.
//!
//! Words: the `exposure` of a request is the most that it may use less what it holds; 0 if the hold is
//! a bound.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// Exposed requests of a counter that run whatever their exposure: one that is larger than the limit
/// would never run otherwise, and with one at a time each would wait for the one before.
const ALWAYS: u32 = 2;

/// The exposure of the requests that a counter has admitted and that still run.
#[derive(Debug, Default)]
pub(crate) struct Exposure {
    sum: u64,
    running: u32,
    /// Those that wait, in order of arrival; the first hears of each end.
    waiting: VecDeque<Arc<Notify>>,
}

// === impl Exposure ===

impl Exposure {
    /// Whether a request with this exposure may run under a limit of `amount`: it fits, and no other
    /// has waited for longer.
    pub(crate) fn admits(&self, exposure: u64, amount: u64, own: Option<&Arc<Notify>>) -> bool {
        let first = self
            .waiting
            .front()
            .is_none_or(|first| own.is_some_and(|own| Arc::ptr_eq(own, first)));
        first && (self.running < ALWAYS || self.sum.saturating_add(exposure) <= amount)
    }

    /// Adds a request that was admitted.
    pub(crate) const fn add(&mut self, exposure: u64) {
        if exposure > 0 {
            self.sum = self.sum.saturating_add(exposure);
            self.running = self.running.saturating_add(1);
        }
    }

    /// Removes a request that was settled.
    pub(crate) fn remove(&mut self, exposure: u64) {
        if exposure > 0 {
            self.sum = self.sum.saturating_sub(exposure);
            self.running = self.running.saturating_sub(1);
            self.tell_first();
        }
    }

    /// How many exposed requests run.
    pub(crate) const fn running(&self) -> u32 {
        self.running
    }

    /// Joins the waiting requests: a turn to wait for.
    pub(crate) fn join(&mut self) -> Arc<Notify> {
        let turn = Arc::new(Notify::new());
        self.waiting.push_back(Arc::clone(&turn));
        turn
    }

    pub(crate) fn leave(&mut self, turn: &Arc<Notify>) {
        let place = self
            .waiting
            .iter()
            .position(|other| Arc::ptr_eq(other, turn));
        let Some(place) = place else { return };
        self.waiting.remove(place);
        if place == 0 {
            self.tell_first();
        }
    }

    /// The permit is kept for a request that does not listen at this moment, so no end is missed.
    fn tell_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notify_one();
        }
    }
}
