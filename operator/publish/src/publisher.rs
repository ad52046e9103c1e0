//! Publishes tables to subscribers, and keeps the fleet that acknowledges them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use proxy_admin::clock;
use proxy_core::names::EntryName;
use proxy_core::table::Contents;
use proxy_wire::v1::{self, Ack, AckResult, Features, Objects};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::epoch;
use crate::fleet::{Fleet, Members};
use crate::metrics::Metrics;
use crate::roster::Roster;

mod quotas;
mod state;
mod stored;
pub(crate) mod subscription;
#[cfg(test)]
mod tests;

pub(crate) use state::Form;
pub use state::Publication;
use state::{KEPT, Kept, State};
pub use stored::SnapshotVersion;

/// Longest error text of a replica that is kept: it appears in the status of an object.
const ERROR_CHARS: usize = 1_000;

/// Holds the newest table. Cheap to clone: every clone is the same publisher.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    features: Features,
    state: Mutex<State>,
    /// Changes with the table, the number of replicas and the carryover.
    changes: watch::Sender<u64>,
    fleet: watch::Sender<Fleet>,
    /// The newest revision that a proxy has said it has.
    proxies_revision: watch::Sender<u64>,
    /// Counts departures of replicas that had reported use.
    departures: watch::Sender<u64>,
    /// Counts reports with a level of `warnAt` that is news.
    warnings: watch::Sender<u64>,
    metrics: Metrics,
}

