//! Which installation writes the status of the objects in a namespace: the one that holds the Lease there.
//!
//! Two installations that watch the same objects would overwrite each other's statuses without end. Both go on
//! serving them; the second writes none, and says so. The Lease is renewed rarely: an installation that is gone
//! holds nothing up but statuses, and its Lease can be deleted by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex as SyncMutex;
use proxy_admin::clock;
use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, interval, timeout};
use tracing::{info, warn};

use crate::lease::keeper::Leadership;
use crate::metrics::Metrics;
use crate::stored_status::StoredObjects;

#[cfg(test)]
mod tests;

/// The Lease in each watched namespace that has objects.
const CLAIM: &str = "tundish-status";

/// A claim that was not renewed for this long is free.
const LIFE: Duration = Duration::from_secs(600);

/// Pause between two renewals: two may fail.
const RENEWAL: Duration = Duration::from_secs(200);

/// Pause between two looks at the claims.
const LOOK: Duration = Duration::from_secs(20);

/// Longest wait for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// The claims of one installation.
pub(crate) struct Claims {
    client: Client,
    /// The namespace of the installation, which is its name: there is one in a namespace.
    installation: String,
    /// Every object that is watched.
    stored: Arc<SyncMutex<StoredObjects>>,
    known: Mutex<BTreeMap<String, Claim>>,
    /// Changes when a namespace has become ours.
    gained: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
enum Claim {
    Ours {
        renewed: Instant,
    },
    /// The Lease cannot be read or made: as if there were no other installation.
    Unknown {
        since: Instant,
    },
    /// Of another installation, since this version of it was first seen.
    Theirs {
        holder: String,
        version: String,
        since: Instant,
    },
}

// === impl Claims ===

impl Claims {
    pub(crate) fn new(
        client: Client,
        installation: &str,
        stored: Arc<SyncMutex<StoredObjects>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            installation: installation.to_owned(),
            stored,
            known: Mutex::default(),
            gained: watch::Sender::new(0),
            metrics,
        }
    }

    /// Changes when a namespace has become ours.
    pub(crate) fn gained(&self) -> watch::Receiver<u64> {
        self.gained.subscribe()
    }

    /// Whether statuses in `namespace` are ours to write. Asks the API server the first time.
    pub(crate) async fn hold(&self, namespace: &str) -> Result<bool, kube::Error> {
        let mut known = self.known.lock().await;
        let claim = match known.get(namespace) {
            Some(claim) => claim.clone(),
            None => {
                let claim = self.look(namespace, None).await?;
                self.say(namespace, &claim);
                known.insert(namespace.to_owned(), claim.clone());
                claim
            }
        };
        Ok(claim.holds())
    }

