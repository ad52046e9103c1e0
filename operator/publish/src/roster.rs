//! The pods of the proxies, as the cluster lists them: which replicas should be there.

use std::collections::BTreeMap;

/// The pods that may serve clients, by their uid, which is the id of the replica in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster(pub BTreeMap<String, Pod>);

/// A pod whose proxy runs and is not being stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name, which messages show.
    pub name: String,
    /// Whether clients are sent to it. A proxy that starts is not ready before it has a table.
    pub ready: bool,
}

// === impl Roster ===

impl Roster {
    /// The name of the pod of a replica.
    pub(crate) fn name_of(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|pod| pod.name.as_str())
    }

    pub(crate) fn is_ready(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|pod| pod.ready)
    }

    /// The ids of pods that serve clients.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|(_, pod)| pod.ready).map(|(id, _)| id)
    }
}
