//! AIBackend: one Foundry resource, or one OpenAI-compatible server.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::default::is_default;
use crate::duration::Duration;
use crate::patterns::{
    DATE, MAX_SAFE_INTEGER, MODEL, OBJECT_NAME, OPTIONAL_API_VERSION, OPTIONAL_MODEL,
    OPTIONAL_SUBDOMAIN, SECRET_KEY,
};

#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod auth;
#[cfg(test)]
mod tests;

pub use auth::{
    ApiKeyAuth, AuthType, BackendAuth, ClientSecretAuth, DEFAULT_SCOPE, ManagedIdentityAuth,
    SecretKeyRef, WorkloadIdentityAuth,
};

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
    selectable = ".spec.endpoint",
    selectable = ".spec.type",
    doc = "AIBackend is one Microsoft Foundry resource, or one server that speaks the OpenAI API: \
           where it is, how the gateway authenticates there, and which deployments it has. \
           AIRoutes refer to it.",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Serving","type":"string","jsonPath":".status.deployments"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].message","priority":1}"#,
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
    /// The kind of server at the endpoint: `Foundry` (a Microsoft Foundry or Azure OpenAI resource,
    /// or a gateway in front of one) or `OpenAICompatible` (any server with `/v1/chat/completions`
    /// and its siblings). Can't be changed afterwards.
    #[serde(rename = "type")]
    #[x_kube(validation = (
        "self == oldSelf",
        "type can't be changed; create another AIBackend and point the routes to it"
    ))]
    pub type_: BackendType,
    /// The URL of the resource, for example `https://contoso.services.ai.azure.com`. Any host
    /// works: sovereign clouds, private link, API Management. A path becomes the prefix of every
    /// request's path.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
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
    /// Whether an `http://` endpoint is allowed. Prompts, responses and credentials then cross the
    /// network in plain text. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_plaintext: bool,
    /// The `api-version` of requests to the backend, for example `2024-10-21`. Empty: the one of
    /// the client's request. A date pins the backend: requests for operations that came later, as
    /// Responses did with 2025-03-01-preview, go to other backends of the rule, or are refused with 400.
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
    pub tls: Option<Box<BackendTls>>,
    /// How long the gateway waits for this backend.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: BackendTimeouts,
    /// When the gateway leaves a deployment out, so that others answer. The defaults need no thought.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: BackendHealth,
}

/// The kind of server at an endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendType {
    /// A Microsoft Foundry or Azure OpenAI resource.
    #[default]
    Foundry,
    /// Any server that speaks the OpenAI API.
    #[serde(rename = "OpenAICompatible")]
    OpenAiCompatible,
}

/// One deployment of a backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// The deployment's name at the backend; for a server without deployments, the name of a
    /// model.
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL))]
    pub name: String,
    /// The underlying model, for example `gpt-4o`: it selects the tokenizer, and requests for it
    /// find this deployment. Empty: the same as the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128), regex(pattern = OPTIONAL_MODEL))]
    pub model: String,
    /// The capacity of the deployment. A hint for balancing, not a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Capacity")]
    pub capacity: Option<Capacity>,
    /// The day on which the backend retires the deployment, for example `2027-10-01`, in UTC. From 90 days
    /// before on the condition Retiring warns of it. The gateway goes on using the deployment after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 10), regex(pattern = DATE))]
    pub retires: Option<String>,
    /// Whether the gateway asks for the usage of streams, so that it can count them: `Auto` (it
    /// asks, unless the deployment has refused that) or `Never` (it counts the text of the stream
    /// itself). Default: Auto.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stream_usage: StreamUsage,
    /// The price of the deployment. Without it the price is unknown, which is not 0: a quota in
    /// CostMicros that reaches this deployment is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Price")]
    pub price: Option<Price>,
}

/// Whether the gateway asks for the usage of streams.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StreamUsage {
    /// Asks, unless the deployment has refused that.
    #[default]
    Auto,
    /// Never asks.
    Never,
}

/// The capacity of a deployment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// `Standard` (pay as you go) or `Provisioned` (paid whether used or not). Default: Standard.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub type_: CapacityType,
    /// The rated tokens of input per minute. Of a provisioned deployment the gateway reckons with it how much is used, and
    /// steers load off before it says 429: output weighs more than input, cached input nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = MAX_SAFE_INTEGER))]
    pub tokens_per_minute: Option<i64>,
}

/// How capacity is billed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CapacityType {
    /// Pay as you go.
    #[default]
    Standard,
    /// Provisioned throughput: paid whether used or not.
    Provisioned,
}

/// The price of a deployment, in millionths of the currency per million tokens: 2.50 is 2500000.
/// Every class without a price of its own costs as much as the text of its direction.
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
    /// The price of a million input tokens that the backend writes to its cache. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cache_write_per_million: Option<i64>,
    /// The price of a million output tokens, reasoning included, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub output_per_million: i64,
    /// The price of a million input tokens of sound. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub audio_input_per_million: Option<i64>,
    /// The price of a million output tokens of sound. Default: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub audio_output_per_million: Option<i64>,
    /// The price of a million input tokens of images. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub image_input_per_million: Option<i64>,
    /// The price of a million output tokens of images. Default: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub image_output_per_million: Option<i64>,
    /// The price of a second of sound, for models that are billed by its length, in millionths of the
    /// currency. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub per_second: Option<i64>,
    /// The prices of requests with a long input; they hold for the whole request. Default: as other
    /// requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LongContext")]
    pub long_context: Option<LongContext>,
    /// For a model router, the prices of the models that it may choose, at most 32: the model that
    /// the answer names decides, with or without its date. Other models cost as stated above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub routed: Vec<RoutedPrice>,
}

