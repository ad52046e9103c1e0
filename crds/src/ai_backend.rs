//! AIBackend: one Foundry resource, or one OpenAI-compatible server.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{
    MAX_SAFE_INTEGER, MODEL, OBJECT_NAME, OPTIONAL_API_VERSION, OPTIONAL_MODEL, OPTIONAL_SUBDOMAIN,
    OPTIONAL_TENANT, OPTIONAL_UUID, SECRET_KEY, TENANT, UUID,
};
use crate::{Condition, Duration, is_default};

/// The scope of Entra tokens unless `spec.auth.scope` says otherwise.
pub const DEFAULT_SCOPE: &str = "https://ai.azure.com/.default";

/// What the backend is, how to reach it, and what it serves.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "tundish.dev",
    version = "v1alpha1",
    kind = "AIBackend",
    root = "AiBackend",
    plural = "aibackends",
    singular = "aibackend",
    shortname = "aib",
    category = "tundish",
    namespaced,
    status = "AiBackendStatus",
    derive = "PartialEq",
    doc = "AIBackend is one Microsoft Foundry resource, or one server that speaks the OpenAI API: \
           where it is, how the gateway authenticates there, and which deployments it has. \
           AIRoutes refer to it.",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason","priority":1}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "self.endpoint.startsWith('https://') || (has(self.allowPlaintext) && self.allowPlaintext)"
).message("endpoint must begin with https://; set allowPlaintext: true only if the network \
           between the gateway and this backend is trusted").field_path(".endpoint"))]
#[x_kube(validation = Rule::new(
    "!has(self.tls) || !self.endpoint.startsWith('http://')"
).message("tls has no effect on an http:// endpoint; use https:// or remove tls")
 .field_path(".tls"))]
#[x_kube(validation = Rule::new(
    "self.type != 'Foundry' || self.deployments.all(d, !d.name.matches('[/:@+]'))"
).message("deployments: the name of a Foundry deployment has only letters, digits, '.', '_' and \
           '-'; use the deployment's name from the Foundry portal, and put the model into model")
 .field_path(".deployments"))]
pub struct AiBackendSpec {
    /// What answers at the endpoint: `Foundry` (a Microsoft Foundry or Azure OpenAI resource, or
    /// a gateway in front of one) or `OpenAICompatible` (any server with `/v1/chat/completions`
    /// and its siblings). Can't be changed afterwards.
    #[serde(rename = "type")]
    #[x_kube(validation = (
        "self == oldSelf",
        "type can't be changed; create another AIBackend and point the routes to it"
    ))]
    pub type_: BackendType,
    /// The URL of the resource, for example `https://contoso.services.ai.azure.com`. Any host
    /// will do: sovereign clouds, private link, API Management. A path is kept as a prefix of
    /// every request's path.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = (
        "self.matches('^https?://[^/?#]+') && isURL(self) && url(self).getHostname() != ''",
        "endpoint must be an absolute URL, for example https://contoso.services.ai.azure.com"
    ))]
    #[x_kube(validation = (
        "!self.contains('@')",
        "endpoint must not contain a user or password; remove everything up to '@' and use auth"
    ))]
    #[x_kube(validation = (
        "!self.contains('?') && !self.contains('#')",
        "endpoint must not have a query or a fragment; remove it, and pin a version by apiVersion"
    ))]
    pub endpoint: String,
    /// Whether an `http://` endpoint is allowed. Prompts, answers and credentials then cross the
    /// network in clear. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_plaintext: bool,
    /// The `api-version` to speak, for example `2024-10-21`. Empty: speak as the client did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32), regex(pattern = OPTIONAL_API_VERSION))]
    pub api_version: String,
    /// How the gateway authenticates at the backend.
    pub auth: BackendAuth,
    /// What the backend serves, 1 to 64 deployments with different names.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub deployments: Vec<Deployment>,
    /// How the backend's certificate is verified. Default: public roots, and the endpoint's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BackendTls")]
    pub tls: Option<BackendTls>,
    /// How long the gateway waits for this backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: BackendTimeouts,
}

