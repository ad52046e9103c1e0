//! A place in the queue of a counter.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::exposure::Exposure;
use crate::slot::Slot;

/// A place among the waiting requests of a counter. Dropped, it is free, and the next one hears of it.
#[derive(Debug)]
pub(crate) struct Place {
    slot: Arc<Slot>,
    turn: Arc<Notify>,
}

impl Place {
    /// The last place of the queue of `slot`, whose exposure this is.
    pub(crate) fn join(exposure: &mut Exposure, slot: &Arc<Slot>) -> Self {
        Self {
            slot: Arc::clone(slot),
            turn: exposure.join(),
        }
    }

    /// What is notified when it may be this request's turn.
    pub(crate) const fn told(&self) -> &Arc<Notify> {
        &self.turn
    }

    /// Waits until this is the first place and a request may have ended.
    pub(crate) async fn turn(&self) {
        self.turn.notified().await;
    }

    /// Whether it is a place of this counter.
    pub(crate) fn is_of(&self, slot: &Arc<Slot>) -> bool {
        Arc::ptr_eq(&self.slot, slot)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.state.lock().exposure.leave(&self.turn);
    }
}
