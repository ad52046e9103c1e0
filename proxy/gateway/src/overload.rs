//! What a core refuses while it has more to do than it can, by core's `overload`. `lag` measures it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use proxy_admin::reminder::Reminder;
use proxy_core::names::{Class, Code};
use proxy_core::overload::{ALL, Classes, Level, Portion};
use proxy_core::quota::Wait;
use tracing::{info, warn};

use crate::answer::Refusal;

#[cfg(test)]
mod tests;

/// A refused caller may come again after this time at the least.
const WAIT_MS: u64 = 1_000;
/// And later, up to this, the more is refused: all callers that come again are load too.
const MORE_MS: u64 = 4_000;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

/// Requests that were refused, by class.
#[derive(Clone, Debug)]
pub(crate) struct Refused([Counter; 3]);

/// What the cores of a process share.
#[derive(Debug)]
pub(crate) struct Overloads {
    /// The level of each.
    levels: RwLock<Vec<Arc<AtomicU32>>>,
    refused: Refused,
    /// Refused since the last line of the log.
    unsaid: AtomicU64,
    reminder: Reminder,
}

/// What one core refuses.
#[derive(Debug)]
pub(crate) struct Overload {
    shared: Arc<Overloads>,
    /// As the core itself measures it.
    own: Arc<AtomicU32>,
    /// In force: others count too.
    level: AtomicU32,
    /// Requests may be waiting whose clients have gone.
    pub(crate) strained: Arc<AtomicBool>,
    /// By class. Only the core's own thread takes it.
    portions: Mutex<[Portion; 3]>,
}

// === impl Refused ===

impl Refused {
    /// Registers it.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let family: Family<ClassLabels, Counter> = Family::default();
        registry.register(
            "shed_requests",
            "Requests refused since the gateway had more to do than it can, by class (docs/overload.md)",
            family.clone(),
        );
        let of = |class: Class| {
            let labels = ClassLabels {
                class: class.as_str(),
            };
            family.get_or_create_owned(&labels)
        };
        Self(Class::ALL.map(of))
    }
}

// === impl Overloads ===

impl Overloads {
    pub(crate) fn new(refused: &Refused) -> Arc<Self> {
        Arc::new(Self {
            levels: RwLock::default(),
            refused: refused.clone(),
            unsaid: AtomicU64::new(0),
            reminder: Reminder::default(),
        })
    }

    /// The highest level of any core.
    fn highest(&self) -> Level {
        let levels = self.levels.read();
        let levels = levels.iter().map(|level| level.load(Ordering::Relaxed));
        Level::new(levels.max().unwrap_or(0))
    }
}

// === impl Overload ===

impl Overload {
    pub(crate) fn new(shared: &Arc<Overloads>) -> Self {
        let own = Arc::default();
        shared.levels.write().push(Arc::clone(&own));
        Self {
            shared: Arc::clone(shared),
            own,
            level: AtomicU32::new(0),
            strained: Arc::default(),
            portions: Mutex::default(),
        }
    }

    /// Puts a level in force until the next one.
    pub(crate) fn set(&self, level: Level, classes: Classes) {
        self.own.store(level.parts(), Ordering::Relaxed);
        let beside = self.shared.highest().beside(classes);
        let level = level.max(beside);
        self.level.store(level.parts(), Ordering::Relaxed);
    }

    /// Says in the log what was refused: at once, and then once a minute.
    pub(crate) fn say(&self, waited: Duration, now: Instant) {
        let shared = &self.shared;
        let is_some = shared.unsaid.load(Ordering::Relaxed) > 0;
        if is_some && shared.reminder.is_due(now) {
            warn!(
                refused = shared.unsaid.swap(0, Ordering::Relaxed),
                waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                "the gateway has more requests than CPU time: a part of them is refused, those of the least \
                 class first; give it more CPU, or more replicas"
            );
        }
    }

    /// Says that it is over, if the log says that it began.
    pub(crate) fn end(&self) {
        let shared = &self.shared;
        if shared.highest().is_none() && shared.reminder.clear() {
            info!(
                refused = shared.unsaid.swap(0, Ordering::Relaxed),
                "the gateway has CPU time for all requests again"
            );
        }
    }

    /// Refuses a request of this class, or not. One load, as long as there is no overload.
    pub(crate) fn admit(&self, class: Class, classes: Classes) -> Result<(), Box<Refusal>> {
        let level = Level::new(self.level.load(Ordering::Relaxed));
        if level.is_none() || !self.takes(level, class, classes) {
            return Ok(());
        }
        let wait = WAIT_MS + u64::from(level.parts()) * MORE_MS / u64::from(ALL);
        let message = "the gateway has more requests than it can answer in time";
        let refusal = Refusal::new(Code::Overloaded, message).waiting(Wait::Millis(wait));
        Err(Box::new(refusal))
    }

    /// Whether this one of the class is refused. It then is counted.
    fn takes(&self, level: Level, class: Class, classes: Classes) -> bool {
        let part = level.part_of(class, classes);
        let mut portions = self.portions.lock();
        let all = Class::ALL.into_iter().zip(&mut *portions);
        for ((one, portion), count) in all.zip(&self.shared.refused.0) {
            if one == class && portion.takes(part) {
                count.inc();
                self.shared.unsaid.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }
}
