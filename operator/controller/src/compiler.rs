//! From updates to compiled tables: keeps the index, and compiles when it has changed.
//!
//! A change waits a moment for others that come with it (`kubectl apply` of a folder is a burst),
//! but a stream of changes cannot put the work off for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use operator_compile::{Compiled, Index, Kind, Object, ObjectRef, Settings, Severity, compile};
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use crate::known::KnownObjects;
use crate::metrics::{DiagnosticLabels, KindLabel, Metrics};
use crate::watch::{Scope, Seen, Update};

#[cfg(test)]
mod tests;

/// The pause after a change for which a compile waits: a burst arrives within a few milliseconds.
const QUIET: Duration = Duration::from_millis(15);

/// The longest wait after the first of many changes: a tenth of the budget of one second.
const LONGEST: Duration = Duration::from_millis(100);

const KINDS: [Kind; 5] = [
    Kind::AiBackend,
    Kind::AiRoute,
    Kind::AiQuota,
    Kind::Secret,
    Kind::ReferenceGrant,
];

/// A compiled table and what it was made of.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The newest resource version that is in it. Never goes back within a process, and a restarted
    /// operator starts at least as high.
    pub revision: u64,
    /// The table and the verdicts.
    pub compiled: Arc<Compiled>,
    /// Generations of the objects that could not be decoded, which their verdicts do not know.
    pub(crate) undecodable: Arc<BTreeMap<ObjectRef, i64>>,
}

/// Keeps the index.
pub(crate) struct Compiler {
    index: Index,
    settings: Settings,
    known: Arc<Mutex<KnownObjects>>,
    /// The keys of `known`, and the Secrets and grants, with the version that is in the index.
    versions: BTreeMap<ObjectRef, u64>,
    undecodable: BTreeSet<ObjectRef>,
    /// What has to be listed once before the first compile.
    awaited: BTreeSet<(Kind, Scope)>,
    scopes: Vec<Scope>,
    revision: u64,
    output: watch::Sender<Option<Compilation>>,
    /// Rings whenever a stored status has changed.
    status_changes: watch::Sender<u64>,
    metrics: Metrics,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("revision", &self.revision)
            .field("objects", &self.versions.len())
            .finish_non_exhaustive()
    }
}

// === impl Compiler ===

impl Compiler {
    pub(crate) fn new(
        own_namespace: &str,
        scopes: Vec<Scope>,
        known: Arc<Mutex<KnownObjects>>,
        status_changes: watch::Sender<u64>,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<Option<Compilation>>) {
        let (output, compilations) = watch::channel(None);
        let awaited = KINDS
            .into_iter()
            .flat_map(|kind| scopes.iter().map(move |scope| (kind, scope.clone())))
            .collect();
        let compiler = Self {
            index: Index::default(),
            settings: Settings {
                own_namespace: own_namespace.to_owned(),
                grants_served: false,
            },
            known,
            versions: BTreeMap::new(),
            undecodable: BTreeSet::new(),
            awaited,
            scopes,
            revision: 0,
            output,
            status_changes,
            metrics,
        };
        (compiler, compilations)
    }

