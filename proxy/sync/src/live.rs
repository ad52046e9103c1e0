//! The current table, and who may replace it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proxy_core::quota::{Carried, LimitName, SubjectKey};
use proxy_core::table::Table;
use proxy_wire::v1::{self, Objects};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// What a sink is told.
#[derive(Clone, Debug)]
pub enum Update {
    /// This table is to be live from now on.
    Table {
        /// The table.
        table: Arc<Table>,
        /// Its point in time.
        revision: u64,
        /// Its name.
        digest: Arc<str>,
    },
    /// So many proxy replicas live. The largest number that a connected operator tells: one that
    /// has just started does not know everybody yet, and too small a number would let too much pass.
    Replicas(u64),
    /// What counts as used here besides this replica's own use: all of it, each time. Of one subject
    /// the most that a connected operator tells: one that has just started does not know everything.
    Carried(Vec<Carried>),
}

/// A table as it came.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    pub(crate) digest: Arc<str>,
    pub(crate) objects: Arc<Objects>,
}

/// What became of an offered table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is live now, or was already.
    Live,
    /// It is older than the live one.
    Older,
    /// It is not a table.
    Refused(String),
}

type Sink = Box<dyn Fn(Update) + Send + Sync>;

pub(crate) struct Live {
    sink: Sink,
    metrics: Metrics,
    state: Mutex<State>,
    /// The newest version with the number of replicas, for the disk.
    newest: watch::Sender<Option<(Version, u64)>>,
    /// The number of replicas that was told.
    told_replicas: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    current: Option<Version>,
    replicas: HashMap<SocketAddr, u64>,
    told_replicas: u64,
    carried: HashMap<SocketAddr, Vec<Carried>>,
    told_carried: Vec<Carried>,
}

impl Live {
    pub(crate) fn new(sink: Sink, metrics: Metrics) -> Self {
        Self {
            sink,
            metrics,
            state: Mutex::default(),
            newest: watch::Sender::new(None),
            told_replicas: watch::Sender::new(0),
        }
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn current(&self) -> Option<Version> {
        self.state.lock().current.clone()
    }

    /// Changes with every table that went live from the channel, and with the number of replicas.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<(Version, u64)>> {
        self.newest.subscribe()
    }

    /// Changes with the number of replicas.
    pub(crate) fn replicas(&self) -> watch::Receiver<u64> {
        self.told_replicas.subscribe()
    }

    /// Takes what was on disk. Its revision counts: an operator that is behind it is ignored.
    pub(crate) fn restore(&self, version: Version, replicas: u64) -> Outcome {
        let mut state = self.state.lock();
        let outcome = self.replace(&mut state, version);
        if outcome == Outcome::Live && replicas > 0 {
            state.told_replicas = replicas;
            (self.sink)(Update::Replicas(replicas));
        }
        outcome
    }

    /// Makes `version` live unless it is older or not a table. Indexing takes some milliseconds for
    /// a thousand routes, one table at a time.
    pub(crate) fn offer(&self, version: Version) -> Outcome {
        let mut state = self.state.lock();
        if let Some(current) = &mut state.current {
            if current.digest == version.digest {
                current.revision = current.revision.max(version.revision);
                self.metrics.revision.set(current.revision);
                return Outcome::Live;
            }
            if version.revision < current.revision {
                self.metrics.ignored.inc();
                warn!(
                    revision = version.revision,
                    current = current.revision,
                    "older table ignored"
                );
                return Outcome::Older;
            }
        }
        let outcome = self.replace(&mut state, version);
        if outcome == Outcome::Live {
            let saved = state.current.clone();
            self.newest
                .send_replace(saved.map(|version| (version, state.told_replicas)));
        }
        outcome
    }

    fn replace(&self, state: &mut State, version: Version) -> Outcome {
        let contents = match v1::decode(&version.objects) {
            Ok(contents) => contents,
            Err(error) => {
                self.metrics.refused.inc();
                warn!(revision = version.revision, %error, "table refused");
                return Outcome::Refused(error.to_string());
            }
        };
        let table = Arc::new(Table::new(contents));
        self.metrics.revision.set(version.revision);
        (self.sink)(Update::Table {
            table,
            revision: version.revision,
            digest: Arc::clone(&version.digest),
        });
        info!(
            revision = version.revision,
            digest = &*version.digest,
            objects = version.objects.len(),
            "table live"
        );
        state.current = Some(version);
        Outcome::Live
    }

    /// The operator at `address` counts so many replicas.
    pub(crate) fn count(&self, address: SocketAddr, replicas: u64) {
        let mut state = self.state.lock();
        state.replicas.insert(address, replicas);
        self.tell_replicas(&mut state);
    }

    /// The operator at `address` tells what others have used, as of so many replicas.
    pub(crate) fn carry(&self, address: SocketAddr, carried: v1::Carried) {
        let mut state = self.state.lock();
        state.replicas.insert(address, carried.replicas);
        let entries = carried.entries.into_iter().map(Carried::from);
        state.carried.insert(address, entries.collect());
        // Whatever comes first, between the two nothing may be admitted that neither would admit:
        // first the smaller part of the limits, or else first what has to be carried.
        if state.most_replicas() > Some(state.told_replicas) {
            self.tell_replicas(&mut state);
            self.tell_carried(&mut state);
        } else {
            self.tell_carried(&mut state);
            self.tell_replicas(&mut state);
        }
    }

    /// The operator at `address` is gone. With nobody left everything stays as it was told last.
    pub(crate) fn gone(&self, address: SocketAddr) {
        let mut state = self.state.lock();
        state.replicas.remove(&address);
        state.carried.remove(&address);
        self.tell_replicas(&mut state);
        self.tell_carried(&mut state);
    }

    fn tell_replicas(&self, state: &mut State) {
        if let Some(most) = state.most_replicas()
            && most > 0
            && most != state.told_replicas
        {
            state.told_replicas = most;
            (self.sink)(Update::Replicas(most));
            self.told_replicas.send_replace(most);
            // What is on disk must not be more permissive: it would serve with an older, larger part.
            if let Some(current) = state.current.clone() {
                self.newest.send_replace(Some((current, most)));
            }
        }
    }

    fn tell_carried(&self, state: &mut State) {
        if state.carried.is_empty() {
            return;
        }
        let mut most: BTreeMap<(&LimitName, SubjectKey), &Carried> = BTreeMap::new();
        for told in state.carried.values().flatten() {
            let place = most.entry((&told.limit, told.key)).or_insert(told);
            let newer = |one: &Carried| (one.period_start_ms, one.amount);
            if newer(told) > newer(place) {
                *place = told;
            }
        }
        let carried: Vec<Carried> = most.into_values().cloned().collect();
        if carried != state.told_carried {
            state.told_carried.clone_from(&carried);
            (self.sink)(Update::Carried(carried));
        }
    }
}

// === impl State ===

impl State {
    fn most_replicas(&self) -> Option<u64> {
        self.replicas.values().copied().max()
    }
}
