//! The body of a request as it is kept for another try.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::memory::{Hold, LARGE_BODY, Spare};

/// A body, kept until an answer begins.
#[derive(Debug)]
pub(crate) enum Replay {
    /// Kept in any case.
    Small { bytes: Bytes, _hold: Option<Hold> },
    /// Given up when others need the memory, once it is sent.
    Large(Arc<Large>),
}

/// A large body.
#[derive(Debug)]
pub(crate) struct Large {
    kept: Mutex<Option<(Bytes, Hold)>>,
    /// A try has begun, so it is sent when no one else refers to it.
    begun: AtomicBool,
}

// === impl Replay ===

impl Replay {
    pub(crate) fn new(bytes: Bytes, hold: Option<Hold>) -> Self {
        match hold {
            Some(hold) if bytes.len() >= LARGE_BODY => {
                let memory = Arc::clone(hold.memory());
                let copy = Arc::new(Large {
                    kept: Mutex::new(Some((bytes, hold))),
                    begun: AtomicBool::new(false),
                });
                let weak = Arc::downgrade(&copy);
                memory.keep(weak);
                Self::Large(copy)
            }
            _hold => Self::Small { bytes, _hold },
        }
    }

    /// The body; `None` once it was given up.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Small { bytes, .. } => Some(bytes.clone()),
            Self::Large(copy) => copy.kept.lock().as_ref().map(|(bytes, _)| bytes.clone()),
        }
    }

    /// The body, which is sent now: once it is, the copy can be given up.
    pub(crate) fn sent(&self) -> Option<Bytes> {
        if let Self::Large(copy) = self {
            // The reference first: until it is dropped, nothing is given up.
            let bytes = self.bytes();
            copy.begun.store(true, Ordering::Relaxed);
            return bytes;
        }
        self.bytes()
    }

    /// Whether it is never given up.
    pub(crate) const fn is_small(&self) -> bool {
        matches!(self, Self::Small { .. })
    }

    /// Whether another try is possible.
    pub(crate) fn is_kept(&self) -> bool {
        match self {
            Self::Small { .. } => true,
            Self::Large(copy) => copy.kept.lock().is_some(),
        }
    }
}

// === impl Large ===

impl Spare for Large {
    fn give_up(&self) -> usize {
        if !self.begun.load(Ordering::Relaxed) {
            return 0;
        }
        let mut kept = self.kept.lock();
        let is_sent = kept.as_ref().is_some_and(|(bytes, _)| bytes.is_unique());
        let given_up = if is_sent { kept.take() } else { None };
        drop(kept);
        given_up.map_or(0, |(_, hold)| hold.bytes())
    }
}
