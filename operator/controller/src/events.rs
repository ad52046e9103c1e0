//! Reports errors that only a person can fix, each by one Kubernetes event.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use operator_compile::{ObjectRef, Severity, Verdict};
use parking_lot::Mutex;
use proxy_admin::errors::chain;
use tracing::debug;

use crate::config::FIELD_MANAGER;
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, ResultLabel, WriteResult};
use crate::resource::resource;
use crate::stored_status::StoredObject;
use crate::text::cut;

/// Longest note in bytes: the API server refuses notes above 1 kB.
const NOTE: usize = 1_000;

/// Longest wait for one event; losing one is acceptable.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most events after one pass. When a thousand objects break at once, the conditions report the
/// others.
const AT_ONCE: usize = 50;

/// A reported error: object, uid, reason and text.
pub(crate) type Announcement = (ObjectRef, String, Reason, String);

/// Writes events, and remembers the reported errors.
pub(crate) struct Announcer {
    client: Client,
    identity: String,
    metrics: Metrics,
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
    pub(crate) fn new(client: Client, identity: &str, metrics: Metrics) -> Self {
        Self {
            client,
            // The API server allows 128 characters.
            identity: identity.chars().take(128).collect(),
            metrics,
            memory: Mutex::default(),
        }
    }

    /// Forgets everything at the start of a leadership; the stored status shows what was reported.
    pub(crate) fn begin(&self) {
        *self.memory.lock() = Memory::default();
    }

    /// Takes the errors in `verdicts`, and returns those that were not there last time. Call it
    /// before the status is written: a new leader takes an error in a stored status for reported.
    pub(crate) fn fresh<'a>(
        &self,
        verdicts: &BTreeMap<ObjectRef, Verdict>,
        stored: impl Fn(&ObjectRef) -> Option<Cow<'a, StoredObject>>,
    ) -> Vec<Announcement> {
        self.memory.lock().fresh(errors(verdicts, stored))
    }

    /// Writes an event for each of these errors.
    pub(crate) async fn announce(&self, fresh: Vec<Announcement>, leadership: &Leadership) {
        for announcement in fresh.into_iter().take(AT_ONCE) {
            if !leadership.holds() {
                return;
            }
            self.write(announcement).await;
        }
    }

    async fn write(&self, (object, uid, reason, note): Announcement) {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.as_str().to_owned(),
            note: Some(note),
            action: "Compile".to_owned(),
            secondary: None,
        };
        let resource = resource(object.kind);
        let reference = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(object.name.namespace().to_owned()),
            name: Some(object.name.name().to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        // A new recorder each time: its cache would fold another error of the same reason into the
        // text of the first one.
        let reporter = Reporter {
            controller: format!("{}/{FIELD_MANAGER}", crds::GROUP),
            instance: Some(self.identity.clone()),
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let published = tokio::time::timeout(PATIENCE, recorder.publish(&event, &reference));
        let result = match published.await {
            Ok(Ok(())) => WriteResult::Stored,
            Ok(Err(error)) => {
                debug!(%object, error = %chain(&error), "event not written");
                WriteResult::Failed
            }
            Err(_elapsed) => WriteResult::Failed,
        };
        let label = ResultLabel { result };
        self.metrics.event_writes.get_or_create(&label).inc();
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
    verdicts: &BTreeMap<ObjectRef, Verdict>,
    stored: impl Fn(&ObjectRef) -> Option<Cow<'a, StoredObject>>,
) -> Vec<(Announcement, bool)> {
    let mut errors = Vec::new();
    for (object, verdict) in verdicts {
        let Some(before) = stored(object) else {
            continue;
        };
        // One event per reason: the API server folds more of them anyway.
        let mut notes: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
        let found = verdict.diagnostics.iter();
        for error in found.filter(|found| found.severity == Severity::Error) {
            notes.entry(error.reason).or_default().push(error.located());
        }
        for (reason, notes) in notes {
            let note = cut(&notes.join("; "), NOTE);
            let shown = is_stored(&before, verdict, reason);
            errors.push(((object.clone(), before.uid.clone(), reason, note), shown));
        }
    }
    errors
}

/// Whether the status of this generation has the reason: then it was reported before.
fn is_stored(before: &StoredObject, verdict: &Verdict, reason: Reason) -> bool {
    before.status.conditions.iter().any(|stored| {
        stored.reason == reason.as_str() && stored.observed_generation == Some(verdict.generation)
    })
}