/// What answers at an endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendType {
    /// A Microsoft Foundry or Azure OpenAI resource.
    #[default]
    Foundry,
    /// Any server that speaks the OpenAI API.
    #[serde(rename = "OpenAICompatible")]
    OpenAiCompatible,
}

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
    #[serde(rename = "type")]
    pub type_: AuthType,
    /// The scope of the Entra token: WorkloadIdentity, ManagedIdentity and ClientSecret use it.
    /// Default: `https://ai.azure.com/.default`. Older resources and sovereign clouds want
    /// another, such as `https://cognitiveservices.azure.com/.default`.
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
    /// The client id (a UUID) of the application or user-assigned identity. Empty: what the
    /// workload identity webhook gave the proxy.
    #[serde(rename = "clientID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36), regex(pattern = OPTIONAL_UUID))]
    pub client_id: String,
    /// The Entra tenant, a UUID or a verified domain. Empty: what the workload identity webhook
    /// gave the proxy.
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

/// One deployment of a backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// The deployment's name at the backend; for a server without deployments, the name of a
    /// model.
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL))]
    pub name: String,
    /// The model underneath, for example `gpt-4o`: it chooses the tokenizer, and requests for
    /// it find this deployment. Empty: the same as the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128), regex(pattern = OPTIONAL_MODEL))]
    pub model: String,
    /// What the deployment can take. Advice for balancing; no limit is derived from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Capacity")]
    pub capacity: Option<Capacity>,
    /// What tokens cost. Without it, quotas in CostMicros count nothing for this deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Price")]
    pub price: Option<Price>,
}

/// What a deployment can take.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// `Standard` (pay as you go) or `Provisioned` (paid whether used or not). Default: Standard.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub type_: CapacityType,
    /// Tokens per minute that the deployment is rated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = MAX_SAFE_INTEGER))]
    pub tokens_per_minute: Option<i64>,
}

/// How capacity is paid.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CapacityType {
    /// Pay as you go.
    #[default]
    Standard,
    /// Provisioned throughput: paid whether used or not.
    Provisioned,
}

/// What tokens cost, in millionths of the currency per million tokens: 2.50 is 2500000.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// The price of a million input tokens, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub input_per_million: i64,
    /// The price of a million input tokens that the backend had cached. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cached_input_per_million: Option<i64>,
    /// The price of a million output tokens, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub output_per_million: i64,
}

/// How a backend's certificate is verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendTls {
    /// A Secret with the certificates (PEM) of the authorities to trust instead of the public
    /// roots, in the namespace of the AIBackend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CertificateRef")]
    pub ca_certificate_ref: Option<CertificateRef>,
    /// The name that the certificate must have, and that is sent as SNI. Empty: the endpoint's
    /// host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 253),
        regex(pattern = OPTIONAL_SUBDOMAIN)
    )]
    pub server_name: String,
}

/// A certificate in a Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key in the Secret's data. Default: `ca.crt`.
    #[serde(default = "default_certificate_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// How long the gateway waits for a backend.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendTimeouts {
    /// Until a connection stands, TLS included. Default: 5s.
    pub connect: Duration,
    /// From the end of the request until the first byte of the answer. Default: 2m.
    pub first_byte: Duration,
    /// Between two bytes of an answer. Default: 2m.
    pub idle: Duration,
}

/// What the operator found out about the backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AiBackendStatus {
    /// The generation that the operator judged last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Ready, and Stalled while only a person can help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
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

// === impl Deployment ===

impl Deployment {
    /// The model underneath: `model`, or the deployment's own name if that is empty.
    pub fn model_or_name(&self) -> &str {
        if self.model.is_empty() {
            &self.name
        } else {
            &self.model
        }
    }
}

// === impl SecretKeyRef, CertificateRef ===

impl Default for SecretKeyRef {
    fn default() -> Self {
        Self {
            name: String::new(),
            key: default_secret_key(),
        }
    }
}

impl Default for CertificateRef {
    fn default() -> Self {
        Self {
            name: String::new(),
            key: default_certificate_key(),
        }
    }
}

// === impl BackendTimeouts ===

impl Default for BackendTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(120),
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

fn default_certificate_key() -> String {
    "ca.crt".to_owned()
}
