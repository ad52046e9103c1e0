//! Follows the pods of the proxies: which of them should be there is the cluster's to say, since one that is
//! cut off from the operators cannot.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use operator_publish::{Publisher, Roster};
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use tracing::{debug, warn};

use crate::pace::Pace;

#[cfg(test)]
mod tests;

/// Follows the pods in the namespace of the installation that `selector` selects.
pub(crate) struct PodWatch {
    client: Client,
    namespace: String,
    selector: String,
    publisher: Publisher,
}

// === impl PodWatch ===

impl PodWatch {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        selector: &str,
        publisher: Publisher,
    ) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            publisher,
        }
    }

    /// Works until `shutdown`. While the API server is away, the pods stay as they were.
    pub(crate) async fn run(self, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.follow() => {}
            () = shutdown.requested() => {}
        }
    }

    async fn follow(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&self.selector);
        let mut events = std::pin::pin!(watcher(pods, config));
        let mut pace = Pace::default();
        let mut known: BTreeMap<String, operator_publish::Pod> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        let mut warned = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(pod)) => {
                    listed.extend(serving(&pod));
                    continue;
                }
                Ok(Event::InitDone) => {
                    known = std::mem::take(&mut listed);
                    warned = false;
                    debug!(count = known.len(), "pods of the proxies listed");
                }
                Ok(Event::Apply(pod)) => {
                    let uid = pod.uid().unwrap_or_default();
                    known.remove(&uid);
                    known.extend(serving(&pod));
                }
                Ok(Event::Delete(pod)) => {
                    known.remove(&pod.uid().unwrap_or_default());
                }
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        warn!(
                            error = %chain(&error),
                            "the pods of the proxies cannot be watched; one that falls silent is not missed"
                        );
                    }
                    pace.wait(&error).await;
                    continue;
                }
            }
            self.publisher.enlist(Roster(known.clone()));
        }
    }
}

/// The pod by its uid, if its proxy may serve clients.
fn serving(pod: &Pod) -> Option<(String, operator_publish::Pod)> {
    let status = pod.status.as_ref()?;
    let is_over = status
        .phase
        .as_deref()
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let mut containers = status.container_statuses.iter().flatten();
    let runs = containers.any(|one| one.state.as_ref().is_some_and(|is| is.running.is_some()));
    if is_over || !runs || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
    let name = pod.metadata.name.clone()?;
    Some((pod.uid()?, operator_publish::Pod { name, ready }))
}
