//! Writes status while this replica leads: each object's verdict, and how many proxies have it.
//!
//! It writes no status that is stored already: at rest there are no writes. A change of one object
//! writes one object, since each entry of a table has its own sequence of publication.
//!
//! Words: a `wanted` status is computed from scratch each time; a `pass` checks every object that is open once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use operator_compile::{Kind, ObjectRef, Verdict};
use operator_publish::{Fleet, Publication};
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::judge::{Acknowledged, Heard, Wanted};
use self::open::Open;
use self::service::{Candidates, Service};
use crate::claims::Claims;
use crate::compiler::Compilation;
use crate::config::FIELD_MANAGER;
use crate::event_writer::Notice;
use crate::events::Announcer;
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, WriteLabels, WriteResult};
use crate::resource::resource;
use crate::retirements::notices;
use crate::stored_status::{StoredObject, StoredObjects, StoredStatus};

mod judge;
mod open;
pub(crate) mod parents;
mod service;
#[cfg(test)]
mod tests;

/// Concurrent writes: enough to hide the API server's latency, too few to crowd it.
const CONCURRENCY: usize = 8;

/// Pause before a pass: the proxies acknowledge within this, so that most changes cost one write
/// instead of two.
const COALESCE: Duration = Duration::from_millis(150);

/// Replicas find a new operator within this time. Until then a programmed object stays so.
const SETTLE: Duration = Duration::from_secs(15);

/// Pause before a failed write is tried again: the API server needs time.
const RETRY: Duration = Duration::from_secs(2);

/// Longest wait for one write.
const PATIENCE: Duration = Duration::from_secs(15);

/// A compiled table, and its publication on the channel.
#[derive(Clone, Debug)]
pub struct PublishedTable {
    /// The table with its verdicts.
    pub compilation: Compilation,
    /// When each entry of the table last changed.
    pub publication: Publication,
}

/// Everything that determines a wanted status.
pub(crate) struct Inputs {
    pub(crate) publications: watch::Receiver<Option<PublishedTable>>,
    pub(crate) fleet: watch::Receiver<Fleet>,
    /// Changes with every stored status.
    pub(crate) status_changes: watch::Receiver<u64>,
    /// Every object as the watches observed it.
    pub(crate) stored: Arc<Mutex<StoredObjects>>,
    /// The namespaces whose statuses are ours.
    pub(crate) claims: Arc<Claims>,
}

/// Writes every status that differs from the stored one.
pub(crate) struct StatusWriter {
    client: Client,
    inputs: Inputs,
    announcer: Announcer,
    metrics: Metrics,
    /// Own writes whose events have not come yet.
    written: Mutex<BTreeMap<ObjectRef, StoredObject>>,
    /// What the next pass has to look at.
    open: Mutex<Open>,
    /// What backends say that is not stored yet.
    candidates: Mutex<Candidates>,
    /// Where the time of `candidates` begins.
    started: Instant,
    /// When every replica has had the time to find this operator.
    settled_ms: u64,
    /// Changes when a namespace has become ours.
    gained: watch::Receiver<u64>,
    /// When the last pass began, and whether that was before `settled_ms`.
    began_ms: u64,
    settles: bool,
}

// === impl StatusWriter ===

impl StatusWriter {
    pub(crate) fn new(
        client: Client,
        inputs: Inputs,
        announcer: Announcer,
        metrics: Metrics,
    ) -> Self {
        let settle_ms = u64::try_from(SETTLE.as_millis()).unwrap_or(u64::MAX);
        let gained = inputs.claims.gained();
        Self {
            client,
            inputs,
            announcer,
            metrics,
            gained,
            began_ms: 0,
            settles: false,
            written: Mutex::default(),
            open: Mutex::default(),
            candidates: Mutex::default(),
            started: Instant::now(),
            settled_ms: clock::now().monotonic_ms.saturating_add(settle_ms),
        }
    }

