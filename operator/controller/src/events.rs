//! Reports errors that only a person can fix, each by one Kubernetes event.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crds::Reason;
use operator_compile::{Compiled, Kind, ObjectRef, Severity, UnusableKey, Verdict, Verdicts};
use parking_lot::Mutex;
use proxy_admin::clock;

use crate::event_writer::{EventWriter, Notice};
use crate::lease::keeper::Leadership;
use crate::stored_status::StoredObject;

/// Most events after one pass. When a thousand objects break at once, the conditions report the
/// others.
const AT_ONCE: usize = 50;

/// A reported error: object, uid, reason and text.
pub(crate) type Announcement = (ObjectRef, String, Reason, String);

/// Writes events, and remembers the reported errors.
pub(crate) struct Announcer {
    events: EventWriter,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    announced: BTreeSet<Announcement>,
    /// Whether it has taken the present errors since this replica leads.
    started: bool,
}

// === impl Announcer ===

impl Announcer {
    pub(crate) fn new(events: EventWriter) -> Self {
        Self {
            events,
            memory: Mutex::default(),
        }
    }

    /// Writes an event at once; losing it is acceptable.
    pub(crate) async fn write(&self, notice: &Notice) {
        self.events.write(notice).await;
    }

    /// Forgets everything at the start of a leadership; the stored status shows what was reported.
    pub(crate) fn begin(&self) {
        *self.memory.lock() = Memory::default();
    }

    /// Takes the errors in `verdicts`, and returns those that were not there last time. Call it
    /// before the status is written: a new leader takes an error in a stored status for reported.
    pub(crate) fn fresh<'a>(
        &self,
        compiled: &Compiled,
        stored: impl Fn(&ObjectRef) -> Option<Cow<'a, StoredObject>>,
    ) -> Vec<Announcement> {
        let mut errors = errors(&compiled.verdicts, stored);
        errors.extend(compiled.unusable_keys.iter().map(unusable));
        self.memory.lock().fresh(errors)
    }

    /// Writes an event for each of these errors; losing one is acceptable.
    pub(crate) async fn announce(&self, fresh: Vec<Announcement>, leadership: &Leadership) {
        for (object, uid, reason, note) in fresh.into_iter().take(AT_ONCE) {
            if !leadership.holds() {
                return;
            }
            let id = match object.kind {
                // No status shows what was reported, so a new leader says it again, under the same name.
                Kind::Secret => Notice::id_of((&uid, reason, &note)),
                // An error that comes back is reported again.
                Kind::AiBackend | Kind::AiRoute | Kind::AiQuota | Kind::ReferenceGrant => {
                    Notice::id_of((reason, &note, clock::now().unix_ms))
                }
            };
            let notice = Notice {
                object,
                uid,
                reason,
                action: "Compile",
                note,
                id,
            };
            self.events.write(&notice).await;
        }
    }
}

// === impl Memory ===

impl Memory {
    /// Takes all `errors`, and returns those to report. `true` with an error: the stored status
    /// shows it already.
    fn fresh(&mut self, errors: Vec<(Announcement, bool)>) -> Vec<Announcement> {
        let starting = !std::mem::replace(&mut self.started, true);
        let fresh = errors
            .iter()
            .filter(|(error, stored)| !(self.announced.contains(error) || starting && *stored))
            .map(|(error, _)| error.clone())
            .collect();
        self.announced = errors.into_iter().map(|(error, _)| error).collect();
        fresh
    }
}

fn errors<'a>(
    verdicts: &Verdicts,
    stored: impl Fn(&ObjectRef) -> Option<Cow<'a, StoredObject>>,
) -> Vec<(Announcement, bool)> {
    let mut errors = Vec::new();
    for (object, verdict) in verdicts.iter() {
        let found = verdict.diagnostics.iter();
        let mut found = found
            .filter(|found| found.severity == Severity::Error)
            .peekable();
        // Most objects have none.
        if found.peek().is_none() {
            continue;
        }
        let Some(before) = stored(object) else {
            continue;
        };
        // One event per reason: the API server folds more of them anyway.
        let mut notes: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
        for error in found {
            notes.entry(error.reason).or_default().push(error.located());
        }
        for (reason, notes) in notes {
            let note = notes.join("; ");
            let shown = is_stored(&before, verdict, reason);
            errors.push(((object.clone(), before.uid.clone(), reason, note), shown));
        }
    }
    errors
}

/// What is to be said of a Secret; it has no status.
fn unusable(key: &UnusableKey) -> (Announcement, bool) {
    let object = ObjectRef::new(Kind::Secret, key.secret.clone());
    let reason = Reason::KeyUnusable;
    (
        (object, key.uid.clone(), reason, key.message.clone()),
        false,
    )
}

/// Whether the status of this generation has the reason: then it was reported before.
fn is_stored(before: &StoredObject, verdict: &Verdict, reason: Reason) -> bool {
    before.status.conditions.iter().any(|stored| {
        stored.reason == reason.as_str() && stored.observed_generation == Some(verdict.generation)
    })
}
