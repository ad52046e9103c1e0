//! The current table and the replica count, and the rules by which an operator may replace them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proxy_core::quota::{Carried, LimitName, SubjectKey};
use proxy_core::table::Table;
use proxy_wire::v1::{self, Decoded, Features, Objects, Unsupported};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// Unsupported entries that one log line names; the metric counts all of them.
const LOGGED: usize = 10;

/// What a sink receives.
#[derive(Clone, Debug)]
pub enum Update {
    /// This table replaces the current one.
    Table {
        /// The table.
        table: Arc<Table>,
        /// Its revision.
        revision: u64,
        /// Its digest.
        digest: Arc<str>,
        /// Where it comes from.
        origin: Origin,
    },
    /// An operator sent the current table, which came from elsewhere.
    Confirmed,
    /// The number of live proxy replicas: the largest that a connected operator states. An operator
    /// that has just started has not seen every replica yet, and too small a number would admit too
    /// much.
    Replicas(u64),
    /// Whether the table is older than allowed, since no operator is in contact. Said again and again while
    /// it is.
    Stale(bool),
    /// Usage of departed replicas that counts here besides this replica's own: the whole list, each
    /// time. Per subject the largest amount that a connected operator states, for the same reason.
    Carried(Vec<Carried>),
}

/// Where a table comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From an operator.
    Operator,
    /// From the file of the last good table.
    LastGood,
    /// From a mounted snapshot.
    Snapshot {
        /// When it was written, in Unix milliseconds.
        written_ms: i64,
    },
}

/// A table as received.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    pub(crate) digest: Arc<str>,
    pub(crate) objects: Arc<Objects>,
}

/// What [`Current::offer`] did with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is current now, or was already. With the entries that this proxy cannot enforce.
    Applied(Arc<[Unsupported]>),
    /// It is older than the current one, or restored and nothing new.
    Older,
    /// It cannot be read.
    Refused(String),
}

type Sink = Box<dyn Fn(Update) + Send + Sync>;

pub(crate) struct Current {
    sink: Sink,
    metrics: Metrics,
    state: Mutex<State>,
    /// The newest version with the number of replicas, for the disk.
    newest: watch::Sender<Option<(Version, u64)>>,
    /// The number of replicas that the sink received last.
    replicas: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: Option<Version>,
    /// Where `version` comes from.
    origin: Option<Origin>,
    decoded: Decoded,
    table: Arc<Table>,
    /// What each connected operator states.
    replicas_by_operator: HashMap<SocketAddr, u64>,
    carried_by_operator: HashMap<SocketAddr, Vec<Carried>>,
    /// What the sink received last.
    replicas: u64,
    carried: Vec<Carried>,
}

impl Current {
    pub(crate) fn new(sink: Sink, metrics: Metrics) -> Self {
        Self {
            sink,
            metrics,
            state: Mutex::default(),
            newest: watch::Sender::new(None),
            replicas: watch::Sender::new(0),
        }
    }

    /// Gives the sink something that no operator sent.
    pub(crate) fn say(&self, update: Update) {
        let _one_at_a_time = self.state.lock();
        (self.sink)(update);
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.state.lock().version.clone()
    }

    /// The entries of the table of `digest` that this proxy cannot enforce; `None` if that table is
    /// not the current one.
    pub(crate) fn unsupported(&self, digest: &str) -> Option<Arc<[Unsupported]>> {
        let state = self.state.lock();
        let current = state.version.as_ref()?;
        (*current.digest == *digest).then(|| Arc::clone(&state.decoded.unsupported))
    }