// === impl Publisher ===

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("fleet", &*self.0.fleet.borrow())
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// A publisher with nothing published yet. Its entries name those of `features` that they need.
    #[must_use]
    pub fn new(features: Features, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            features,
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            fleet: watch::Sender::new(Fleet::default()),
            proxies_revision: watch::Sender::new(0),
            departures: watch::Sender::new(0),
            warnings: watch::Sender::new(0),
            metrics,
        }))
    }

    /// Publishes `contents` as of `revision` unless the newest publication has the same, and
    /// returns the newest one. Costs what changed, and a look at the address of each entry of a list that is
    /// not shared with the last one.
    pub fn publish(&self, revision: u64, contents: &Contents) -> Publication {
        let mut state = self.0.state.lock();
        if let Some(newest) = state.kept.back()
            && state.contents == *contents
        {
            let same = newest.publication.clone();
            self.renew(state, revision);
            return same;
        }
        let mut contents = contents.clone();
        contents.share(&state.contents);
        let empty = Objects::default();
        let previous = state.kept.back().map_or(&empty, |kept| &*kept.objects);
        let objects = v1::encode_reusing(&contents, self.0.features, &state.contents, previous);
        let digest: Arc<str> = v1::digest(&objects).into();
        if let Some(newest) = state.kept.back()
            && newest.publication.digest == digest
        {
            // They differ only in fields that do not travel.
            let same = newest.publication.clone();
            self.renew(state, revision);
            return same;
        }
        let (changed, removed) = v1::diff(previous, &objects);
        let sequence = state.newest_sequence() + 1;
        let mut changed_at = state.changed_at();
        // Every key is the name of an entry: the encoder wrote it.
        for name in removed.iter().filter_map(|key| EntryName::parse(key)) {
            changed_at.remove(&name);
        }
        let names = changed.iter().filter_map(|(key, _)| EntryName::parse(key));
        for name in names {
            changed_at.insert(name, sequence);
        }
        let publication = Publication {
            sequence,
            digest,
            changed_at,
        };
        let kept = Kept {
            publication: publication.clone(),
            revision,
            objects: Arc::new(objects),
            in_a_row: OnceLock::new(),
        };
        let before = std::mem::replace(&mut state.contents, contents);
        state.limit(&before);
        state.carryover.due = true;
        state.kept.push_back(kept);
        if state.kept.len() > KEPT {
            state.kept.pop_front();
        }
        state.lines.clear();
        drop(state);
        self.0.metrics.publications.inc();
        self.0.metrics.revision.set(revision);
        self.notify_subscribers();
        info!(
            revision,
            sequence,
            changed = changed.len(),
            removed = removed.len(),
            "table published"
        );
        publication
    }

    /// Gives the newest table a revision of a later epoch: proxies may have ignored it.
    fn renew(&self, mut state: MutexGuard<'_, State>, revision: u64) {
        let newest = state.kept.back_mut();
        let Some(newest) = newest.filter(|newest| {
            let (epoch, _) = epoch::parts(revision);
            epoch > epoch::parts(newest.revision).0
        }) else {
            return;
        };
        newest.revision = revision;
        state.lines.clear();
        drop(state);
        self.0.metrics.revision.set(revision);
        self.notify_subscribers();
        info!(revision, "table published again, in a new epoch");
    }

    /// The newest revision that a proxy has said it has.
    #[must_use]
    pub fn proxies_revision(&self) -> watch::Receiver<u64> {
        self.0.proxies_revision.subscribe()
    }

    /// A proxy says which revision it has.
    pub(crate) fn seen(&self, revision: u64) {
        self.0.proxies_revision.send_if_modified(|newest| {
            let is_newer = revision > *newest;
            *newest = revision.max(*newest);
            is_newer
        });
    }

    /// The newest publication, if there is one.
    #[must_use]
    pub fn newest(&self) -> Option<Publication> {
        let state = self.0.state.lock();
        state.kept.back().map(|newest| newest.publication.clone())
    }

    /// The fleet; changes with every acknowledgement, arrival and departure.
    #[must_use]
    pub fn fleet(&self) -> watch::Receiver<Fleet> {
        self.0.fleet.subscribe()
    }

    /// Records what a replica did with a table; false if `id` is no member of the fleet. An
    /// acknowledgement of a table that is not kept any more has no effect.
    pub(crate) fn acknowledge(&self, id: &str, ack: Ack) -> bool {
        let mut state = self.0.state.lock();
        let newest_first = state.kept.iter().rev();
        let sequence = newest_first
            .filter(|kept| kept.has_digest(&ack.digest))
            .map(|kept| kept.publication.sequence)
            .next();
        let known = match (sequence, ack.result) {
            (None, _) => state.members.contains(id),
            (Some(sequence), AckResult::Applied) => {
                state.members.applied(id, sequence, ack.unsupported)
            }
            (Some(sequence), AckResult::Refused) => {
                let error: String = ack.error.unwrap_or_default();
                let error: String = error.chars().take(ERROR_CHARS).collect();
                warn!(replica = id, sequence, error, "a replica refused the table");
                state.members.refused(id, sequence, error)
            }
        };
        self.notify_fleet(&state);
        self.0.metrics.acked(ack.result);
        known
    }

    /// Takes the pods of the proxies, as often as they change. Without it, and before it, a replica is
    /// gone as soon as it has been away for longer than a reconnect takes.
    pub fn enlist(&self, roster: Roster) {
        self.change_members(|members| members.enlist(roster, clock::instant()));
    }

    /// Removes replicas that have been away for a while, and renews the carryover after reports.
    pub(crate) fn sweep(&self) {
        self.change_members(|members| members.sweep(clock::now(), clock::instant()));
        self.renew_carryover();
    }

    fn join(&self, id: &str, instance: Option<&str>) {
        self.change_members(|members| members.join(id, instance, clock::instant()));
    }

    fn leave(&self, id: &str) {
        self.change_members(|members| members.leave(id, clock::instant()));
    }

    fn change_members(&self, change: impl FnOnce(&mut Members)) {
        let mut state = self.0.state.lock();
        let before = (state.members.count(), state.members.departed().count());
        change(&mut state.members);
        let changed = before.0 != state.members.count();
        let departed = before.1 != state.members.departed().count();
        if changed || departed {
            // The carryover depends on the number of replicas: a subscriber must not receive one
            // without the other.
            self.calculate_carryover(&mut state);
        }
        self.notify_fleet(&state);
        drop(state);
        if departed {
            self.0
                .departures
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        if changed || departed {
            self.notify_subscribers();
        }
    }

    fn notify_fleet(&self, state: &State) {
        let fleet = state.members.snapshot();
        self.0.metrics.count(&fleet, state.newest_sequence());
        self.0.fleet.send_if_modified(|sent| {
            let differs = *sent != fleet;
            *sent = fleet;
            differs
        });
    }

    fn notify_subscribers(&self) {
        self.0
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