    /// Renews what is ours and looks after the rest, while we lead.
    pub(crate) async fn run(&self, mut leadership: Leadership, mut shutdown: Shutdown) {
        let mut looks = interval(LOOK);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = shutdown.requested() => return,
            }
            tokio::select! {
                () = leadership.gained() => self.renew().await,
                () = shutdown.requested() => return,
            }
        }
    }

    async fn renew(&self) {
        let watched: BTreeSet<String> = {
            let stored = self.stored.lock();
            let namespaces = stored.keys().map(|object| object.name.namespace());
            namespaces.map(str::to_owned).collect()
        };
        for namespace in watched {
            if let Err(error) = self.hold(&namespace).await {
                warn!(namespace, error = %chain(&error), "a claim could not be read");
            }
        }
        let mut known = self.known.lock().await;
        for (namespace, claim) in known.iter_mut() {
            if claim.rests(Instant::now()) {
                continue;
            }
            match self.look(namespace, Some(claim)).await {
                Ok(now) => {
                    let gained = !claim.holds() && now.holds();
                    if gained {
                        self.gained
                            .send_modify(|count| *count = count.wrapping_add(1));
                    }
                    if claim.holder() != now.holder() {
                        self.say(namespace, &now);
                    }
                    *claim = now;
                }
                Err(error) => {
                    warn!(namespace, error = %chain(&error), "a claim could not be renewed")
                }
            }
        }
    }

    /// Reads the Lease, and takes or renews it if it is ours or free.
    async fn look(&self, namespace: &str, before: Option<&Claim>) -> Result<Claim, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let unknown = Claim::Unknown {
            since: Instant::now(),
        };
        let found = match answered(leases.get_opt(CLAIM)).await {
            Ok(found) => found,
            Err(error) if is_refusal(&error) => {
                warn!(
                    namespace,
                    error = %chain(&error),
                    "no Lease says which installation writes the statuses here"
                );
                return Ok(unknown);
            }
            Err(error) => return Err(error),
        };
        let version = found.as_ref().and_then(Lease::resource_version);
        let holder = found.and_then(|lease| lease.spec?.holder_identity);
        if let (Some(holder), Some(version)) = (holder, &version)
            && holder != self.installation
            && !holder.is_empty()
        {
            let theirs = Claim::theirs(holder, version.clone(), before);
            if !theirs.is_over() {
                return Ok(theirs);
            }
        }
        let lease = self.lease(namespace, version.clone());
        let parameters = PostParams::default();
        let written = match version {
            Some(_) => answered(leases.replace(CLAIM, &parameters, &lease)).await,
            None => answered(leases.create(&parameters, &lease)).await,
        };
        match written {
            Ok(_written) => Ok(Claim::Ours {
                renewed: Instant::now(),
            }),
            // The namespace is gone, or being deleted.
            Err(error) if is_refusal(&error) => Ok(unknown),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, namespace: &str, version: Option<String>) -> Lease {
        let now = Timestamp::from_millisecond(clock::now().unix_ms).unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(CLAIM.to_owned()),
                namespace: Some(namespace.to_owned()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.installation.clone()),
                lease_duration_seconds: i32::try_from(LIFE.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    fn say(&self, namespace: &str, claim: &Claim) {
        self.metrics.foreign(namespace, !claim.holds());
        match claim {
            Claim::Theirs { holder, .. } => warn!(
                namespace,
                holder,
                "another installation writes the statuses in this namespace; this one serves its objects, and \
                 writes none"
            ),
            Claim::Ours { .. } => info!(namespace, "this installation writes the statuses"),
            Claim::Unknown { .. } => {}
        }
    }
}

// === impl Claim ===

impl Claim {
    fn theirs(holder: String, version: String, before: Option<&Self>) -> Self {
        let since = match before {
            Some(Self::Theirs {
                version: seen,
                since,
                ..
            }) if *seen == version => *since,
            Some(Self::Theirs { .. } | Self::Ours { .. } | Self::Unknown { .. }) | None => {
                Instant::now()
            }
        };
        Self::Theirs {
            holder,
            version,
            since,
        }
    }

    const fn holds(&self) -> bool {
        match self {
            Self::Ours { .. } | Self::Unknown { .. } => true,
            Self::Theirs { .. } => false,
        }
    }

    fn holder(&self) -> Option<&str> {
        match self {
            Self::Theirs { holder, .. } => Some(holder),
            Self::Ours { .. } | Self::Unknown { .. } => None,
        }
    }

    /// It was not renewed for as long as a claim lives.
    fn is_over(&self) -> bool {
        match self {
            Self::Theirs { since, .. } => since.elapsed() >= LIFE,
            Self::Ours { .. } | Self::Unknown { .. } => false,
        }
    }

    /// Nothing has to be done about it yet.
    fn rests(&self, now: Instant) -> bool {
        match self {
            Self::Ours { renewed: since } | Self::Unknown { since } => now - *since < RENEWAL,
            Self::Theirs { .. } => false,
        }
    }
}

/// The right is missing, or the namespace is gone.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(kube::Error::Service(
            "the API server does not answer".into(),
        )),
    }
}
