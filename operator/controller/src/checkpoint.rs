//! Stores the use of calendar quotas for the next operator, in a ConfigMap. The chart makes it,
//! empty, so that a right to this one object is enough.
//!
//! The publisher makes the text; this module does not read it.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use operator_publish::Publisher;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::config::{Config, FIELD_MANAGER};
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, ResultLabel, WriteResult};

#[cfg(test)]
mod tests;

/// The key in the ConfigMap.
const DATA: &str = "counters.json";

/// Pause between two writes: use within it is lost if every operator and every proxy dies at once.
/// Each write is up to a megabyte for etcd.
const EVERY: Duration = Duration::from_secs(30);

/// Pause after a departure: a departed replica reports no more, so its use is stored soon; a
/// rollout has several.
const SOON: Duration = Duration::from_secs(1);

/// Longest wait for one call; the last one fits into the time of a stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest checkpoint in bytes: an object may have 1 MiB, and its metadata needs some of it.
const LONGEST: usize = 900_000;

/// The source of checkpoints: the publisher, or a test.
pub(crate) trait Checkpoint: Send + Sync + 'static {
    /// The present checkpoint; `None` if there is none.
    fn text(&self) -> Option<String>;

    /// Changes when a checkpoint should be stored soon.
    fn urgent(&self) -> watch::Receiver<u64>;
}

impl Checkpoint for Publisher {
    fn text(&self) -> Option<String> {
        let text = self.checkpoint(LONGEST);
        text.inspect_err(|error| warn!(%error, "no checkpoint can be made"))
            .ok()
    }

    fn urgent(&self) -> watch::Receiver<u64> {
        self.departures()
    }
}

/// Loads the checkpoint of the operator before this one. `None` if there is none, or no right to
/// read it, as with an older chart: then counters do not outlive the operators.
///
/// # Errors
/// The API server does not answer, or refuses for now.
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
                "no right to the ConfigMap: the use of calendar quotas is lost when the operators stop"
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
        "the ConfigMap does not exist: the use of calendar quotas is lost when the operators stop"
    );
}

/// Writes checkpoints while this replica leads.
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

    /// Runs until `shutdown`, and then writes the last checkpoint before the lease is released.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        let mut urgent = self.checkpoint.urgent();
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = leadership.gained() => {}
            }
            // Another operator may have written meanwhile.
            self.written = None;
            let mut due = Instant::now() + EVERY;
            loop {
                tokio::select! {
                    // This replica still leads then: the keeper of the lease waits for it.
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
                warn!(error = %chain(&error), "the checkpoint could not be written");
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
