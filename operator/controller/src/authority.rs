//! Stores the CA of the channel: a Secret that only operators read, and a ConfigMap with the
//! certificates for the proxies.
//!
//! `operator_publish::tls` makes a CA and decides about its rotation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use operator_publish::tls::{Certificates, StoredAuthorities};
use proxy_admin::clock;
use proxy_admin::errors::chain;
use proxy_admin::reminder::Reminder;
use proxy_admin::shutdown::Shutdown;
use serde_json::json;
use tracing::{info, warn};

use crate::config::FIELD_MANAGER;
use crate::kept::{is_empty, labels, store};
use crate::lease::keeper::Leadership;

#[cfg(test)]
mod tests;

/// The Secret and the ConfigMap have the same name.
const CA: &str = "tundish-ca";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const FORMER: &str = "former.crt";

/// Pause between two checks of the Secret, which another operator may change, and of the ConfigMap. Pods
/// that start wait for the ConfigMap if somebody deletes it.
const CHECK: Duration = Duration::from_secs(10);

/// Longest wait for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// The CA could not be loaded or stored.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The API server refused, or could not be reached.
    #[error("read or store the Secret {CA} in {namespace}")]
    Api {
        /// The namespace of the Secret.
        namespace: String,
        /// The error of the call.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret is damaged, or somebody else's. It is left as it is: proxies may trust it.
    #[error("the Secret {CA} in {namespace} has no {field}; delete it to have a new CA made")]
    Incomplete {
        /// The namespace of the Secret.
        namespace: String,
        /// The missing field.
        field: &'static str,
    },
}

/// Rotates the CA, signs with the stored one, and keeps the ConfigMap current.
pub(crate) struct CaKeeper {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    certificates: Arc<Certificates>,
    /// The CA that `certificates` signs with.
    adopted: StoredAuthorities,
    /// For the line that its Secret is gone.
    reminder: Reminder,
}