    /// Runs until `shutdown` or until every watch has ended.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, mut shutdown: Shutdown) {
        let mut due: Option<Due> = None;
        loop {
            let alarm = due.as_ref().map(Due::at);
            tokio::select! {
                // The alarm first: a stream of updates must not outrun it.
                biased;
                () = shutdown.requested() => return,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    due = None;
                    self.compile();
                }
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    if self.apply(update) {
                        due = Some(Due::after(due, Instant::now()));
                    }
                    // Until everything was listed once, a table would lack what is still to come.
                    if !self.awaited.is_empty() {
                        due = None;
                    } else if self.output.borrow().is_none() && due.is_none() {
                        due = Some(Due::after(None, Instant::now()));
                    }
                }
            }
        }
    }

    /// Takes an update into the index. True if a compile could come out differently.
    fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Listed {
                kind,
                scope,
                objects,
                version,
            } => {
                self.revision = self.revision.max(version);
                self.awaited.remove(&(kind, scope.clone()));
                self.list(kind, scope.as_deref(), objects)
            }
            Update::Applied(seen) => self.put(*seen),
            Update::Deleted(seen) => {
                self.revision = self.revision.max(seen.known.version);
                self.remove(&seen.object)
            }
            Update::GrantsServed(served) => {
                if !served {
                    let scopes = self.scopes.iter().cloned();
                    for scope in scopes {
                        self.awaited.remove(&(Kind::ReferenceGrant, scope));
                    }
                }
                let changed = self.settings.grants_served != served;
                self.settings.grants_served = served;
                changed
            }
        }
    }

    fn list(&mut self, kind: Kind, scope: Option<&str>, objects: Vec<Seen>) -> bool {
        let listed: BTreeSet<ObjectRef> = objects.iter().map(|seen| seen.object.clone()).collect();
        let gone: Vec<ObjectRef> = self
            .versions
            .keys()
            .filter(|known| known.kind == kind)
            .filter(|known| scope.is_none_or(|scope| scope == known.name.namespace()))
            .filter(|known| !listed.contains(known))
            .cloned()
            .collect();
        let mut changed = false;
        for object in gone {
            changed |= self.remove(&object);
        }
        for seen in objects {
            changed |= self.put(seen);
        }
        changed
    }

    fn put(&mut self, seen: Seen) -> bool {
        let Seen {
            object,
            known,
            content,
        } = seen;
        self.revision = self.revision.max(known.version);
        let stored = self.versions.get(&object);
        if known.version != 0 && stored == Some(&known.version) {
            return false;
        }
        self.versions.insert(object.clone(), known.version);
        if is_ours(object.kind) {
            let before = self.known.lock().insert(object.clone(), known.clone());
            self.status_changes
                .send_modify(|count| *count = count.wrapping_add(1));
            // Same generation of the same object: only its status or its labels are new.
            if before.is_some_and(|before| {
                before.uid == known.uid
                    && before.generation == known.generation
                    && known.generation != 0
            }) {
                return false;
            }
        }
        if matches!(content, Object::Undecodable { .. }) {
            self.undecodable.insert(object);
        } else {
            self.undecodable.remove(&object);
        }
        self.index.apply(content);
        true
    }

    fn remove(&mut self, object: &ObjectRef) -> bool {
        self.known.lock().remove(object);
        self.undecodable.remove(object);
        self.index.delete(object);
        self.versions.remove(object).is_some()
    }

    fn compile(&mut self) {
        let before = clock::instant();
        let compiled = compile(&self.index, &self.settings);
        let took = clock::instant().saturating_duration_since(before);
        self.metrics.compile_duration.observe(took.as_secs_f64());
        self.metrics.compilations.inc();
        self.metrics.revision.set(self.revision);
        self.count(&compiled);
        let first = self.output.borrow().is_none();
        if first {
            info!(
                revision = self.revision,
                objects = self.versions.len(),
                "first table compiled"
            );
        } else {
            debug!(revision = self.revision, ?took, "table compiled");
        }
        let undecodable = {
            let known = self.known.lock();
            let generation = |object: &ObjectRef| known.get(object).map_or(0, |one| one.generation);
            let each = self.undecodable.iter();
            each.map(|object| (object.clone(), generation(object)))
                .collect()
        };
        self.output.send_replace(Some(Compilation {
            revision: self.revision,
            compiled: Arc::new(compiled),
            undecodable: Arc::new(undecodable),
        }));
    }

    fn count(&self, compiled: &Compiled) {
        for kind in KINDS {
            let count = self.versions.keys().filter(|one| one.kind == kind).count();
            let label = KindLabel {
                kind: kind.as_str(),
            };
            let gauge = self.metrics.objects.get_or_create(&label);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut found: BTreeMap<(&'static str, &'static str), i64> = BTreeMap::new();
        for diagnostic in compiled.verdicts.values().flat_map(|one| &one.diagnostics) {
            let severity = match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let count = found
                .entry((severity, diagnostic.reason.as_str()))
                .or_default();
            *count = count.saturating_add(1);
        }
        self.metrics.diagnostics.clear();
        for ((severity, reason), count) in found {
            let labels = DiagnosticLabels { severity, reason };
            self.metrics.diagnostics.get_or_create(&labels).set(count);
        }
    }
}

const fn is_ours(kind: Kind) -> bool {
    match kind {
        Kind::AiBackend | Kind::AiRoute | Kind::AiQuota => true,
        Kind::Secret | Kind::ReferenceGrant => false,
    }
}

/// When to compile next.
#[derive(Clone, Copy, Debug)]
struct Due {
    first: Instant,
    last: Instant,
}

// === impl Due ===

impl Due {
    /// After one more change, at `now`.
    fn after(before: Option<Self>, now: Instant) -> Self {
        Self {
            first: before.map_or(now, |due| due.first),
            last: now,
        }
    }

    fn at(&self) -> Instant {
        (self.last + QUIET).min(self.first + LONGEST)
    }
}