    /// Changes with every table from the channel that became current, and with the number of
    /// replicas.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<(Version, u64)>> {
        self.newest.subscribe()
    }

    /// Changes with the number of replicas.
    pub(crate) fn replicas(&self) -> watch::Receiver<u64> {
        self.replicas.subscribe()
    }

    /// Whether an operator has sent the current table.
    pub(crate) fn is_answered(&self) -> bool {
        self.state.lock().origin == Some(Origin::Operator)
    }

    /// Takes a table that no operator has sent, unless there is a newer one, or one from an operator.
    ///
    /// The revision of the last good table counts: older tables of operators are ignored. That of a
    /// snapshot does not, since it is not this proxy that got it from an operator.
    pub(crate) fn restore(&self, version: Version, replicas: u64, origin: Origin) -> Outcome {
        let mut state = self.state.lock();
        if let Some(current) = &state.version {
            let is_older = version.revision < current.revision;
            let is_answered = state.origin == Some(Origin::Operator);
            if is_older || is_answered || current.digest == version.digest {
                return Outcome::Older;
            }
        }
        let outcome = self.replace(&mut state, version, origin);
        if matches!(outcome, Outcome::Applied(_)) && replicas > 0 {
            state.replicas = replicas;
            (self.sink)(Update::Replicas(replicas));
        }
        outcome
    }

    /// Makes `version` current unless it is older or cannot be read. One table at a time: indexing a
    /// thousand routes takes some milliseconds.
    pub(crate) fn offer(&self, version: Version) -> Outcome {
        let mut state = self.state.lock();
        if self.confirmed(&mut state, version.revision, &version.digest) {
            return Outcome::Applied(Arc::clone(&state.decoded.unsupported));
        }
        if let Some(current) = &state.version {
            let is_snapshot = matches!(state.origin, Some(Origin::Snapshot { .. }));
            if version.revision < current.revision && !is_snapshot {
                self.metrics.ignored.inc();
                warn!(
                    revision = version.revision,
                    current = current.revision,
                    "older table ignored"
                );
                return Outcome::Older;
            }
        }
        let outcome = self.replace(&mut state, version, Origin::Operator);
        if matches!(outcome, Outcome::Applied(_)) {
            self.save(&state);
        }
        outcome
    }

    /// An operator has this table too.
    pub(crate) fn confirm(&self, revision: u64, digest: &str) {
        self.confirmed(&mut self.state.lock(), revision, digest);
    }

    /// Whether the table that an operator has is the current one; its origin is the operator then.
    fn confirmed(&self, state: &mut State, revision: u64, digest: &str) -> bool {
        let Some(current) = &mut state.version else {
            return false;
        };
        if *current.digest != *digest {
            return false;
        }
        let origin = state.origin.replace(Origin::Operator);
        let is_snapshot = matches!(origin, Some(Origin::Snapshot { .. }));
        if is_snapshot {
            current.revision = revision;
        } else {
            current.revision = current.revision.max(revision);
        }
        self.metrics.revision.set(current.revision);
        if is_snapshot {
            self.save(state);
        }
        if origin != Some(Origin::Operator) {
            info!(revision, "an operator has the current table");
            (self.sink)(Update::Confirmed);
        }
        true
    }

    fn save(&self, state: &State) {
        let saved = state.version.clone();
        self.newest
            .send_replace(saved.map(|version| (version, state.replicas)));
    }

    fn replace(&self, state: &mut State, version: Version, origin: Origin) -> Outcome {
        let none = Objects::default();
        let previous = state.version.as_ref().map_or(&none, |one| &*one.objects);
        let decoded =
            v1::decode_reusing(&version.objects, Features::KNOWN, previous, &state.decoded);
        let Decoded {
            contents,
            unsupported,
        } = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.metrics.refused.inc();
                warn!(revision = version.revision, %error, "table refused");
                return Outcome::Refused(error.to_string());
            }
        };
        let table = Arc::new(Table::after(&state.table, contents));
        self.metrics.revision.set(version.revision);
        self.metrics.unsupported(unsupported.len());
        (self.sink)(Update::Table {
            table: Arc::clone(&table),
            revision: version.revision,
            digest: Arc::clone(&version.digest),
            origin,
        });
        info!(
            revision = version.revision,
            digest = &*version.digest,
            objects = version.objects.len(),
            "table live"
        );
        if unsupported != state.decoded.unsupported && !unsupported.is_empty() {
            let named = unsupported.iter().take(LOGGED).map(ToString::to_string);
            warn!(
                revision = version.revision,
                count = unsupported.len(),
                entries = named.collect::<Vec<_>>().join("; "),
                "entries that need a newer proxy are refused"
            );
        }
        state.decoded = Decoded {
            contents: table.contents().clone(),
            unsupported: Arc::clone(&unsupported),
        };
        state.table = table;
        state.version = Some(version);
        state.origin = Some(origin);
        Outcome::Applied(unsupported)
    }

    /// The operator at `address` states this number of replicas.
    pub(crate) fn count(&self, address: SocketAddr, replicas: u64) {
        let mut state = self.state.lock();
        state.replicas_by_operator.insert(address, replicas);
        self.update_replicas(&mut state);
    }

    /// The operator at `address` states what to carry, as of a number of replicas.
    pub(crate) fn carry(&self, address: SocketAddr, carried: v1::Carried) {
        let mut state = self.state.lock();
        state.replicas_by_operator.insert(address, carried.replicas);
        let entries = carried.entries.into_iter().map(Carried::from);
        state.carried_by_operator.insert(address, entries.collect());
        // Between the two updates, nothing may be admitted that neither state would admit: more
        // replicas shrink the share and come first, fewer replicas come after what to carry.
        if state.most_replicas() > Some(state.replicas) {
            self.update_replicas(&mut state);
            self.update_carried(&mut state);
        } else {
            self.update_carried(&mut state);
            self.update_replicas(&mut state);
        }
    }

    /// The operator at `address` disconnected. After the last one, its values stay.
    pub(crate) fn gone(&self, address: SocketAddr) {
        let mut state = self.state.lock();
        state.replicas_by_operator.remove(&address);
        state.carried_by_operator.remove(&address);
        self.update_replicas(&mut state);
        self.update_carried(&mut state);
    }

    fn update_replicas(&self, state: &mut State) {
        if let Some(most) = state.most_replicas()
            && most > 0
            && most != state.replicas
        {
            state.replicas = most;
            (self.sink)(Update::Replicas(most));
            self.replicas.send_replace(most);
            // The file must not be more permissive: a restart would serve with an older, larger share.
            if let Some(current) = state.version.clone() {
                self.newest.send_replace(Some((current, most)));
            }
        }
    }

    fn update_carried(&self, state: &mut State) {
        if state.carried_by_operator.is_empty() {
            return;
        }
        let mut most: BTreeMap<(&LimitName, SubjectKey), &Carried> = BTreeMap::new();
        for stated in state.carried_by_operator.values().flatten() {
            let largest = most.entry((&stated.limit, stated.key)).or_insert(stated);
            let order = |one: &Carried| (one.period_start_ms, one.amount);
            if order(stated) > order(largest) {
                *largest = stated;
            }
        }
        let carried: Vec<Carried> = most.into_values().cloned().collect();
        if carried != state.carried {
            state.carried.clone_from(&carried);
            (self.sink)(Update::Carried(carried));
        }
    }
}

// === impl State ===

impl State {
    fn most_replicas(&self) -> Option<u64> {
        self.replicas_by_operator.values().copied().max()
    }
}
