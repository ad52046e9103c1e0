//! Writes status, if we lead: for each object what was judged and how many replicas have it.
//!
//! It refuses to write what is stored already: at rest there are no writes. A change of one object
//! writes one object, since each object has its own sequence of publication.
//!
//! Words: a `wanted` status is computed from scratch each time; a `pass` looks at every object once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use operator_compile::{Kind, ObjectRef, Verdict, wire_key};
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tracing::{debug, warn};

pub(crate) use self::judge::located;
use self::judge::{Acknowledged, Wanted};
use crate::compiler::Compilation;
use crate::events::Announcer;
use crate::known::{Known, KnownObjects};
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, WriteLabels, WriteResult};
use crate::{FIELD_MANAGER, watch as watches};

mod judge;
#[cfg(test)]
mod tests;

/// Writes at a time: enough to keep the API server's latency from adding up, too few to crowd it.
const CONCURRENCY: usize = 8;

/// How long a pass waits for what belongs together: the proxies acknowledge within this, so that
/// most changes cost one write and not two.
const COALESCE: Duration = Duration::from_millis(150);

/// After a start, replicas need this to find us. Until then an object that was programmed stays so.
const SETTLE: Duration = Duration::from_secs(15);

/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Longest wait for one write.
const PATIENCE: Duration = Duration::from_secs(15);

/// A compiled table that has been handed to the channel.
#[derive(Clone)]
pub struct Publication {
    /// The table.
    pub compilation: Compilation,
    /// For an object's key on the channel ([`wire_key`]) the sequence of the publication that last
    /// changed its entry; `None` if it has no entry.
    pub changed_at: ChangedAt,
}

/// From a key on the channel to a sequence.
pub type ChangedAt = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// The proxies that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Every live replica.
    pub replicas: Vec<Replica>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Who it is, for messages.
    pub id: String,
    /// The sequence of the newest publication that it has in force.
    pub acked: Option<u64>,
    /// The sequence of the newest publication that it refused, and why.
    pub refused: Option<(u64, String)>,
    /// It does not reach the shared store of counters.
    pub store_lost: bool,
}

/// Everything that a wanted status follows from.
pub(crate) struct Inputs {
    pub(crate) publications: watch::Receiver<Option<Publication>>,
    pub(crate) fleet: watch::Receiver<Fleet>,
    /// Rings whenever a stored status has changed.
    pub(crate) status_changes: watch::Receiver<u64>,
    pub(crate) known: Arc<Mutex<KnownObjects>>,
}

pub(crate) struct StatusWriter {
    client: Client,
    inputs: Inputs,
    announcer: Announcer,
    metrics: Metrics,
    settled_ms: u64,
}

