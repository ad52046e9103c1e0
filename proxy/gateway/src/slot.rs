//! A bound on what the process does at one time for requests whose clients have left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// Most responses in the background that this process follows, and most of them of one consumer.
const FOLLOWED: usize = 1_000;
const FOLLOWED_OF_ONE: usize = FOLLOWED / 4;

/// How many are followed, by consumer.
static PLACES: Mutex<BTreeMap<Arc<str>, usize>> = Mutex::new(BTreeMap::new());

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

/// A place to follow a response in the background, of this consumer.
pub(crate) struct Place(Arc<str>);

impl Place {
    /// A place, if there is one for this consumer.
    pub(crate) fn take(consumer: &Arc<str>) -> Option<Self> {
        let mut places = PLACES.lock();
        let all: usize = places.values().sum();
        let own = places.get(consumer).copied().unwrap_or(0);
        (all < FOLLOWED && own < FOLLOWED_OF_ONE).then(|| {
            places.insert(Arc::clone(consumer), own + 1);
            Self(Arc::clone(consumer))
        })
    }

    /// How many are taken, by all consumers.
    pub(crate) fn taken() -> usize {
        PLACES.lock().values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = PLACES.lock();
        if let Some(own) = places.get_mut(&self.0) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                places.remove(&self.0);
            }
        }
    }
}
