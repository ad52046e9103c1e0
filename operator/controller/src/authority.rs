//! Where the CA of the channel is kept: a Secret that only operators read, and a ConfigMap with the
//! certificates for the proxies.
//!
//! How a CA is made and when another follows it is not known here: an [`Authority`] says so.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use proxy_admin::shutdown::Shutdown;
use serde_json::json;
use tracing::{info, warn};

use crate::FIELD_MANAGER;
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

/// How often an operator looks whether another one has changed the Secret, and the leader whether
/// somebody has changed the ConfigMap. A successor is announced for weeks before it is used.
const CHECK: Duration = Duration::from_secs(120);

/// Longest wait for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// The CA as stored, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CaPem {
    /// Certificate of the authority that signs; public.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Certificate and key of the one that follows.
    pub next: Option<(String, String)>,
    /// Certificates of former ones that may still be met.
    pub former: String,
}

/// What knows about certificates.
pub trait Authority: Send + Sync + 'static {
    /// The CA was read, at the start or because another operator changed it: sign with it.
    fn adopt(&mut self, stored: &CaPem);

    /// What has to be stored now instead, if a step of the rotation is due. Asked of the leader.
    fn advance(&mut self, stored: &CaPem) -> Option<CaPem>;
}

/// The CA could not be loaded or stored.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The API server refused or could not be reached.
    #[error("read or store the Secret {CA} in {namespace}")]
    Api {
        /// Where it was looked for.
        namespace: String,
        /// What went wrong.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else's Secret, or a damaged one. It is left as it is: proxies may trust it.
    #[error("the Secret {CA} in {namespace} has no {field}; delete it to have a new CA made")]
    Incomplete {
        /// Where it is.
        namespace: String,
        /// What it lacks.
        field: &'static str,
    },
}

/// Keeps the Secret and the ConfigMap as they should be.
pub(crate) struct CaKeeper<A> {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    authority: A,
    adopted: CaPem,
}

// === impl CaPem ===

impl fmt::Debug for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaPem").finish_non_exhaustive()
    }
}

impl CaPem {
    /// What the proxies are to trust.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|(certificate, _)| certificate);
        let parts = [Some(&self.certificate), next, Some(&self.former)];
        parts.into_iter().flatten().map(String::as_str).collect()
    }

    fn read(secret: &Secret, namespace: &str) -> Result<Self, CaError> {
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
        Ok(Self {
            certificate: required(CERTIFICATE)?,
            key: required(KEY)?,
            next: field(NEXT_CERTIFICATE).zip(field(NEXT_KEY)),
            former: field(FORMER).unwrap_or_default(),
        })
    }

    fn secret(&self, namespace: &str, version: Option<String>) -> Secret {
        let mut data = BTreeMap::from([
            (CERTIFICATE.to_owned(), self.certificate.clone()),
            (KEY.to_owned(), self.key.clone()),
        ]);
        if let Some((certificate, key)) = &self.next {
            data.insert(NEXT_CERTIFICATE.to_owned(), certificate.clone());
            data.insert(NEXT_KEY.to_owned(), key.clone());
        }
        if !self.former.is_empty() {
            data.insert(FORMER.to_owned(), self.former.clone());
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(CA.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            string_data: Some(data),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }
}

/// Loads the CA from `namespace`, or makes and stores one. Of several operators that find none, one
/// makes it and the others take that.
///
/// # Errors
/// The Secret cannot be read or stored, or is not complete.
pub async fn load_or_create_ca(
    client: &Client,
    namespace: &str,
    make: impl FnOnce() -> CaPem + Send,
) -> Result<CaPem, CaError> {
    let failed = |source| CaError::Api {
        namespace: namespace.to_owned(),
        source: Box::new(source),
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(secret) = secrets.get_opt(CA).await.map_err(failed)? {
        return CaPem::read(&secret, namespace);
    }
    let made = make();
    let secret = made.secret(namespace, None);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            info!(secret.namespace = namespace, secret.name = CA, "made a CA");
            Ok(made)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let theirs = secrets.get(CA).await.map_err(failed)?;
            CaPem::read(&theirs, namespace)
        }
        Err(error) => Err(failed(error)),
    }
}

// === impl CaKeeper ===

impl<A: Authority> CaKeeper<A> {
    pub(crate) fn new(client: Client, namespace: &str, authority: A, adopted: CaPem) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            authority,
            adopted,
        }
    }

    pub(crate) async fn run(mut self, mut leadership: Leadership, mut shutdown: Shutdown) {
        loop {
            match tokio::time::timeout(PATIENCE, self.check(&leadership)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(error = %crate::chain(&error), "the CA could not be looked after");
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
        let secret = self.secrets.get(CA).await;
        let secret = secret.map_err(|error| failed(&self.namespace, error))?;
        let mut stored = CaPem::read(&secret, &self.namespace)?;
        if leadership.holds()
            && let Some(next) = self.authority.advance(&stored)
        {
            let secret = next.secret(&self.namespace, secret.resource_version());
            let parameters = PostParams::default();
            let replaced = self.secrets.replace(CA, &parameters, &secret).await;
            replaced.map_err(|error| failed(&self.namespace, error))?;
            info!("the CA took a step of its rotation");
            stored = next;
        }
        if stored != self.adopted {
            self.authority.adopt(&stored);
            self.adopted = stored;
        }
        if leadership.holds() {
            let written = self.write_bundle().await;
            written.map_err(|error| failed(&self.namespace, error))?;
        }
        Ok(())
    }

    async fn write_bundle(&self) -> kube::Result<()> {
        let bundle = self.adopted.bundle();
        let map = self.maps.get_opt(CA).await?;
        let data = map.as_ref().and_then(|map| map.data.as_ref());
        if data.is_some_and(|data| data.get(CERTIFICATE) == Some(&bundle)) {
            return Ok(());
        }
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CA, "namespace": self.namespace, "labels": labels()},
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

fn labels() -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        label("app.kubernetes.io/name", "tundish"),
        label("app.kubernetes.io/managed-by", FIELD_MANAGER),
    ])
}
