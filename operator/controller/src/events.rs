//! Tells a person, by a Kubernetes event, what only a person can mend: once per error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use operator_compile::{ObjectRef, Severity, Verdict};
use parking_lot::Mutex;
use tracing::debug;

use crate::known::{Known, KnownObjects};
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, ResultLabel, WriteResult};
use crate::status::located;
use crate::{FIELD_MANAGER, watch};

/// The API server refuses notes above 1 kB.
const NOTE: usize = 1_000;

/// Longest wait for one event; a lost one is a pity, not a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events in one go. When a thousand objects break at once, the conditions tell of the others.
const AT_ONCE: usize = 50;

/// An error as told: which object (by uid), why, and in which words.
pub(crate) type Told = (ObjectRef, String, Reason, String);

/// Remembers what was told.
pub(crate) struct Announcer {
    client: Client,
    identity: String,
    metrics: Metrics,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    told: BTreeSet<Told>,
    /// Whether the errors that there are have been taken note of since we lead.
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

    /// We lead anew: what an earlier leader has told is not told again.
    pub(crate) fn begin(&self) {
        *self.memory.lock() = Memory::default();
    }

    /// Takes note of the errors in `verdicts`, and gives those that were not there last time. To be
    /// asked before the status is written, which is by what a new leader knows that it was told.
    pub(crate) fn fresh(
        &self,
        verdicts: &BTreeMap<ObjectRef, Verdict>,
        known: &KnownObjects,
    ) -> Vec<Told> {
        self.memory.lock().fresh(errors(verdicts, known))
    }

    /// Tells of these errors.
    pub(crate) async fn announce(&self, fresh: Vec<Told>, leadership: &Leadership) {
        for told in fresh.into_iter().take(AT_ONCE) {
            if !leadership.holds() {
                return;
            }
            self.tell(told).await;
        }
    }

    async fn tell(&self, (object, uid, reason, note): Told) {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.as_str().to_owned(),
            note: Some(note),
            action: "Compile".to_owned(),
            secondary: None,
        };
        let resource = watch::resource(object.kind);
        let reference = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(object.name.namespace().to_owned()),
            name: Some(object.name.name().to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        // A new one each time: its memory would fold another error of the same reason into the
        // first one's words.
        let reporter = Reporter {
            controller: format!("{}/{FIELD_MANAGER}", crds::GROUP),
            instance: Some(self.identity.clone()),
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let published = tokio::time::timeout(PATIENCE, recorder.publish(&event, &reference));
        let result = match published.await {
            Ok(Ok(())) => WriteResult::Stored,
            Ok(Err(error)) => {
                debug!(%object, error = %crate::chain(&error), "event not written");
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
    /// Takes note of all `errors`, and gives those that have to be told. `true` in an error: its
    /// object's stored status says so already.
    fn fresh(&mut self, errors: Vec<(Told, bool)>) -> Vec<Told> {
        let starting = !std::mem::replace(&mut self.started, true);
        let fresh = errors
            .iter()
            .filter(|(told, stored)| !(self.told.contains(told) || starting && *stored))
            .map(|(told, _)| told.clone())
            .collect();
        self.told = errors.into_iter().map(|(told, _)| told).collect();
        fresh
    }
}

fn errors(verdicts: &BTreeMap<ObjectRef, Verdict>, known: &KnownObjects) -> Vec<(Told, bool)> {
    let mut errors = Vec::new();
    for (object, verdict) in verdicts {
        let Some(known) = known.get(object) else {
            continue;
        };
        // One event per reason: the API server folds more of them anyway.
        let mut notes: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
        let found = verdict.diagnostics.iter();
        for error in found.filter(|found| found.severity == Severity::Error) {
            notes.entry(error.reason).or_default().push(located(error));
        }
        for (reason, notes) in notes {
            let note = cut(&notes.join("; "));
            let stored = is_stored(known, verdict, reason);
            errors.push(((object.clone(), known.uid.clone(), reason, note), stored));
        }
    }
    errors
}

/// Whether the status of this generation names the reason: then somebody has told of it before.
fn is_stored(known: &Known, verdict: &Verdict, reason: Reason) -> bool {
    known.status.conditions.iter().any(|stored| {
        stored.reason == reason.as_str()
            && (verdict.generation == 0 || stored.observed_generation == Some(verdict.generation))
    })
}

fn cut(note: &str) -> String {
    let mut end = note.len().min(NOTE);
    while !note.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    note.get(..end).unwrap_or_default().to_owned()
}
