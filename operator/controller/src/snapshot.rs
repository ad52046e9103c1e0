//! Stores the newest table for proxies that start while every operator is away, in Secrets that their
//! pods mount. The chart makes these, empty, so that a right to them alone is enough, and so that they
//! go with the installation.
//!
//! The publisher makes the parts; this module does not read them. Part 0 is written last: a table of
//! one part, as most are, is replaced in one step.

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use operator_publish::{PARTS, PartsError, Publisher, SnapshotVersion};
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::config::{Config, FIELD_MANAGER};
use crate::lease::keeper::Leadership;
use crate::metrics::{Metrics, ResultLabel, WriteResult};

#[cfg(test)]
mod tests;

/// The key in each Secret.
const DATA: &str = "part";

/// Pause between two writes, however often the table changes: each is up to four megabytes for etcd.
const EVERY: Duration = Duration::from_secs(10);

/// Pause after a change: others come with it, as with `kubectl apply` of several objects.
const SOON: Duration = Duration::from_secs(1);

/// Longest wait for one write; the last one fits into the time of a stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// The source of snapshots: the publisher, or a test.
pub(crate) trait Source: Clone + Send + Sync + 'static {
    /// The version of the present table; `None` before the first.
    fn version(&self) -> Option<SnapshotVersion>;

    /// The present table in parts. May take a while.
    fn parts(&self) -> Result<Vec<Vec<u8>>, PartsError>;

    /// Changes when the version may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
}

impl Source for Publisher {
    fn version(&self) -> Option<SnapshotVersion> {
        self.snapshot_version()
    }

    fn parts(&self) -> Result<Vec<Vec<u8>>, PartsError> {
        self.snapshot_parts()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Self::changes(self)
    }
}

/// Writes snapshots while this replica leads.
pub(crate) struct SnapshotKeeper<S> {
    secrets: Api<Secret>,
    /// The names of the Secrets, by part; an installation may have none.
    names: Vec<String>,
    source: S,
    /// What the Secrets have.
    written: Option<SnapshotVersion>,
    /// The Secrets from this one on are empty.
    used: usize,
    /// A problem is logged when it begins, and not with each attempt.
    problem: Option<String>,
    metrics: Metrics,
}

// === impl SnapshotKeeper ===

impl<S: Source> SnapshotKeeper<S> {
    pub(crate) fn new(client: &Client, config: &Config, source: S, metrics: Metrics) -> Self {
        let names = config.snapshot.iter();
        let names = names.flat_map(|name| (0..PARTS).map(move |part| format!("{name}-{part}")));
        Self {
            secrets: Api::namespaced(client.clone(), &config.own_namespace),
            names: names.collect(),
            source,
            written: None,
            used: PARTS,
            problem: None,
            metrics,
        }
    }

    /// Runs until `shutdown`, and then writes what is not written yet before the lease is released.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        if self.names.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = leadership.gained() => {}
            }
            // Another operator may have written meanwhile.
            (self.written, self.used) = (None, PARTS);
            let mut changes = self.source.changes();
            let mut next = Instant::now();
            loop {
                // Before the look at the version: a later change is seen by the wait.
                changes.borrow_and_update();
                let is_due = self.source.version() != self.written;
                tokio::select! {
                    // This replica still leads then: the keeper of the lease waits for it.
                    biased;
                    () = shutdown.requested() => {
                        if is_due {
                            self.write().await;
                        }
                        return;
                    }
                    () = leadership.lost() => break,
                    () = sleep_until(next), if is_due => {
                        self.write().await;
                        next = Instant::now() + EVERY;
                    }
                    Ok(()) = changes.changed(), if !is_due => {
                        next = next.max(Instant::now() + SOON);
                    }
                }
            }
        }
    }

    async fn write(&mut self) {
        // Before the parts: if the table changes meanwhile, it is written once more.
        let version = self.source.version();
        let source = self.source.clone();
        let Ok(parts) = spawn_blocking(move || source.parts()).await else {
            // A panic, which was logged where it happened.
            return;
        };
        let (parts, too_large) = match parts {
            Ok(parts) => (parts, None),
            // An old snapshot would let in what was revoked since.
            Err(error) => (Vec::new(), Some(error)),
        };
        let result = match timeout(PATIENCE, self.store(&parts)).await {
            Ok(Ok(())) => {
                self.written = version;
                let bytes = parts.iter().map(Vec::len).sum::<usize>();
                let size = u64::try_from(bytes).unwrap_or(u64::MAX);
                self.metrics.snapshot_size.set(size);
                debug!(bytes, parts = parts.len(), "snapshot written");
                WriteResult::Stored
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                self.problem("a Secret for it does not exist; upgrade the chart");
                WriteResult::Gone
            }
            Ok(Err(error)) => {
                self.problem(chain(&error));
                WriteResult::Failed
            }
            Err(_elapsed) => {
                self.problem("the API server does not answer");
                WriteResult::Failed
            }
        };
        let result = match (result, too_large) {
            (WriteResult::Stored, Some(error)) => {
                self.problem(error);
                WriteResult::TooLarge
            }
            (WriteResult::Stored, None) => {
                self.problem = None;
                result
            }
            (other, _) => other,
        };
        let writes = &self.metrics.snapshot_writes;
        writes.get_or_create(&ResultLabel { result }).inc();
    }

    fn problem(&mut self, problem: impl Display) {
        let problem = problem.to_string();
        if self.problem.as_ref() != Some(&problem) {
            warn!(
                secrets = self.names.join(" "),
                problem,
                "no snapshot: proxies that start while every operator is away cannot serve"
            );
            self.problem = Some(problem);
        }
    }

    /// Writes the parts from the last to the first, and then empties the Secrets beyond them.
    async fn store(&mut self, parts: &[Vec<u8>]) -> kube::Result<()> {
        let unused = (parts.len()..self.used).filter_map(|part| self.names.get(part));
        let filled = self.names.iter().zip(parts).rev();
        for (name, part) in filled {
            let part = ByteString(part.clone());
            self.patch(name, &json!({"data": {DATA: part}})).await?;
        }
        for name in unused {
            self.patch(name, &json!({"data": {DATA: null}})).await?;
        }
        self.used = parts.len();
        Ok(())
    }

    async fn patch(&self, name: &str, patch: &Value) -> kube::Result<()> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        self.secrets
            .patch_metadata(name, &parameters, &patch)
            .await?;
        Ok(())
    }
}
