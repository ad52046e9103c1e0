//! The newest table, the few before it, and everybody who follows them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_core::table::Contents;
use proxy_wire::v1::{self, Ack, AckResult, Delta, Heartbeat, Line, Objects, Snapshot};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::fleet::{Fleet, Members};
use crate::metrics::Metrics;
use crate::usage::{self, Limits};

mod counting;
mod subscription;
#[cfg(test)]
mod tests;

use counting::Carries;
pub(crate) use subscription::{Follower, Subscription};

/// Publications kept as starting points of deltas. Entries are shared between them, so one costs its
/// keys only; a proxy that missed more than sixteen changes gets a snapshot.
const KEPT: usize = 16;

/// Longest error text of a replica that is kept: it ends up in an object's status.
const ERROR_CHARS: usize = 1_000;

/// One table that was different from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Counts the publications of this process, from 1.
    pub sequence: u64,
    /// Names the table.
    pub digest: Arc<str>,
}

/// Holds the newest table. Cheap to clone: every clone is the same publisher.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Counts changes of the table and of the number of replicas; the value itself means nothing.
    changes: watch::Sender<u64>,
    fleet: watch::Sender<Fleet>,
    /// Counts the departures of replicas that had counted something.
    departures: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    contents: Contents,
    kept: VecDeque<Kept>,
    changed_at: HashMap<String, u64>,
    members: Members,
    /// Every limit of `contents`.
    limits: Limits,
    carries: Carries,
    /// Lines that lead to the newest publication, by where they start. Each is built once and shared
    /// by all subscribers.
    lines: HashMap<Option<Arc<str>>, Bytes>,
    /// The number of replicas that `lines` tell of.
    lines_replicas: u64,
}