// === impl Publication ===

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("revision", &self.compilation.revision)
            .finish_non_exhaustive()
    }
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
        Self {
            client,
            inputs,
            announcer,
            metrics,
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
            // Whatever is under way is dropped with the leadership.
            tokio::select! {
                () = self.lead(&leadership) => {}
                () = lost.lost() => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn lead(&mut self, leadership: &Leadership) {
        self.announcer.begin();
        loop {
            self.inputs.publications.borrow_and_update();
            self.inputs.fleet.borrow_and_update();
            self.inputs.status_changes.borrow_and_update();
            let complete = self.pass(leadership).await;
            if complete {
                self.changed().await;
            } else {
                tokio::time::sleep(RETRY).await;
            }
            tokio::time::sleep(COALESCE).await;
        }
    }

    /// Waits until a pass could find something to do.
    async fn changed(&mut self) {
        let now = clock::now().monotonic_ms;
        let settling = self.settled_ms.checked_sub(now).filter(|left| *left > 0);
        let settled = async {
            match settling {
                Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
                None => std::future::pending().await,
            }
        };
        // A closed input changes no more; the others may.
        let inputs = &mut self.inputs;
        tokio::select! {
            Ok(()) = inputs.publications.changed() => {}
            Ok(()) = inputs.fleet.changed() => {}
            Ok(()) = inputs.status_changes.changed() => {}
            () = settled => {}
            else => std::future::pending().await,
        }
    }

    /// Writes what has to be written. False if a write failed and has to be tried again.
    async fn pass(&self, leadership: &Leadership) -> bool {
        let Some(publication) = self.inputs.publications.borrow().clone() else {
            return true;
        };
        let verdicts = &publication.compilation.compiled.verdicts;
        let (due, fresh): (Vec<&ObjectRef>, _) = {
            let fleet = self.inputs.fleet.borrow();
            let known = self.inputs.known.lock();
            let stale = verdicts.iter().filter(|(object, verdict)| {
                known.get(object).is_some_and(|known| {
                    let wanted = self.wanted(object, verdict, known, &publication, &fleet);
                    wanted.is_some_and(|wanted| wanted.differs(&known.status))
                })
            });
            let due = stale.map(|(object, _)| object).collect();
            (due, self.announcer.fresh(verdicts, &known))
        };
        let writes: Vec<_> = due
            .into_iter()
            .map(|object| self.write(object, leadership))
            .collect();
        let mut results = futures::stream::iter(writes).buffer_unordered(CONCURRENCY);
        let mut complete = true;
        while let Some(stored) = results.next().await {
            complete &= stored;
        }
        drop(results);
        self.announcer.announce(fresh, leadership).await;
        complete
    }

    /// What the status should be. `None` while what is judged is not what is stored: a newer
    /// judgement is on its way, ours or that of a newer operator.
    fn wanted(
        &self,
        object: &ObjectRef,
        verdict: &Verdict,
        known: &Known,
        publication: &Publication,
        fleet: &Fleet,
    ) -> Option<Wanted> {
        let generation = match verdict.generation {
            0 => *publication.compilation.undecodable.get(object)?,
            judged => judged,
        };
        if generation != known.generation {
            return None;
        }
        if known.status.newest_generation() > Some(generation) {
            return None;
        }
        let acknowledged = match object.kind {
            Kind::AiRoute | Kind::AiQuota => {
                let sequence = (publication.changed_at)(&wire_key(object));
                Some(Acknowledged::count(sequence, fleet))
            }
            Kind::AiBackend | Kind::Secret | Kind::ReferenceGrant => None,
        };
        let mut wanted = Wanted::new(object, verdict, generation, acknowledged.as_ref());
        if clock::now().monotonic_ms < self.settled_ms {
            wanted.keep_programmed(object, &known.status);
        }
        Some(wanted)
    }

    /// Writes one status, computed anew from the newest inputs. False if that failed.
    async fn write(&self, object: &ObjectRef, leadership: &Leadership) -> bool {
        let Some((patch, known)) = self.patch(object) else {
            return true;
        };
        if !leadership.holds() {
            return true;
        }
        let resource = watches::resource(object.kind);
        let name = &object.name;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), name.namespace(), &resource);
        // One manager and the whole set each time: what we leave out is deleted.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&patch);
        let call = api.patch_status(name.name(), &parameters, &patch);
        let result = match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(stored)) => {
                self.remember(object, &known, &stored);
                WriteResult::Stored
            }
            // Gone, or another one of the same name: its event is on its way.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                debug!(%object, %status, "status not written");
                WriteResult::Gone
            }
            Ok(Err(error)) => {
                warn!(%object, error = %crate::chain(&error), "status could not be written");
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

    fn patch(&self, object: &ObjectRef) -> Option<(serde_json::Value, Known)> {
        let publication = self.inputs.publications.borrow().clone()?;
        let verdict = publication.compilation.compiled.verdicts.get(object)?;
        let fleet = self.inputs.fleet.borrow().clone();
        let known = self.inputs.known.lock().get(object)?.clone();
        let wanted = self.wanted(object, verdict, &known, &publication, &fleet)?;
        let now_ms = clock::now().unix_ms;
        wanted
            .differs(&known.status)
            .then(|| (wanted.patch(object, &known, now_ms), known))
    }

    /// What was stored, without waiting for the event that tells so.
    fn remember(&self, object: &ObjectRef, before: &Known, stored: &DynamicObject) {
        let version = stored.resource_version().and_then(|text| text.parse().ok());
        let mut known = self.inputs.known.lock();
        if let Some(known) = known.get_mut(object)
            && let Some(version) = version
            && known.uid == before.uid
            && known.version < version
        {
            known.status = crate::known::StoredStatus::read(stored.data.get("status"));
            // Not the version: the event must still be seen as new.
        }
    }
}
