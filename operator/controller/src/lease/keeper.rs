//! Applies the election to the API server, and publishes whether this replica leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Elector, Record, Step, Timing};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// The Lease, in the installation's own namespace.
pub(crate) const LEASE: &str = "tundish-operator";

/// Whether this replica leads, and so may write.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    until_ms: Arc<AtomicU64>,
    changes: watch::Receiver<bool>,
}

impl Leadership {
    /// Whether this replica leads now. Correct even right after a pause of the machine: it compares
    /// the deadline.
    pub(crate) fn holds(&self) -> bool {
        clock::now().monotonic_ms < self.until_ms.load(Ordering::Acquire)
    }

    /// Waits until this replica leads.
    pub(crate) async fn gained(&mut self) {
        if self.changes.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica does not lead.
    pub(crate) async fn lost(&mut self) {
        // An error means that the keeper has ended, and the leadership with it.
        self.changes.wait_for(|leads| !*leads).await.ok();
    }
}

/// Takes part in the election until a shutdown, then releases the lease.
#[derive(Debug)]
pub(crate) struct Keeper {
    leases: Api<Lease>,
    namespace: String,
    identity: String,
    timing: Timing,
    elector: Elector,
    acquired: Option<MicroTime>,
    until_ms: Arc<AtomicU64>,
    leads: watch::Sender<bool>,
    metrics: Metrics,
}

// === impl Keeper ===

impl Keeper {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        identity: &str,
        timing: Timing,
        metrics: Metrics,
    ) -> (Self, Leadership) {
        let (leads, changes) = watch::channel(false);
        let until_ms = Arc::<AtomicU64>::default();
        let leadership = Leadership {
            until_ms: Arc::clone(&until_ms),
            changes,
        };
        let keeper = Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            timing,
            elector: Elector::new(identity.to_owned(), timing),
            acquired: None,
            until_ms,
            leads,
            metrics,
        };
        (keeper, leadership)
    }

    /// Runs until `shutdown`. Waits for `quiet` before it releases the lease: the next leader must
    /// not meet writes of this one.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown, quiet: impl Future<Output = ()>) {
        loop {
            tokio::select! {
                () = self.round() => {}
                () = shutdown.requested() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = shutdown.requested() => break,
            }
        }
        let released = self.elector.release();
        self.publish();
        quiet.await;
        if let Some(record) = released {
            // After a failure the others have to wait for the expiry.
            match tokio::time::timeout(self.timing.retry, self.store(&record, 1)).await {
                Ok(Ok(_)) => info!("released the lease"),
                Ok(Err(error)) => warn!(%error, "could not release the lease"),
                Err(_elapsed) => warn!("could not release the lease in time"),
            }
        }
    }

    /// One attempt: a read, and a write if this candidate may. Bounded: a leader that cannot reach
    /// the API server steps down at its deadline.
    async fn round(&mut self) {
        let now = clock::now().monotonic_ms;
        let led = self.elector.leads_until_ms().filter(|until| now < *until);
        let limit = led.map_or(self.timing.renew_deadline, |until| {
            Duration::from_millis(until.saturating_sub(now))
        });
        match tokio::time::timeout(limit, self.attempt()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.metrics.lease_errors.inc();
                warn!(%error, "the lease could not be read or written");
            }
            Err(_elapsed) => {
                self.metrics.lease_errors.inc();
                warn!("the API server does not answer about the lease");
            }
        }
        self.publish();
    }

    async fn attempt(&mut self) -> kube::Result<()> {
        let now = clock::now().monotonic_ms;
        if !self.elector.leads(now) {
            let lease = self.leases.get_opt(LEASE).await?;
            let now = clock::now().monotonic_ms;
            self.elector.observe(lease.as_ref().map(record), now);
        }
        let sent = clock::now().monotonic_ms;
        let outcome = match self.elector.step(sent) {
            Step::Wait => return Ok(()),
            Step::Create => {
                self.acquired = Some(wall());
                self.create().await
            }
            Step::Write {
                version,
                transitions,
                renewal,
            } => {
                let record = Record {
                    version,
                    holder: self.identity.clone(),
                    transitions,
                };
                if !renewal || self.acquired.is_none() {
                    self.acquired = Some(wall());
                }
                self.store(&record, self.seconds()).await
            }
        };
        match outcome {
            Ok(lease) => {
                let now = clock::now().monotonic_ms;
                self.elector.written(record(&lease), sent, now);
                Ok(())
            }
            // Another candidate was faster; read the lease again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                debug!("another candidate wrote the lease");
                let lease = self.leases.get_opt(LEASE).await?;
                let now = clock::now().monotonic_ms;
                self.elector.observe(lease.as_ref().map(record), now);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> kube::Result<Lease> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(&self.identity, 0, self.seconds())),
        };
        self.leases.create(&PostParams::default(), &lease).await
    }

    async fn store(&self, record: &Record, seconds: i32) -> kube::Result<Lease> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                namespace: Some(self.namespace.clone()),
                resource_version: Some(record.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(&record.holder, record.transitions, seconds)),
        };
        self.leases
            .replace(LEASE, &PostParams::default(), &lease)
            .await
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX)
    }

    fn spec(&self, holder: &str, transitions: i32, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(transitions),
            acquire_time: self.acquired.clone(),
            renew_time: Some(wall()),
            ..LeaseSpec::default()
        }
    }

    /// Publishes the present state.
    fn publish(&self) {
        let now = clock::now().monotonic_ms;
        let until = self.elector.leads_until_ms().filter(|until| now < *until);
        self.until_ms.store(until.unwrap_or(0), Ordering::Release);
        let leads = until.is_some();
        self.metrics.is_leader.set(i64::from(leads));
        let changed = self.leads.send_if_modified(|was| {
            let changed = *was != leads;
            *was = leads;
            changed
        });
        if changed {
            self.metrics.leader_transitions.inc();
            info!(identity = %self.identity, leads, "leadership changed");
        }
    }

    /// The retry period plus up to a fifth, so that candidates that started together drift apart. A
    /// leader wakes at its deadline, to step down.
    fn pause(&self) -> Duration {
        let longer = 1.0 + rand::random_range(0.0..0.2);
        let pause = self.timing.retry.mul_f64(longer);
        let now = clock::now().monotonic_ms;
        let until = self.elector.leads_until_ms().filter(|until| now < *until);
        until.map_or(pause, |until| {
            pause.min(Duration::from_millis(until.saturating_sub(now)))
        })
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    Record {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default(),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
    }
}

/// The wall clock, for readers of the lease; no decision here depends on it.
fn wall() -> MicroTime {
    MicroTime(Timestamp::from_millisecond(clock::now().unix_ms).unwrap_or_default())
}

/// A leadership under a test's control.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::{Arc, AtomicU64, Leadership, Ordering, watch};

    #[derive(Debug)]
    pub(crate) struct Lead {
        until_ms: Arc<AtomicU64>,
        leads: watch::Sender<bool>,
    }

    impl Lead {
        pub(crate) fn lose(&mut self) {
            self.until_ms.store(0, Ordering::Release);
            self.leads.send_replace(false);
        }

        pub(crate) fn gain(&mut self) {
            self.until_ms.store(u64::MAX, Ordering::Release);
            self.leads.send_replace(true);
        }
    }

    impl Leadership {
        /// A leadership that holds, and its control.
        pub(crate) fn for_tests() -> (Lead, Self) {
            let (leads, changes) = watch::channel(true);
            let until_ms = Arc::new(AtomicU64::new(u64::MAX));
            let leadership = Self {
                until_ms: Arc::clone(&until_ms),
                changes,
            };
            (Lead { until_ms, leads }, leadership)
        }
    }
}
