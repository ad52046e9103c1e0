//! Backends as they travel.

use std::sync::Arc;

use proxy_core::balance::HealthSettings;
use proxy_core::names::ObjectName;
use proxy_core::table::{self, BackendAuth, BackendKind, Identity, Principal, StreamUsage};
use serde::{Deserialize, Serialize};

use super::fields::{Certificates, Credential, Millis, Text, is_false};
use super::price::Price;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Backend {
    kind: Text<BackendKind>,
    endpoint: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_version: Option<Arc<str>>,
    auth: Auth,
    deployments: Vec<Deployment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_pem: Option<Certificates>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_false")]
    skips_verification: bool,
    connect_timeout_ms: Millis,
    /// The wait for the head of a stream; the first release waited as long for any answer.
    first_byte_timeout_ms: Millis,
    idle_timeout_ms: Millis,
    #[serde(default, skip_serializing_if = "Health::is_default")]
    health: Health,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    consecutive_failures: u32,
    max_ejection_ms: Millis,
    suspect_after_ms: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Auth {
    ApiKey {
        key: Credential,
    },
    PassThrough,
    None,
    /// The federated identity of the proxy's ServiceAccount.
    #[serde(rename_all = "camelCase")]
    WorkloadIdentity {
        scope: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<Arc<str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant_id: Option<Arc<str>>,
    },
    /// An identity of the machine.
    #[serde(rename_all = "camelCase")]
    ManagedIdentity {
        scope: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<Arc<str>>,
    },
    /// An application with a secret.
    #[serde(rename_all = "camelCase")]
    ClientSecret {
        scope: Arc<str>,
        tenant_id: Arc<str>,
        client_id: Arc<str>,
        secret: Credential,
    },
    /// The credential was left out of this copy.
    Withheld,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deployment {
    name: Arc<str>,
    model: Arc<str>,
    #[serde(flatten)]
    price: Price,
    #[serde(default, skip_serializing_if = "is_auto")]
    stream_usage: Text<StreamUsage>,
    #[serde(default, skip_serializing_if = "is_false")]
    provisioned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
}

// === impl Backend ===

impl From<&table::Backend> for Backend {
    fn from(backend: &table::Backend) -> Self {
        Self {
            kind: Text(backend.kind),
            endpoint: Arc::clone(&backend.endpoint),
            api_version: backend.api_version.clone(),
            auth: Auth::from(&backend.auth),
            deployments: backend.deployments.iter().map(Deployment::from).collect(),
            ca_pem: backend.ca.clone().map(Certificates),
            server_name: backend.server_name.clone(),
            skips_verification: backend.skips_verification,
            connect_timeout_ms: Millis(backend.connect_timeout),
            first_byte_timeout_ms: Millis(backend.stream_start_timeout),
            idle_timeout_ms: Millis(backend.idle_timeout),
            health: Health::from(backend.health),
        }
    }
}

impl Backend {
    /// `None` if its credential was withheld: it is unusable.
    pub(super) fn into_core(self, name: ObjectName) -> Option<table::Backend> {
        let auth = self.auth.into_core()?;
        let deployments = self.deployments.into_iter();
        Some(table::Backend {
            name,
            kind: self.kind.0,
            endpoint: self.endpoint,
            api_version: self.api_version,
            auth,
            deployments: deployments.map(Deployment::into_core).collect(),
            ca: self.ca_pem.map(|certificates| certificates.0),
            server_name: self.server_name,
            skips_verification: self.skips_verification,
            connect_timeout: self.connect_timeout_ms.0,
            stream_start_timeout: self.first_byte_timeout_ms.0,
            idle_timeout: self.idle_timeout_ms.0,
            health: self.health.into(),
        })
    }

    /// The same without its credential.
    pub(super) fn withheld(self) -> Self {
        let auth = match self.auth {
            Auth::ApiKey { .. } | Auth::ClientSecret { .. } | Auth::Withheld => Auth::Withheld,
            // Names, which open nothing.
            auth @ (Auth::PassThrough
            | Auth::None
            | Auth::WorkloadIdentity { .. }
            | Auth::ManagedIdentity { .. }) => auth,
        };
        Self { auth, ..self }
    }
}

// === impl Health ===

impl From<HealthSettings> for Health {
    fn from(from: HealthSettings) -> Self {
        Self {
            consecutive_failures: from.consecutive_failures,
            max_ejection_ms: Millis(from.max_ejection),
            suspect_after_ms: Millis(from.suspect_after),
        }
    }
}

impl From<Health> for HealthSettings {
    fn from(from: Health) -> Self {
        Self {
            consecutive_failures: from.consecutive_failures,
            max_ejection: from.max_ejection_ms.0,
            suspect_after: from.suspect_after_ms.0,
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        HealthSettings::default().into()
    }
}

impl Health {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Auth ===

impl From<&BackendAuth> for Auth {
    fn from(auth: &BackendAuth) -> Self {
        match auth {
            BackendAuth::ApiKey(key) => Self::ApiKey {
                key: Credential(key.clone()),
            },
            BackendAuth::PassThrough => Self::PassThrough,
            BackendAuth::None => Self::None,
            BackendAuth::Identity(identity) => {
                let scope = Arc::clone(&identity.scope);
                match identity.principal.clone() {
                    Principal::Workload {
                        client_id,
                        tenant_id,
                    } => Self::WorkloadIdentity {
                        scope,
                        client_id,
                        tenant_id,
                    },
                    Principal::Managed { client_id } => Self::ManagedIdentity { scope, client_id },
                    Principal::Application {
                        tenant_id,
                        client_id,
                        secret,
                    } => Self::ClientSecret {
                        scope,
                        tenant_id,
                        client_id,
                        secret: Credential(secret),
                    },
                }
            }
        }
    }
}

impl Auth {
    /// `None` if it was withheld.
    fn into_core(self) -> Option<BackendAuth> {
        let (principal, scope) = match self {
            Self::ApiKey {
                key: Credential(key),
            } => return Some(BackendAuth::ApiKey(key)),
            Self::PassThrough => return Some(BackendAuth::PassThrough),
            Self::None => return Some(BackendAuth::None),
            Self::Withheld => return None,
            Self::WorkloadIdentity {
                scope,
                client_id,
                tenant_id,
            } => {
                let principal = Principal::Workload {
                    client_id,
                    tenant_id,
                };
                (principal, scope)
            }
            Self::ManagedIdentity { scope, client_id } => (Principal::Managed { client_id }, scope),
            Self::ClientSecret {
                scope,
                tenant_id,
                client_id,
                secret: Credential(secret),
            } => {
                let principal = Principal::Application {
                    tenant_id,
                    client_id,
                    secret,
                };
                (principal, scope)
            }
        };
        Some(BackendAuth::Identity(Identity { principal, scope }))
    }
}

impl From<&table::Deployment> for Deployment {
    fn from(deployment: &table::Deployment) -> Self {
        Self {
            name: Arc::clone(&deployment.name),
            model: Arc::clone(&deployment.model),
            price: Price::of(deployment.price.as_deref()),
            stream_usage: Text(deployment.stream_usage),
            provisioned: deployment.capacity.is_provisioned,
            tokens_per_minute: deployment.capacity.tokens_per_minute,
        }
    }
}

impl Deployment {
    fn into_core(self) -> table::Deployment {
        table::Deployment {
            name: self.name,
            model: self.model,
            price: self.price.into_core().map(Arc::new),
            stream_usage: self.stream_usage.0,
            capacity: table::Capacity {
                is_provisioned: self.provisioned,
                tokens_per_minute: self.tokens_per_minute,
            },
        }
    }
}

fn is_auto(stream_usage: &Text<StreamUsage>) -> bool {
    stream_usage.0 == StreamUsage::Auto
}