/// The prices of requests with a long input. A class that is not listed here costs the dearer of
/// its usual price and the long text of its direction.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LongContext {
    /// The longest input that still has the usual prices, for example 272000.
    #[schemars(range(min = 1, max = MAX_SAFE_INTEGER))]
    pub above_input_tokens: i64,
    /// The price of a million input tokens, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub input_per_million: i64,
    /// The price of a million input tokens that the backend had cached. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cached_input_per_million: Option<i64>,
    /// The price of a million input tokens that the backend writes to its cache. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cache_write_per_million: Option<i64>,
    /// The price of a million output tokens, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub output_per_million: i64,
}

/// The prices of one model behind a model router.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutedPrice {
    /// The model, as answers name it; a date at its end may be left out.
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL))]
    pub model: String,
    /// The price of a million input tokens, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub input_per_million: i64,
    /// The price of a million input tokens that the backend had cached. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cached_input_per_million: Option<i64>,
    /// The price of a million input tokens that the backend writes to its cache. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub cache_write_per_million: Option<i64>,
    /// The price of a million output tokens, reasoning included, in millionths of the currency.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub output_per_million: i64,
    /// The price of a million input tokens of sound. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub audio_input_per_million: Option<i64>,
    /// The price of a million output tokens of sound. Default: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub audio_output_per_million: Option<i64>,
    /// The price of a million input tokens of images. Default: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub image_input_per_million: Option<i64>,
    /// The price of a million output tokens of images. Default: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = MAX_SAFE_INTEGER))]
    pub image_output_per_million: Option<i64>,
}

/// How a backend's certificate is verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "!(has(self.dangerInsecureSkipVerify) && self.dangerInsecureSkipVerify && has(self.caCertificateRef))"
).message("caCertificateRef has no effect with dangerInsecureSkipVerify; remove one of them")
 .field_path(".caCertificateRef"))]
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
    /// Whether any certificate is taken for the backend's, without a check: prompts, responses and
    /// credentials are then open to whatever is between the gateway and the backend. For tests; trust the
    /// backend's own authority by caCertificateRef instead. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub danger_insecure_skip_verify: bool,
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
    /// To establish a connection, including TLS. Default: 5s.
    pub connect: Duration,
    /// From the end of the request to the head of a streamed response; a response that is no stream
    /// may take as long as the request. Default: 2m.
    pub stream_start: Duration,
    /// Between two bytes of a response; noticed up to an eighth of it later. Default: 10m.
    pub idle: Duration,
}

/// When the gateway leaves a deployment out. After that time one request tries it, and if it answers, its share
/// grows until it is whole again. A deployment that fails is tried all the same where a rule has no other.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendHealth {
    /// Failures in a row after which a deployment is left out: 5xx, 408, 421, no connection, one that
    /// breaks before a response, no stream in time. Half of all calls in ten seconds have the same effect.
    /// Default: 5.
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: i32,
    /// The longest time for which a deployment is left out before a request tries it. A longer wait that the
    /// backend asks for by `retry-after` is cut to it. Default: 60s.
    pub max_ejection: Duration,
    /// Requests that wait this long, without a byte of the deployment to any of them, make it a suspect:
    /// others are sent elsewhere. At least three must wait, and longer than four times its slowest response.
    /// Default: 15s.
    pub suspect_after: Duration,
}

/// The state of the backend, as the operator sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AiBackendStatus {
    /// The generation that the operator judged last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Ready, Reconciling while the object waits for another one, and Stalled while it
    /// needs a fix by a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Of the deployments that a rule uses, those that at least half of the proxies send requests to, for example
    /// `2/3 serving`. A throttled one counts as serving. Written when it has lasted for 30 s; empty while no proxy
    /// reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub deployments: String,
}

// === impl AiBackendSpec ===

impl AiBackendSpec {
    /// Every Secret of the namespace that is referred to, with the key in its data.
    pub fn secret_entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let auth = &self.auth;
        let api_key = auth.api_key.iter().map(|one| &one.secret_ref);
        let client_secret = auth.client_secret.iter().map(|one| &one.secret_ref);
        let tls = self.tls.iter().flat_map(|tls| &tls.ca_certificate_ref);
        let credentials = api_key.chain(client_secret);
        let credentials = credentials.map(|one| (one.name.as_str(), one.key.as_str()));
        credentials.chain(tls.map(|one| (one.name.as_str(), one.key.as_str())))
    }
}

// === impl Deployment ===

impl Deployment {
    /// The underlying model: `model`, or the deployment's name if that is empty.
    pub fn model_or_name(&self) -> &str {
        if self.model.is_empty() {
            &self.name
        } else {
            &self.model
        }
    }
}

// === impl CertificateRef ===

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
            stream_start: Duration::from_secs(120),
            idle: Duration::from_secs(600),
        }
    }
}

impl Default for BackendHealth {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            max_ejection: Duration::from_secs(60),
            suspect_after: Duration::from_secs(15),
        }
    }
}

fn default_certificate_key() -> String {
    "ca.crt".to_owned()
}
