//! Whether the process wants traffic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

type Detail = Box<dyn Fn() -> String + Send + Sync>;

/// Whether the process wants traffic. Starts as no.
#[derive(Clone, Default)]
pub struct Readiness(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    detail: Mutex<Option<Detail>>,
}

/// The phases of a [`Readiness`].
const UNREADY: u8 = 0;
const READY: u8 = 1;
/// The last one: a process that leaves is never ready again.
const GONE: u8 = 2;

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.is_ready()).finish()
    }
}

impl Readiness {
    /// Says that the process is ready, or not any more. After [`Readiness::leave`] it changes nothing.
    pub fn set(&self, ready: bool) {
        let phase = if ready { READY } else { UNREADY };
        let other = |now: u8| (now != GONE).then_some(phase);
        self.0
            .phase
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, other)
            .ok();
    }

    /// Adds a line to what `/readyz` says of a process that is ready; it is made for each answer.
    pub fn set_detail(&self, detail: impl Fn() -> String + Send + Sync + 'static) {
        *self.0.detail.lock() = Some(Box::new(detail));
    }

    /// There is nothing more to say.
    pub fn clear_detail(&self) {
        *self.0.detail.lock() = None;
    }

    /// Says that the process is about to stop.
    pub fn leave(&self) {
        self.0.phase.store(GONE, Ordering::Release);
    }

    /// Whether the process wants traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == READY
    }

    /// The text of `/readyz`.
    pub(super) fn text(&self) -> String {
        match self.0.phase.load(Ordering::Acquire) {
            READY => {
                let detail = self.0.detail.lock();
                let detail = detail.as_ref().map(|detail| detail() + "\n");
                format!("ok\n{}", detail.unwrap_or_default())
            }
            GONE => "shutting down\n".to_owned(),
            _ => "not ready\n".to_owned(),
        }
    }
}