struct Kept {
    sequence: u64,
    revision: u64,
    digest: Arc<str>,
    objects: Arc<Objects>,
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
    /// A publisher with nothing published yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            fleet: watch::Sender::new(Fleet::default()),
            departures: watch::Sender::new(0),
            metrics,
        }))
    }

    /// Publishes `contents` as of `revision`, unless they are the same as published last, and says
    /// what is now the newest. Takes a few milliseconds for a thousand routes: only what changed is
    /// encoded.
    pub fn publish(&self, revision: u64, contents: &Contents) -> Publication {
        let mut state = self.0.state.lock();
        if let Some(newest) = state.kept.back()
            && state.contents == *contents
        {
            return newest.publication();
        }
        let empty = Objects::default();
        let previous = state.kept.back().map_or(&empty, |kept| &*kept.objects);
        let objects = v1::encode_reusing(contents, &state.contents, previous);
        let digest: Arc<str> = v1::digest(&objects).into();
        if let Some(newest) = state.kept.back()
            && newest.digest == digest
        {
            // Different only in what does not travel.
            return newest.publication();
        }
        let (changed, removed) = v1::diff(previous, &objects);
        let sequence = state.newest_sequence() + 1;
        for (key, _entry) in changed.iter() {
            state.changed_at.insert(key.to_owned(), sequence);
        }
        for key in &removed {
            state.changed_at.remove(key);
        }
        let kept = Kept {
            sequence,
            revision,
            digest,
            objects: Arc::new(objects),
        };
        let publication = kept.publication();
        state.contents = contents.clone();
        state.limits = usage::limits(contents);
        state.carries.due = true;
        state.kept.push_back(kept);
        if state.kept.len() > KEPT {
            state.kept.pop_front();
        }
        state.lines.clear();
        self.tell_fleet(&state);
        drop(state);
        self.0.metrics.publications.inc();
        self.0.metrics.revision.set(revision);
        self.tell_subscribers();
        info!(
            revision,
            sequence,
            changed = changed.len(),
            removed = removed.len(),
            "table published"
        );
        publication
    }

    /// The newest publication, if there is one.
    #[must_use]
    pub fn newest(&self) -> Option<Publication> {
        self.0.state.lock().kept.back().map(Kept::publication)
    }

    /// The sequence of the publication that last changed the entry of `key` (such as
    /// `route/team-a/chat`); `None` if the newest table has no such entry.
    #[must_use]
    pub fn changed_at(&self, key: &str) -> Option<u64> {
        self.0.state.lock().changed_at.get(key).copied()
    }

    /// What the fleet has; changes with every publication, acknowledgement, arrival and departure.
    #[must_use]
    pub fn fleet(&self) -> watch::Receiver<Fleet> {
        self.0.fleet.subscribe()
    }

    /// Whether `id` is known as a replica; notes what it did with a table. A digest that is not
    /// among the kept ones says nothing any more and is ignored.
    pub(crate) fn acknowledge(&self, id: &str, ack: Ack) -> bool {
        let mut state = self.0.state.lock();
        let newest_first = state.kept.iter().rev();
        let sequence = newest_first
            .filter(|kept| *kept.digest == *ack.digest)
            .map(|kept| kept.sequence)
            .next();
        let known = match (sequence, ack.result) {
            (None, _) => state.members.contains(id),
            (Some(sequence), AckResult::Applied) => state.members.applied(id, sequence),
            (Some(sequence), AckResult::Refused) => {
                let error: String = ack.error.unwrap_or_default();
                let error: String = error.chars().take(ERROR_CHARS).collect();
                warn!(replica = id, sequence, error, "a replica refused the table");
                state.members.refused(id, sequence, error)
            }
        };
        self.tell_fleet(&state);
        self.0.metrics.acked(ack.result);
        known
    }

    /// Forgets replicas that have been gone for a while, and sees to what follows from reports.
    pub(crate) fn sweep(&self) {
        self.change_members(|members| members.sweep(clock::instant()));
        self.count_anew();
    }

    fn join(&self, follower: &Follower) {
        let instance = follower.instance.as_deref();
        if let Some(id) = &follower.replica {
            self.change_members(|members| members.join(id, instance, clock::instant()));
        }
    }

    fn leave(&self, id: &str) {
        self.change_members(|members| members.leave(id, clock::instant()));
    }

    fn change_members(&self, change: impl FnOnce(&mut Members)) {
        let mut state = self.0.state.lock();
        let (before, gone) = (state.members.count(), state.members.departed().count());
        change(&mut state.members);
        let departed = gone != state.members.departed().count();
        let changed = before != state.members.count();
        if changed || departed {
            // With the number of replicas what each has to carry changes, and nobody may hear of
            // one without the other.
            self.carry(&mut state);
            self.tell_fleet(&state);
        }
        drop(state);
        if departed {
            self.0
                .departures
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        if changed || departed {
            self.tell_subscribers();
        }
    }

    fn tell_fleet(&self, state: &State) {
        let fleet = state.members.snapshot(state.newest_sequence());
        self.0.fleet.send_if_modified(|told| {
            let differs = *told != fleet;
            *told = fleet;
            differs
        });
    }

    fn tell_subscribers(&self) {
        self.0
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

// === impl State ===

impl State {
    fn newest_sequence(&self) -> u64 {
        self.kept.back().map_or(0, |newest| newest.sequence)
    }

    /// The line that leads from the table of digest `from` to the newest one: a delta if that table
    /// is still known. `None` if nothing was published.
    fn leading(&mut self, from: Option<&Arc<str>>) -> Option<Bytes> {
        let newest = self.kept.back()?;
        let base = from.and_then(|from| self.kept.iter().find(|kept| kept.digest == *from));
        let replicas = self.members.count();
        if self.lines_replicas != replicas {
            self.lines.clear();
            self.lines_replicas = replicas;
        }
        let start = base.map(|base| Arc::clone(&base.digest));
        if let Some(line) = self.lines.get(&start) {
            return Some(line.clone());
        }
        let line = match base {
            None => Line::Snapshot(Snapshot {
                version: v1::VERSION,
                revision: newest.revision,
                digest: newest.digest.as_ref().to_owned(),
                replicas,
                objects: (*newest.objects).clone(),
            }),
            Some(base) => {
                let (changed, removed) = v1::diff(&base.objects, &newest.objects);
                Line::Delta(Delta {
                    base: base.digest.as_ref().to_owned(),
                    revision: newest.revision,
                    digest: newest.digest.as_ref().to_owned(),
                    replicas,
                    changed,
                    removed,
                })
            }
        };
        let line = bytes_of(&line)?;
        self.lines.insert(start, line.clone());
        Some(line)
    }

    fn heartbeat(&self) -> Option<Bytes> {
        let newest = self.kept.back()?;
        bytes_of(&Line::Heartbeat(Heartbeat {
            revision: newest.revision,
            digest: newest.digest.as_ref().to_owned(),
            replicas: self.members.count(),
        }))
    }
}

fn bytes_of(line: &Line) -> Option<Bytes> {
    match line.to_bytes() {
        Ok(bytes) => Some(Bytes::from(bytes)),
        Err(error) => {
            warn!(%error, "a line cannot be written");
            None
        }
    }
}

// === impl Kept ===

impl Kept {
    fn publication(&self) -> Publication {
        Publication {
            sequence: self.sequence,
            digest: Arc::clone(&self.digest),
        }
    }
}
