//! The current table, and who may replace it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
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
}

#[derive(Default)]
struct State {
    current: Option<Version>,
    replicas: HashMap<SocketAddr, u64>,
    told_replicas: u64,
}

impl Live {
    pub(crate) fn new(sink: Sink, metrics: Metrics) -> Self {
        Self {
            sink,
            metrics,
            state: Mutex::default(),
            newest: watch::Sender::new(None),
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

    /// The operator at `address` counts so many replicas; `None` when it is gone.
    pub(crate) fn count(&self, address: SocketAddr, replicas: Option<u64>) {
        let mut state = self.state.lock();
        match replicas {
            Some(replicas) => state.replicas.insert(address, replicas),
            None => state.replicas.remove(&address),
        };
        // With nobody left the last number stays.
        let most = state.replicas.values().copied().max();
        if let Some(most) = most
            && most > 0
            && most != state.told_replicas
        {
            state.told_replicas = most;
            (self.sink)(Update::Replicas(most));
            // What is on disk must not be more permissive: it would serve with an older, larger part.
            if let Some(current) = state.current.clone() {
                self.newest.send_replace(Some((current, most)));
            }
        }
    }
}