/// Loads the CA from `namespace`, or makes and stores one, in an empty Secret if there is one. If several
/// operators find none, one stores its own and the others take that.
///
/// # Errors
/// The Secret cannot be read or stored, or is incomplete.
pub async fn load_or_create_ca(
    client: &Client,
    namespace: &str,
    make: impl FnOnce() -> StoredAuthorities + Send,
) -> Result<StoredAuthorities, CaError> {
    let failed = |source| CaError::Api {
        namespace: namespace.to_owned(),
        source: Box::new(source),
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get_opt(CA).await.map_err(failed)?;
    if let Some(secret) = found.as_ref().filter(|secret| !is_empty(secret)) {
        return read(secret, namespace);
    }
    let made = make();
    match store(&secrets, (namespace, CA), data(&made), found).await {
        Ok(()) => {
            info!(secret.namespace = namespace, secret.name = CA, "made a CA");
            Ok(made)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => {
            let theirs = secrets.get(CA).await.map_err(failed)?;
            if is_empty(&theirs) {
                return Err(failed(kube::Error::Api(status)));
            }
            read(&theirs, namespace)
        }
        Err(error) => Err(failed(error)),
    }
}

// === impl CaKeeper ===

impl CaKeeper {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        certificates: Arc<Certificates>,
        adopted: StoredAuthorities,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            certificates,
            adopted,
            reminder: Reminder::default(),
        }
    }

    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        loop {
            match tokio::time::timeout(PATIENCE, self.check(&leadership)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(error = %chain(&error), "the check of the CA failed");
                }
                Err(_elapsed) => warn!("the API server does not answer about the CA"),
            }
            let leads = leadership.holds();
            tokio::select! {
                () = tokio::time::sleep(CHECK) => {}
                () = leadership.gained(), if !leads => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn check(&mut self, leadership: &Leadership) -> Result<(), CaError> {
        let failed = |namespace: &str, source| CaError::Api {
            namespace: namespace.to_owned(),
            source: Box::new(source),
        };
        let found = self.secrets.get_opt(CA).await;
        let found = found.map_err(|error| failed(&self.namespace, error))?;
        let is_filled = found.as_ref().is_some_and(|found| !is_empty(found));
        let mut stored = match &found {
            Some(found) if is_filled => read(found, &self.namespace)?,
            Some(_) | None => self.adopted.clone(),
        };
        if leadership.holds() && !is_filled {
            let restored = self.restore(found).await;
            restored.map_err(|error| failed(&self.namespace, error))?;
        } else if leadership.holds()
            && let Some(next) = self.next(&stored)
        {
            let replaced = self.store(&next, found).await;
            replaced.map_err(|error| failed(&self.namespace, error))?;
            stored = next;
        }
        if stored != self.adopted {
            match self.certificates.adopt(&stored, clock::now().unix_ms) {
                Ok(()) => info!("the channel's certificate is signed by the stored CA"),
                Err(error) => warn!(%error, "the stored CA cannot be used; the former one stays"),
            }
            self.adopted = stored;
        }
        if leadership.holds() {
            let written = self.write_bundle().await;
            written.map_err(|error| failed(&self.namespace, error))?;
        }
        Ok(())
    }

    async fn store(&self, ca: &StoredAuthorities, found: Option<Secret>) -> kube::Result<()> {
        store(&self.secrets, (&self.namespace, CA), data(ca), found).await
    }

    /// Stores the CA again, whose Secret is gone or empty.
    async fn restore(&self, empty: Option<Secret>) -> kube::Result<()> {
        match self.store(&self.adopted, empty).await {
            Ok(()) => warn!(
                secret.name = CA,
                "the Secret of the CA was gone and is stored again"
            ),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                if self.reminder.is_due(clock::instant()) {
                    warn!(
                        secret.name = CA,
                        "the Secret of the CA is gone, and the operator may create none: run `helm upgrade`, which \
                         makes an empty one"
                    );
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What has to be stored instead of `stored`, if anything. Proxies trust the CA of the leader: one that
    /// another operator made, when it found none, gives way to it.
    fn next(&self, stored: &StoredAuthorities) -> Option<StoredAuthorities> {
        if stored.is_foreign_to(&self.adopted) {
            warn!(
                secret.name = CA,
                "there were two CAs: the one that proxies trust stays, and they trust both"
            );
            return Some(self.adopted.trusting(stored));
        }
        let next = advance(stored)?;
        info!("the rotation of the CA takes a step");
        Some(next)
    }

    async fn write_bundle(&self) -> kube::Result<()> {
        let bundle = self.adopted.bundle();
        let map = self.maps.get_opt(CA).await?;
        let data = map.as_ref().and_then(|map| map.data.as_ref());
        if data.is_some_and(|data| data.get(CERTIFICATE) == Some(&bundle)) {
            return Ok(());
        }
        // The labels of the one that the chart made are the chart's.
        let ours = map.as_ref().is_none_or(|map| *map.labels() == labels());
        let labels = if ours { labels() } else { BTreeMap::new() };
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CA, "namespace": self.namespace, "labels": labels},
            "data": {CERTIFICATE: bundle},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.maps
            .patch(CA, &parameters, &Patch::Apply(&map))
            .await?;
        info!(
            config_map.name = CA,
            "wrote the certificates that proxies trust"
        );
        Ok(())
    }
}

/// The next step of the rotation, if one is due.
fn advance(stored: &StoredAuthorities) -> Option<StoredAuthorities> {
    let step = stored.advance(clock::now().unix_ms);
    step.unwrap_or_else(|error| {
        warn!(%error, "the CA cannot be rotated");
        None
    })
}

/// Reads the Secret.
fn read(secret: &Secret, namespace: &str) -> Result<StoredAuthorities, CaError> {
    let field = |field: &'static str| {
        let stored = secret.data.as_ref().and_then(|data| data.get(field));
        let text = stored.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        text.filter(|text| !text.is_empty())
    };
    let required = |name: &'static str| {
        field(name).ok_or_else(|| CaError::Incomplete {
            namespace: namespace.to_owned(),
            field: name,
        })
    };
    Ok(StoredAuthorities {
        certificate: required(CERTIFICATE)?,
        key: required(KEY)?,
        next: field(NEXT_CERTIFICATE).zip(field(NEXT_KEY)),
        former: field(FORMER).unwrap_or_default(),
    })
}

/// What the Secret holds.
fn data(ca: &StoredAuthorities) -> BTreeMap<String, String> {
    let mut data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ca.certificate.clone()),
        (KEY.to_owned(), ca.key.clone()),
    ]);
    if let Some((certificate, key)) = &ca.next {
        data.insert(NEXT_CERTIFICATE.to_owned(), certificate.clone());
        data.insert(NEXT_KEY.to_owned(), key.clone());
    }
    if !ca.former.is_empty() {
        data.insert(FORMER.to_owned(), ca.former.clone());
    }
    data
}