    /// Writes while we lead, until `shutdown`.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = leadership.gained() => {}
                () = shutdown.requested() => return,
            }
            debug!("writing status");
            let mut lost = leadership.clone();
            // A loss of the leadership cancels the pass under way.
            tokio::select! {
                () = self.lead(&leadership) => {}
                () = lost.lost() => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn lead(&mut self, leadership: &Leadership) {
        self.announcer.begin();
        self.open.lock().reset();
        loop {
            self.begin();
            let complete = self.pass(leadership).await;
            if complete {
                self.changed().await;
            } else {
                tokio::time::sleep(RETRY).await;
            }
            tokio::time::sleep(COALESCE).await;
        }
    }

    /// Takes what there is as seen. What changes within a pass, time included, is cause for another.
    fn begin(&mut self) {
        self.inputs.publications.borrow_and_update();
        self.inputs.fleet.borrow_and_update();
        self.inputs.status_changes.borrow_and_update();
        self.gained.borrow_and_update();
        self.began_ms = self.elapsed_ms();
        self.settles = clock::now().monotonic_ms < self.settled_ms;
    }

    /// Waits until an input has changed since a pass began, or a state has lasted.
    async fn changed(&mut self) {
        let now = clock::now().monotonic_ms;
        let settling = self.settles.then(|| self.settled_ms.saturating_sub(now));
        let lasting = self.candidates.lock().next_ms(self.began_ms);
        let lasting = lasting.map(|moment| moment.saturating_sub(self.elapsed_ms()));
        let due = settling.into_iter().chain(lasting).min();
        let is_due = async {
            match due {
                Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
                None => std::future::pending().await,
            }
        };
        // A closed input never changes again; the others may.
        let inputs = &mut self.inputs;
        tokio::select! {
            Ok(()) = inputs.publications.changed() => {}
            Ok(()) = inputs.fleet.changed() => {}
            Ok(()) = inputs.status_changes.changed() => {}
            Ok(()) = self.gained.changed() => {}
            () = is_due => {}
            else => std::future::pending().await,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes every status that differs. False if a write failed and has to be tried again.
    async fn pass(&self, leadership: &Leadership) -> bool {
        let Some(table) = self.inputs.publications.borrow().clone() else {
            return true;
        };
        let verdicts = &table.compilation.compiled.verdicts;
        let (due, fresh) = {
            let fleet = self.inputs.fleet.borrow();
            let mut stored = self.inputs.stored.lock();
            let touched = stored.take_touched();
            let mut written = self.written.lock();
            written.retain(|object, written| {
                let observed = stored.get(object);
                observed.is_some_and(|observed| written.supersedes(observed))
            });
            let mut candidates = self.candidates.lock();
            candidates.retain(|object| verdicts.contains_key(object));
            drop(candidates);
            let latest = |object: &ObjectRef| {
                let observed = stored.get(object)?;
                Some(observed.after(written.get(object)))
            };
            let mut open = self.open.lock();
            let mut due: Vec<ObjectRef> = Vec::new();
            for object in open.review(&table.compilation.compiled, &fleet, touched) {
                let found = verdicts.get(&object).zip(latest(&object));
                let Some((verdict, stored)) = found else {
                    continue;
                };
                let wanted = self.wanted(&object, verdict, &stored, &table, &fleet);
                if wanted
                    .as_ref()
                    .is_some_and(|wanted| wanted.differs(&stored.status))
                {
                    due.push(object);
                } else if wanted.is_some() && self.rests(&object, &table, &fleet) {
                    open.settle(&object);
                }
            }
            drop(open);
            (
                due,
                self.announcer.fresh(&table.compilation.compiled, latest),
            )
        };
        let writes: Vec<_> = due
            .iter()
            .map(|object| self.write(object, leadership))
            .collect();
        let mut results = futures::stream::iter(writes).buffer_unordered(CONCURRENCY);
        let mut complete = true;
        while let Some(written) = results.next().await {
            complete &= written;
        }
        drop(results);
        self.announcer.announce(fresh, leadership).await;
        complete
    }

    /// The status that the object should have. `None` while the verdict is not on the stored
    /// generation: a newer verdict is on its way, from here or from a newer operator.
    fn wanted(
        &self,
        object: &ObjectRef,
        verdict: &Verdict,
        stored: &StoredObject,
        table: &PublishedTable,
        fleet: &Fleet,
    ) -> Option<Wanted> {
        let generation = verdict.generation;
        if generation != stored.generation {
            return None;
        }
        if stored.status.newest_generation() > Some(generation) {
            return None;
        }
        let heard = match object.kind {
            Kind::AiRoute | Kind::AiQuota => {
                let entry = object.entry()?;
                let sequence = table.publication.changed_at.get(&entry);
                Heard::Progress(Acknowledged::count(&entry, sequence, fleet))
            }
            Kind::AiBackend => {
                let now = Service::of_backend(&object.name, fleet);
                let stored = Service::stored(&stored.status);
                let mut candidates = self.candidates.lock();
                let lasting = candidates.settle(object, now, stored, self.elapsed_ms());
                Heard::of_backend(&object.name, lasting, fleet)
            }
            Kind::Secret | Kind::ReferenceGrant => Heard::Nothing,
        };
        let mut wanted = Wanted::new(object, verdict, &heard);
        if clock::now().monotonic_ms < self.settled_ms {
            wanted.keep_programmed(&stored.status);
        }
        Some(wanted)
    }

    /// Whether neither time nor the progress of proxies changes what the status should be.
    fn rests(&self, object: &ObjectRef, table: &PublishedTable, fleet: &Fleet) -> bool {
        if clock::now().monotonic_ms < self.settled_ms || self.candidates.lock().has(object) {
            return false;
        }
        let entry = object.entry();
        let sequence = entry.and_then(|entry| table.publication.changed_at.get(&entry));
        let mut replicas = fleet.replicas.iter();
        object.kind == Kind::AiBackend || replicas.all(|replica| replica.acked >= sequence)
    }

    /// Writes one status, computed from the newest inputs. False if that failed.
    async fn write(&self, object: &ObjectRef, leadership: &Leadership) -> bool {
        let Some((patch, stored)) = self.patch(object) else {
            return true;
        };
        match self.inputs.claims.hold(object.name.namespace()).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(error) => {
                warn!(%object, error = %chain(&error), "whose the status is cannot be read");
                return false;
            }
        }
        if !leadership.holds() {
            return true;
        }
        // One that cannot be written is lost, and holds up no status.
        for notice in self.retirements(object, &stored) {
            self.announcer.write(&notice).await;
        }
        let resource = resource(object.kind);
        let name = &object.name;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), name.namespace(), &resource);
        // One manager applies the whole set each time: the API server deletes fields that are left
        // out.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&patch);
        let call = api.patch_status(name.name(), &parameters, &patch);
        let result = match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(written)) => {
                self.remember(object, &stored, &written);
                WriteResult::Stored
            }
            // Deleted, or replaced by one of the same name: the event is on its way.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                debug!(%object, %status, "status not written");
                WriteResult::Gone
            }
            Ok(Err(error)) => {
                warn!(%object, error = %chain(&error), "status could not be written");
                WriteResult::Failed
            }
            Err(_elapsed) => {
                warn!(%object, "the API server does not answer a status write");
                WriteResult::Failed
            }
        };
        let labels = WriteLabels {
            kind: object.kind.as_str(),
            result,
        };
        self.metrics.status_writes.get_or_create(&labels).inc();
        result != WriteResult::Failed
    }

    fn patch(&self, object: &ObjectRef) -> Option<(serde_json::Value, StoredObject)> {
        let table = self.inputs.publications.borrow().clone()?;
        let verdict = table.compilation.compiled.verdicts.get(object)?;
        let fleet = self.inputs.fleet.borrow().clone();
        let observed = self.inputs.stored.lock().get(object)?.clone();
        let stored = observed.after(self.written.lock().get(object)).into_owned();
        let wanted = self.wanted(object, verdict, &stored, &table, &fleet)?;
        let now_ms = clock::now().unix_ms;
        wanted
            .differs(&stored.status)
            .then(|| (wanted.patch(object, &stored, now_ms), stored))
    }

    fn retirements(&self, object: &ObjectRef, stored: &StoredObject) -> Vec<Notice> {
        let Some(table) = self.inputs.publications.borrow().clone() else {
            return Vec::new();
        };
        let verdict = table.compilation.compiled.verdicts.get(object);
        verdict.map_or_else(Vec::new, |verdict| notices(object, verdict, stored))
    }

    /// Remembers a write until its event comes.
    fn remember(&self, object: &ObjectRef, before: &StoredObject, written: &DynamicObject) {
        let version = written
            .resource_version()
            .and_then(|text| text.parse().ok());
        if let Some(version) = version {
            let written = StoredObject {
                version,
                status: StoredStatus::read(written.data.get("status")),
                ..before.clone()
            };
            self.written.lock().insert(object.clone(), written);
        }
    }
}
