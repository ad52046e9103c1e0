//! Where it is kept what was used of calendar quotas, for the operator after this one: a ConfigMap that
//! the chart makes, empty, so that a right to this one object is enough.
//!
//! What is in it is not known here: a [`Checkpoint`] says so.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use proxy_admin::shutdown::Shutdown;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, ResultLabel, WriteResult};
use crate::{Config, FIELD_MANAGER};

#[cfg(test)]
mod tests;

const DATA: &str = "counters.json";

/// What was used in so long is lost if every operator and every proxy dies at once. Each write is up to
/// a megabyte for etcd.
const EVERY: Duration = Duration::from_secs(30);

/// A departed replica tells no more what it used, so that is kept soon; a rollout has several.
const SOON: Duration = Duration::from_secs(1);

/// Longest wait for one call; the last one is within what a stop may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is kept for the operator after this one.
pub trait Checkpoint: Send + Sync + 'static {
    /// What is to be kept now; none if it cannot be told.
    fn text(&self) -> Option<String>;

    /// Changes when it should be kept soon.
    fn urgent(&self) -> watch::Receiver<u64>;
}

/// Loads what the operator before this one kept. `None` if there is nothing, or if it is not ours to
/// read, as under the rights of an older chart: then counters do not outlive the operators.
///
/// # Errors
/// The API server does not answer, or not now.
pub async fn load_checkpoint(client: &Client, config: &Config) -> kube::Result<Option<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &config.own_namespace);
    let map = match maps.get_opt(&config.checkpoint).await {
        Ok(Some(map)) => map,
        Ok(None) => {
            missing(&config.checkpoint);
            return Ok(None);
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            warn!(
                config_map.name = config.checkpoint,
                "no right to the ConfigMap: what was used of calendar quotas does not outlive us"
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(map.data.and_then(|mut data| data.remove(DATA)))
}

fn missing(name: &str) {
    warn!(
        config_map.name = name,
        "there is no such ConfigMap: what was used of calendar quotas does not outlive us"
    );
}

/// Writes checkpoints while we lead.
pub(crate) struct CheckpointKeeper<C> {
    maps: Api<ConfigMap>,
    name: String,
    checkpoint: C,
    written: Option<String>,
    metrics: Metrics,
}

impl<C: Checkpoint> CheckpointKeeper<C> {
    pub(crate) fn new(client: &Client, config: &Config, checkpoint: C, metrics: Metrics) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), &config.own_namespace),
            name: config.checkpoint.clone(),
            checkpoint,
            written: None,
            metrics,
        }
    }

    /// Runs until `shutdown`. The last one is written then, before the lease is given back.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        let mut urgent = self.checkpoint.urgent();
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = leadership.gained() => {}
            }
            // Somebody else may have written since.
            self.written = None;
            let mut due = Instant::now() + EVERY;
            loop {
                tokio::select! {
                    // We still lead then: the lease waits for us.
                    biased;
                    () = shutdown.requested() => {
                        self.write().await;
                        return;
                    }
                    () = leadership.lost() => break,
                    Ok(()) = urgent.changed() => due = due.min(Instant::now() + SOON),
                    () = sleep_until(due) => {
                        self.write().await;
                        due = Instant::now() + EVERY;
                    }
                }
            }
        }
    }

    async fn write(&mut self) {
        let text = self.checkpoint.text();
        let Some(text) = text.filter(|text| self.written.as_ref() != Some(text)) else {
            return;
        };
        let patch = json!({"data": {DATA: text}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&patch);
        let call = self.maps.patch_metadata(&self.name, &parameters, &patch);
        let result = match timeout(PATIENCE, call).await {
            Ok(Ok(_)) => {
                debug!(bytes = text.len(), "checkpoint of counters written");
                self.written = Some(text);
                WriteResult::Stored
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                missing(&self.name);
                WriteResult::Gone
            }
            Ok(Err(error)) => {
                warn!(error = %crate::chain(&error), "the checkpoint could not be written");
                WriteResult::Failed
            }
            Err(_elapsed) => {
                warn!("the API server does not answer the write of a checkpoint");
                WriteResult::Failed
            }
        };
        let writes = &self.metrics.checkpoint_writes;
        writes.get_or_create(&ResultLabel { result }).inc();
    }
}
