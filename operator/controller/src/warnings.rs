//! Says by one Kubernetes Event that a counter of an AIQuota has reached a level of `warnAt`, while this
//! replica leads.
//!
//! Many counters may do so at once, of callers that anybody can make. A few of each limit get an Event, and
//! one more Event counts the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crds::Reason;
use operator_compile::{Kind, ObjectRef};
use operator_publish::{LimitWarnings, Publisher, QuotaWarning};
use parking_lot::Mutex;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::event_writer::{EventWriter, Notice};
use crate::lease::keeper::Leadership;
use crate::metrics::WriteResult;
use crate::stored_status::StoredObjects;

#[cfg(test)]
mod tests;

/// Pause before each pass: replicas report within two seconds, and what reaches a level together comes
/// together.
const PASS: Duration = Duration::from_secs(5);

/// Most events of one pass: five a second, which an API server does not feel.
const AT_ONCE: usize = 25;

/// An event that could not be written within this time is dropped.
const PATIENCE: Duration = Duration::from_secs(60);

/// The source of warnings: the publisher, or a test.
pub(crate) trait Warnings: Send + Sync + 'static {
    /// Those that were not taken yet.
    fn take(&self) -> Vec<LimitWarnings>;

    /// Changes when there are some.
    fn changes(&self) -> watch::Receiver<u64>;
}

impl Warnings for Publisher {
    fn take(&self) -> Vec<LimitWarnings> {
        self.take_warnings()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.warnings()
    }
}

/// Writes the events.
pub(crate) struct WarningWriter<W> {
    warnings: W,
    stored: Arc<Mutex<StoredObjects>>,
    events: EventWriter,
}

// === impl WarningWriter ===

impl<W: Warnings> WarningWriter<W> {
    /// `stored` has every object as the watches observed it.
    pub(crate) fn new(warnings: W, stored: Arc<Mutex<StoredObjects>>, events: EventWriter) -> Self {
        Self {
            warnings,
            stored,
            events,
        }
    }

    /// Writes while we lead, until `shutdown`.
    pub(crate) async fn run(self, mut leadership: Leadership, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = leadership.gained() => {}
                () = shutdown.requested() => return,
            }
            let mut lost = leadership.clone();
            // A new leader has heard of the same, and writes what is missing.
            tokio::select! {
                () = self.lead(&leadership) => {}
                () = lost.lost() => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn lead(&self, leadership: &Leadership) {
        let mut changes = self.warnings.changes();
        let mut due: VecDeque<(Instant, Notice)> = VecDeque::new();
        // The operator that led before may have left some.
        let mut waits = false;
        loop {
            if waits && due.is_empty() && changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            waits = true;
            sleep(PASS).await;
            changes.borrow_and_update();
            let now = Instant::now();
            let taken = self.warnings.take().into_iter();
            let notices = taken.flat_map(|one| self.notices(&one));
            due.extend(notices.map(|notice| (now, notice)));
            self.pass(&mut due, leadership).await;
        }
    }

    /// Writes the first of `due`, and drops those that are too old.
    async fn pass(&self, due: &mut VecDeque<(Instant, Notice)>, leadership: &Leadership) {
        for _ in 0..AT_ONCE {
            let Some((_, notice)) = due.front().filter(|_| leadership.holds()) else {
                break;
            };
            if self.events.write(notice).await == WriteResult::Failed {
                break;
            }
            due.pop_front();
        }
        let before = due.len();
        due.retain(|(since, _)| since.elapsed() < PATIENCE);
        let dropped = before.saturating_sub(due.len());
        if dropped > 0 {
            warn!(
                dropped,
                "events of quota warnings could not be written in time"
            );
        }
    }

    /// The events of a limit. A deleted AIQuota has none.
    fn notices(&self, warnings: &LimitWarnings) -> Vec<Notice> {
        let LimitWarnings {
            limit,
            unit,
            listed,
            more,
            at_ms,
        } = warnings;
        let object = ObjectRef::new(Kind::AiQuota, limit.quota.clone());
        let stored = self.stored.lock();
        let Some(uid) = stored.get(&object).map(|stored| stored.uid.clone()) else {
            return Vec::new();
        };
        let notice = |note, id| Notice {
            object: object.clone(),
            uid: uid.clone(),
            reason: Reason::QuotaWarning,
            action: "Count",
            note,
            id,
        };
        let each = listed.iter().map(|one| {
            let window = (limit, one.key, one.level, one.window_ms);
            notice(
                note(&limit.limit, unit.as_str(), one),
                Notice::id_of(window),
            )
        });
        let others = (*more > 0).then(|| {
            let note = format!(
                "limit {}: {more} more of its counters have reached a level of warnAt; \
                 tundish quota lists them",
                limit.limit
            );
            notice(note, Notice::id_of((limit, at_ms)))
        });
        each.chain(others).collect()
    }
}

fn note(limit: &str, unit: &str, warning: &QuotaWarning) -> String {
    let QuotaWarning {
        subject,
        level,
        used,
        amount,
        apart,
        ..
    } = warning;
    let of = if subject.is_empty() {
        String::new()
    } else {
        format!(" of {subject}")
    };
    let part = apart.map_or_else(String::new, |replicas| {
        format!(", which is the part of one of {replicas} proxies")
    });
    format!("limit {limit}: {used} of {amount} {unit}{of} are used, {level}% or more{part}")
}
