//! From updates to compiled tables: keeps the objects, and compiles after changes what they can change.
//!
//! A compile waits a moment for further changes (`kubectl apply` of a folder is a burst), but a
//! stream of changes cannot delay it without end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use operator_compile::{Compiled, Day, Kind, Memo, ObjectRef, Settings, Severity, Verdict};
use operator_publish::epoch;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::config::Scope;
use crate::metrics::{DiagnosticLabels, KindLabel, Metrics};
use crate::pending::Pending;
use crate::stored_status::StoredObjects;
use crate::watch::{Observed, Update};

#[cfg(test)]
mod tests;

/// A compile waits for this pause between changes: those of a burst are a few milliseconds apart.
const QUIET: Duration = Duration::from_millis(15);

/// Pause between two looks at the day: what warns of a day ahead is an hour late at most.
const DAY: Duration = Duration::from_secs(3_600);

/// Longest wait after the first change: a tenth of the budget of one second.
const LONGEST: Duration = Duration::from_millis(100);

const KINDS: [Kind; 5] = [
    Kind::AiBackend,
    Kind::AiRoute,
    Kind::AiQuota,
    Kind::Secret,
    Kind::ReferenceGrant,
];

/// A compiled table with its revision.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The newest resource version in it, with the epoch of [`epoch`]. It never moves back within a process, and a
    /// restarted operator starts at least as high, or an epoch begins.
    pub revision: u64,
    /// The table and the verdicts.
    pub compiled: Arc<Compiled>,
}

