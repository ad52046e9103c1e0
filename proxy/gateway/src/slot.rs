//! A bound on what the process does at one time for requests whose clients have left.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Places for one kind of work.
pub(crate) struct Slots {
    taken: AtomicUsize,
    most: usize,
}

/// One of them, until it is dropped.
pub(crate) struct Slot(&'static Slots);

impl Slots {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// A place, if one is free.
    pub(crate) fn take(&'static self) -> Option<Slot> {
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Slot(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
