//! What waits on a core while there is more to do than it can, and what is refused, by core's `overload`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_admin::reminder::Reminder;
use proxy_core::names::{Class, Code};
use proxy_core::overload::{ALL, Gate, Next, WAIT};
use proxy_core::quota::Wait;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use crate::answer::Refusal;

#[cfg(test)]
mod tests;

/// A refused caller may come again after this time at the least.
const WAIT_MS: u64 = 1_000;
/// And later, up to this, the more is refused: all callers that come again are load too.
const MORE_MS: u64 = 4_000;
/// Where one of a class is refused, all below it are, on all cores, for this time: twice as long as one may wait.
const SHUT: Duration = Duration::from_millis(100);
/// It is over this long behind the last refusal.
const OVER: Duration = Duration::from_secs(5);

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
    start: Instant,
    /// By class: until when it is refused, in milliseconds since the start.
    shut_until: [AtomicU64; 3],
    refused: Refused,
    /// When one was refused last, in milliseconds since the start.
    refused_at: AtomicU64,
    /// Refused since the last line of the log.
    unsaid: AtomicU64,
    reminder: Reminder,
}

/// What waits on one core.
#[derive(Debug)]
pub(crate) struct Overload {
    shared: Arc<Overloads>,
    /// Only the core's own thread takes it. Who waits learns whether it begins.
    gate: Mutex<Gate<oneshot::Sender<bool>>>,
    /// The gate wants a round.
    wanted: Notify,
    /// Requests or connections may be waiting whose clients have gone.
    pub(crate) strained: Arc<AtomicBool>,
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
            start: clock::instant(),
            shut_until: Default::default(),
            refused: refused.clone(),
            refused_at: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
            reminder: Reminder::default(),
        })
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// Since one was refused on any core.
    fn since_refusal(&self, now: Instant) -> Duration {
        let refused_at = Duration::from_millis(self.refused_at.load(Ordering::Relaxed));
        self.since_start(now).saturating_sub(refused_at)
    }

    /// Whether a higher class was refused a moment ago.
    fn is_shut(&self, class: Class, now: Instant) -> bool {
        let mut all = Class::ALL.into_iter().zip(&self.shut_until);
        let until = all.find_map(|(one, until)| (one == class).then_some(until));
        let until = until.map_or(0, |until| until.load(Ordering::Relaxed));
        until > 0 && self.since_start(now) < Duration::from_millis(until)
    }

    /// Counts one, and shuts all below its class.
    fn count(&self, class: Class, now: Instant) {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let now = self.since_start(now);
        self.refused_at.store(millis(now), Ordering::Relaxed);
        let until = millis(now + SHUT);
        let all = self.shut_until.iter().zip(&self.refused.0);
        for (one, (shut_until, count)) in Class::ALL.into_iter().zip(all) {
            if one < class {
                shut_until.store(until, Ordering::Relaxed);
            } else if one == class {
                count.inc();
            }
        }
    }

    /// Says in the log what was refused: at once, and then once a minute.
    fn say(&self, now: Instant) {
        if self.reminder.is_due(now) {
            warn!(
                refused = self.unsaid.swap(0, Ordering::Relaxed),
                "the gateway has more requests than CPU time: a part of them is refused, those of the least \
                 class first; give it more CPU, or more replicas"
            );
        }
    }

    /// Says that it is over, if the log says that it began.
    fn end(&self) {
        if self.reminder.clear() {
            info!(
                refused = self.unsaid.swap(0, Ordering::Relaxed),
                "the gateway has CPU time for all requests again"
            );
        }
    }
}

// === impl Overload ===

impl Overload {
    pub(crate) fn new(shared: &Arc<Overloads>) -> Self {
        Self {
            shared: Arc::clone(shared),
            gate: Mutex::default(),
            wanted: Notify::new(),
            strained: Arc::default(),
        }
    }

    /// Lets a request of this class begin that has come at `now`: at once, as long as there is no overload.
    pub(crate) async fn admit(&self, class: Class, now: Instant) -> Result<(), Box<Refusal>> {
        if self.shared.is_shut(class, now) {
            self.count(class, now);
            return Err(self.refusal());
        }
        let called = {
            let mut gate = self.gate.lock();
            if gate.opens() {
                if gate.is_spent() {
                    self.wanted.notify_one();
                }
                return Ok(());
            }
            let (ticket, called) = oneshot::channel();
            let waits = gate.wait(class, self.shared.since_start(now), ticket);
            waits.map(|()| called)
        };
        let Ok(called) = called else {
            self.count(class, now);
            return Err(self.refusal());
        };
        self.strained.store(true, Ordering::Relaxed);
        self.wanted.notify_one();
        match called.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> Box<Refusal> {
        let part = u64::from(self.gate.lock().refused());
        let wait = WAIT_MS + part * MORE_MS / u64::from(ALL);
        let message = "the gateway has more requests than it can answer in time";
        Box::new(Refusal::new(Code::Overloaded, message).waiting(Wait::Millis(wait)))
    }

    fn count(&self, class: Class, now: Instant) {
        self.shared.count(class, now);
        self.shared.say(now);
    }

    /// Ready when the gate wants a round.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Begins a round, behind one that has `lasted` so long, and says whether another one is wanted.
    pub(crate) fn round(&self, now: Instant, lasted: Duration, under_way: usize) -> bool {
        let since_start = self.shared.since_start(now);
        let mut gate = self.gate.lock();
        gate.round(since_start, lasted, under_way);
        while let Some(next) = gate.next(since_start) {
            // A client that has gone waits no more.
            match next {
                Next::Begins(ticket) => drop(ticket.send(true)),
                Next::Refused(ticket, class) => {
                    if ticket.send(false).is_ok() {
                        self.count(class, now);
                    }
                }
            }
        }
        !gate.is_empty()
    }

    /// Connections that wait to be opened have waited for this round, and perhaps for many.
    pub(crate) fn kept_waiting(&self, lasted: Duration) {
        if lasted >= WAIT {
            self.strained.store(true, Ordering::Relaxed);
        }
    }

    /// Looks once a second whether an overload is over.
    pub(crate) fn look(&self, now: Instant) {
        let calm = self.shared.since_refusal(now);
        if calm >= OVER {
            self.shared.end();
        }
        if calm >= SHUT && self.gate.lock().is_empty() {
            self.strained.store(false, Ordering::Relaxed);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
