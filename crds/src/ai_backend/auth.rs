//! How the gateway authenticates at a backend. Objects refer to secrets and never hold one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{OBJECT_NAME, OPTIONAL_TENANT, OPTIONAL_UUID, SECRET_KEY, TENANT, UUID};

/// The default of `spec.auth.scope`.
pub const DEFAULT_SCOPE: &str = "https://ai.azure.com/.default";

/// How the gateway authenticates at a backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.apiKey) == (self.type == 'APIKey')")
    .message("auth.apiKey is required with type APIKey and must be left out with any other type")
    .field_path(".apiKey"))]
#[x_kube(validation = Rule::new("has(self.clientSecret) == (self.type == 'ClientSecret')")
    .message("auth.clientSecret is required with type ClientSecret and must be left out with any \
              other type").field_path(".clientSecret"))]
#[x_kube(validation = Rule::new("!has(self.workloadIdentity) || self.type == 'WorkloadIdentity'")
    .message("auth.workloadIdentity is only for type WorkloadIdentity; change type or remove it")
    .field_path(".workloadIdentity"))]
#[x_kube(validation = Rule::new("!has(self.managedIdentity) || self.type == 'ManagedIdentity'")
    .message("auth.managedIdentity is only for type ManagedIdentity; change type or remove it")
    .field_path(".managedIdentity"))]
pub struct BackendAuth {
    /// `APIKey`: a key from a Secret. `WorkloadIdentity`: an Entra token for the federated
    /// identity of the proxy's ServiceAccount. `ManagedIdentity`: an Entra token for the
    /// identity of the node. `ClientSecret`: an Entra token for an application with a secret.
    /// `PassThrough`: the client's own credential. `None`: no credential.
    /// The first two are the gateway's own, and need a grant of the installation where it watches several
    /// namespaces.
    #[serde(rename = "type")]
    pub type_: AuthType,
    /// The scope of the Entra token: WorkloadIdentity, ManagedIdentity and ClientSecret use it.
    /// Default: `https://ai.azure.com/.default`. Older resources and sovereign clouds need another
    /// one, such as `https://cognitiveservices.azure.com/.default`.
    #[serde(default = "default_scope", skip_serializing_if = "is_default_scope")]
    #[schemars(length(max = 256), regex(pattern = r"^[!-~]+$"))]
    pub scope: String,
    /// The key, with type APIKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKeyAuth")]
    pub api_key: Option<ApiKeyAuth>,
    /// The identity, with type WorkloadIdentity. Default: the one of the proxy's ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkloadIdentityAuth")]
    pub workload_identity: Option<WorkloadIdentityAuth>,
    /// The identity, with type ManagedIdentity. Default: the node's system-assigned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagedIdentityAuth")]
    pub managed_identity: Option<ManagedIdentityAuth>,
    /// The application and its secret, with type ClientSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientSecretAuth")]
    pub client_secret: Option<ClientSecretAuth>,
}

/// The kinds of credentials.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AuthType {
    /// A key from a Secret.
    #[serde(rename = "APIKey")]
    ApiKey,
    /// An Entra token for the federated identity of the proxy's ServiceAccount.
    WorkloadIdentity,
    /// An Entra token for the identity of the node.
    ManagedIdentity,
    /// An Entra token for an application with a secret.
    ClientSecret,
    /// The client's own credential goes upstream.
    PassThrough,
    /// No credential.
    #[default]
    None,
}

/// A key from a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeyAuth {
    /// The Secret that holds the key, in the namespace of the AIBackend.
    pub secret_ref: SecretKeyRef,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key in the Secret's data. Default: `api-key`.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// A federated identity.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadIdentityAuth {
    /// The client id (a UUID) of the application or user-assigned identity. Empty: the one that the
    /// workload identity webhook sets for the proxy.
    #[serde(rename = "clientID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36), regex(pattern = OPTIONAL_UUID))]
    pub client_id: String,
    /// The Entra tenant, a UUID or a verified domain. Empty: the one that the workload identity
    /// webhook sets for the proxy.
    #[serde(rename = "tenantID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = OPTIONAL_TENANT))]
    pub tenant_id: String,
}

/// An identity of the node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedIdentityAuth {
    /// The client id (a UUID) of a user-assigned identity. Empty: the system-assigned one.
    #[serde(rename = "clientID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36), regex(pattern = OPTIONAL_UUID))]
    pub client_id: String,
}

/// An application with a secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSecretAuth {
    /// The Entra tenant, a UUID or a verified domain.
    #[serde(rename = "tenantID")]
    #[schemars(length(min = 1, max = 253), regex(pattern = TENANT))]
    pub tenant_id: String,
    /// The client id (a UUID) of the application.
    #[serde(rename = "clientID")]
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub client_id: String,
    /// The Secret that holds the application's secret, in the namespace of the AIBackend.
    pub secret_ref: SecretKeyRef,
}

// === impl BackendAuth ===

impl Default for BackendAuth {
    fn default() -> Self {
        Self {
            type_: AuthType::default(),
            scope: default_scope(),
            api_key: None,
            workload_identity: None,
            managed_identity: None,
            client_secret: None,
        }
    }
}

// === impl SecretKeyRef ===

impl Default for SecretKeyRef {
    fn default() -> Self {
        Self {
            name: String::new(),
            key: default_secret_key(),
        }
    }
}

fn default_scope() -> String {
    DEFAULT_SCOPE.to_owned()
}

fn is_default_scope(scope: &String) -> bool {
    scope == DEFAULT_SCOPE
}

fn default_secret_key() -> String {
    "api-key".to_owned()
}