/// Keeps the objects and compiles them.
pub(crate) struct Compiler {
    memo: Memo,
    settings: Settings,
    stored: Arc<Mutex<StoredObjects>>,
    /// Every object of the memo, with its resource version; 0 if it is of an epoch before.
    versions: BTreeMap<ObjectRef, u64>,
    /// The versions of the last listings of this epoch.
    listed: BTreeMap<(Kind, Scope), u64>,
    /// How many of each kind.
    counts: BTreeMap<Kind, i64>,
    /// How many diagnostics the last table has, by severity and reason.
    found: BTreeMap<(&'static str, &'static str), i64>,
    /// What the first compile waits for.
    pending: Pending,
    /// Kinds that the API server no longer knows. They and what depends on them come back one by one: a
    /// table in between would have routes without their quotas.
    unserved: BTreeSet<(Kind, Scope)>,
    /// Gateways are followed, and were not listed yet.
    awaits_gateways: bool,
    revision: u64,
    output: watch::Sender<Option<Compilation>>,
    /// Changes with every stored status.
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
        settings: Settings,
        scopes: &[Scope],
        stored: Arc<Mutex<StoredObjects>>,
        status_changes: watch::Sender<u64>,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<Option<Compilation>>) {
        let (output, compilations) = watch::channel(None);
        let compiler = Self {
            memo: Memo::default(),
            settings,
            stored,
            versions: BTreeMap::new(),
            listed: BTreeMap::new(),
            counts: BTreeMap::new(),
            found: BTreeMap::new(),
            pending: Pending::new(scopes, &KINDS),
            unserved: BTreeSet::new(),
            awaits_gateways: false,
            revision: 0,
            output,
            status_changes,
            metrics,
        };
        (compiler, compilations)
    }

    /// Compiles nothing before Gateways were listed.
    pub(crate) fn await_gateways(&mut self) {
        self.awaits_gateways = true;
    }

    /// Runs until `shutdown` or until every watch has ended.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, mut shutdown: Shutdown) {
        let mut due: Option<Due> = None;
        let mut look = Instant::now() + DAY;
        loop {
            let alarm = due.as_ref().map(Due::at);
            tokio::select! {
                // The alarm first: a stream of updates must not starve it.
                biased;
                () = shutdown.requested() => return,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    due = None;
                    self.compile();
                }
                () = sleep_until(look) => {
                    look = Instant::now() + DAY;
                    let is_compiled = self.output.borrow().is_some();
                    if is_compiled && !self.is_held() && self.settings.today != today() {
                        due = Some(Due::after(due, Instant::now()));
                    }
                }
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    if self.apply(update) {
                        due = Some(Due::after(due, Instant::now()));
                    }
                    // Before everything was listed, a table would be incomplete.
                    if self.is_held() {
                        due = None;
                    } else if self.output.borrow().is_none() && due.is_none() {
                        due = Some(Due::after(None, Instant::now()));
                    }
                }
            }
        }
    }

    /// The table has everything up to this version.
    fn reaches(&mut self, version: u64) {
        let (epoch, _) = epoch::parts(self.revision);
        self.revision = self.revision.max(epoch::revision(epoch, version));
    }

    /// Begins an epoch at this version: what was known of versions says nothing of those to come.
    fn begin(&mut self, epoch: u16, version: u64) {
        self.revision = epoch::revision(epoch, version);
        self.listed.clear();
        self.versions.values_mut().for_each(|known| *known = 0);
    }

    /// Takes the version of a listing. An epoch begins if it is behind what the kind had in this scope: the API server
    /// goes on from an older state, as after a restore of etcd, and the proxies would ignore its tables.
    fn take_version(&mut self, kind: Kind, scope: &Scope, version: u64) {
        let is_here = |object: &ObjectRef| {
            object.kind == kind
                && scope
                    .as_ref()
                    .is_none_or(|scope| scope == object.name.namespace())
        };
        let here = self.versions.iter().filter(|(object, _)| is_here(object));
        let known = here.map(|(_, known)| *known).max().unwrap_or(0);
        let place = (kind, scope.clone());
        let known = known.max(self.listed.get(&place).copied().unwrap_or(0));
        let (epoch, _) = epoch::parts(self.revision);
        if version != 0
            && version < known
            && let Some(epoch) = epoch.checked_add(1)
        {
            warn!(
                %kind,
                epoch,
                version,
                known,
                "the API server's versions went back, as after a restore of etcd; an epoch begins"
            );
            self.begin(epoch, version);
        }
        self.listed.insert(place, version);
        self.reaches(version);
    }

    /// Whether a table has to wait for listings.
    fn is_held(&self) -> bool {
        self.pending.is_awaited() || !self.unserved.is_empty() || self.awaits_gateways
    }

    /// Takes an update into the memo. True if it may change the table.
    fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Listed {
                kind,
                scope,
                objects,
                version,
            } => {
                self.take_version(kind, &scope, version);
                let is_back = self.unserved.remove(&(kind, scope.clone()));
                if is_back {
                    info!(%kind, "the API server knows the kind again");
                }
                if !self.pending.contains(&scope) {
                    return self.list(kind, scope.as_deref(), objects) || is_back;
                }
                let Some(complete) = self.pending.list(kind, &scope, objects) else {
                    return false;
                };
                if let Some(namespace) = &scope {
                    self.metrics.left_out(namespace, false);
                }
                self.put_all(complete)
            }
            Update::Applied(observed) => {
                let observed = self.pending.put(observed);
                observed.is_some_and(|observed| self.put(*observed))
            }
            Update::Reread(observed) => {
                let observed = self.pending.put(observed);
                observed.is_some_and(|observed| self.put_again(*observed))
            }
            Update::Deleted(observed) => {
                self.reaches(observed.stored.version);
                !self.pending.remove(&observed.object) && self.remove(&observed.object)
            }
            Update::Unreadable {
                kind,
                namespace,
                why,
            } => {
                self.leave_out(kind, &namespace, &why);
                false
            }
            Update::Unserved { kind, scope } => {
                if is_ours(kind) && self.unserved.insert((kind, scope)) {
                    warn!(
                        %kind,
                        "the API server does not know the kind; are the CRDs installed? The last table stays"
                    );
                }
                false
            }
            Update::Gateways { gateways, version } => {
                self.reaches(version);
                self.awaits_gateways = false;
                let changed = self.settings.gateways != gateways;
                self.settings.gateways = gateways;
                changed
            }
            Update::Epoch { epoch, version } => {
                let (own, _) = epoch::parts(self.revision);
                let begins = epoch > own;
                if begins {
                    self.begin(epoch, version);
                }
                begins
            }
            Update::GrantsServed(served) => {
                let mut changed = self.settings.grants_served != served;
                self.settings.grants_served = served;
                if !served {
                    let complete = self.pending.not_served(Kind::ReferenceGrant);
                    changed |= self.put_all(complete);
                }
                changed
            }
        }
    }

    /// Goes on without a namespace that cannot be read, but for the own one: it has the platform's quotas.
    fn leave_out(&mut self, kind: Kind, namespace: &str, why: &str) {
        if namespace == self.settings.own_namespace {
            warn!(namespace, %kind, why, "the operator's own namespace cannot be read; it waits");
        } else if self.pending.refuse(namespace) {
            self.metrics.left_out(namespace, true);
            warn!(
                namespace,
                %kind,
                why,
                "a namespace cannot be read and is left out until it can; does it exist, and has the \
                 operator's ServiceAccount its Role there?"
            );
        }
    }

    fn put_all(&mut self, objects: Vec<Observed>) -> bool {
        let mut changed = false;
        for observed in objects {
            changed |= self.put(observed);
        }
        changed
    }

    fn list(&mut self, kind: Kind, scope: Option<&str>, objects: Vec<Observed>) -> bool {
        let listed: BTreeSet<ObjectRef> = objects.iter().map(|one| one.object.clone()).collect();
        let gone: Vec<ObjectRef> = self
            .versions
            .keys()
            .filter(|object| object.kind == kind)
            .filter(|object| scope.is_none_or(|scope| scope == object.name.namespace()))
            .filter(|object| !listed.contains(object))
            .cloned()
            .collect();
        let mut changed = false;
        for object in gone {
            changed |= self.remove(&object);
        }
        self.put_all(objects) || changed
    }

    fn put(&mut self, observed: Observed) -> bool {
        let Observed {
            object,
            stored,
            content,
        } = observed;
        self.reaches(stored.version);
        let indexed = self.versions.get(&object);
        if stored.version != 0 && indexed == Some(&stored.version) {
            return false;
        }
        let before = self.versions.insert(object.clone(), stored.version);
        let goes_on = before.is_some_and(|known| known != 0 && known < stored.version);
        if before.is_none() {
            self.count(object.kind, 1);
        }
        if is_ours(object.kind) {
            let before = self.stored.lock().insert(object, stored.clone());
            self.status_changes
                .send_modify(|count| *count = count.wrapping_add(1));
            // The same generation of the same object: only its status or its labels changed. After a restore
            // of etcd generations are used again for other specs.
            if before.is_some_and(|before| {
                goes_on
                    && before.uid == stored.uid
                    && before.generation == stored.generation
                    && stored.generation != 0
            }) {
                return false;
            }
        }
        self.memo.apply(content);
        true
    }

    /// Takes an object of which more or less is known, at the same version. One that is not indexed will come by itself.
    fn put_again(&mut self, observed: Observed) -> bool {
        let is_known = self.versions.remove(&observed.object).is_some();
        if is_known {
            self.count(observed.object.kind, -1);
        }
        is_known && self.put(observed)
    }

    fn remove(&mut self, object: &ObjectRef) -> bool {
        self.stored.lock().remove(object);
        self.memo.delete(object);
        let is_gone = self.versions.remove(object).is_some();
        if is_gone {
            self.count(object.kind, -1);
        }
        is_gone
    }

    fn compile(&mut self) {
        let before = clock::instant();
        self.settings.today = today();
        let compiled = self.memo.compile(&self.settings);
        let took = clock::instant().saturating_duration_since(before);
        self.metrics.compile_duration.observe(took.as_secs_f64());
        self.metrics.compilations.inc();
        self.metrics.revision.set(self.revision);
        self.measure(&compiled);
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
        self.output.send_replace(Some(Compilation {
            revision: self.revision,
            compiled: Arc::new(compiled),
        }));
    }

    fn count(&mut self, kind: Kind, more: i64) {
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(more);
    }

    /// Looks at the verdicts that are not those of the table before.
    fn measure(&mut self, compiled: &Compiled) {
        for kind in KINDS {
            let label = KindLabel {
                kind: kind.as_str(),
            };
            let count = self.counts.get(&kind).copied().unwrap_or_default();
            self.metrics.objects.get_or_create(&label).set(count);
        }
        let before = self.output.borrow().clone();
        let before = before.map(|before| before.compiled.verdicts.clone());
        let before = before.unwrap_or_default();
        let (fresh, gone) = compiled.verdicts.changes(&before);
        let mut add = |verdict: &Verdict, more: i64| {
            for diagnostic in &verdict.diagnostics {
                let severity = match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                let found = self.found.entry((severity, diagnostic.reason.as_str()));
                let count = found.or_default();
                *count = count.saturating_add(more);
            }
        };
        fresh.iter().for_each(|one| add(&one.verdict, 1));
        gone.iter().for_each(|one| add(&one.verdict, -1));
        self.found.retain(|_, count| *count != 0);
        self.metrics.diagnostics.clear();
        for ((severity, reason), count) in &self.found {
            let labels = DiagnosticLabels { severity, reason };
            self.metrics.diagnostics.get_or_create(&labels).set(*count);
        }
    }
}

fn today() -> Day {
    Day::at(clock::now().unix_ms)
}

const fn is_ours(kind: Kind) -> bool {
    match kind {
        Kind::AiBackend | Kind::AiRoute | Kind::AiQuota => true,
        Kind::Secret | Kind::ReferenceGrant => false,
    }
}

/// The time of the next compile.
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
