//! AIRoute: who may use which models, and which deployments serve them.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::default::is_default;
use crate::duration::Duration;
use crate::matching::{ConsumerMatch, MODEL_PATTERN_RULE};
use crate::patterns::{
    HEADER_NAME, HEADER_VALUE, HOSTNAME, LABEL, MAX_OUTPUT_TOKENS, MODEL_PATTERN, OBJECT_NAME,
    OPTIONAL_KIND, OPTIONAL_LABEL, OPTIONAL_MODEL, OPTIONAL_SUBDOMAIN,
};

#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function"
)]
mod authentication;

pub use authentication::{
    Anonymous, ApiKeys, Authentication, JwtIssuer, PassThrough, SecretSelector,
};

/// Who may use which models, and which deployments serve them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "tundish.dev",
    version = "v1alpha1",
    kind = "AIRoute",
    root = "AiRoute",
    plural = "airoutes",
    singular = "airoute",
    shortname = "air",
    category = "tundish",
    namespaced,
    status = "AiRouteStatus",
    derive = "PartialEq",
    doc = "AIRoute says who may ask for which models under which host names, and which deployments \
           of which AIBackends answer. A route that lists no way to authenticate refuses every \
           request. Namespaces may share hosts, and a consumer is served by the routes of its \
           own namespace. If two of these have the same host and match, the older one wins and the \
           other gets Accepted=False with reason Conflicted.",
    printcolumn = r#"{"name":"Hostnames","type":"string","jsonPath":".spec.hostnames"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.programmed"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AiRouteSpec {
    /// Host names that the route serves: exact (`ai.example.com`), or with one wildcard label in
    /// front (`*.example.com`). Exact names win over wildcards. Empty: every host of the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = HOSTNAME))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
    /// The Gateways that the route attaches to: it serves the hosts that are its own and those of their
    /// listeners. They must allow its namespace. Empty: the gateway of the installation, without limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (
        "self.all(p, self.exists_one(o, o.name == p.name \
         && (has(o.__namespace__) ? o.__namespace__ : '') == (has(p.__namespace__) ? p.__namespace__ : '') \
         && (has(o.sectionName) ? o.sectionName : '') == (has(p.sectionName) ? p.sectionName : '')))",
        "parentRefs must not name the same gateway and section twice; remove the duplicate"
    ))]
    pub parent_refs: Vec<ParentRef>,
    /// How callers authenticate; a request must satisfy one of the listed methods. Without any
    /// method every request is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authentication: Authentication,
    /// The web pages of other sites that may call the route from a browser. Default: none; a
    /// preflight is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cors")]
    pub cors: Option<Cors>,
    /// The rules, 1 to 32 with different names. The most specific match wins: exact model, then
    /// longest prefix, then any; then more headers; then order.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<RouteRule>,
}

/// The web pages of other sites that may call a route.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Their origins, 1 to 32, as browsers write them: `https://app.example.com`, with a port if it
    /// is not 443; `http://` only for localhost. `*` alone means every page.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 270)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = (
        "self.all(o, o == '*' || o.matches('^(https://[a-z0-9]([-a-z0-9.]*[a-z0-9])?\
         |http://(localhost|127\\\\.0\\\\.0\\\\.1|\\\\[::1\\\\]))(:[0-9]{1,5})?$'))",
        "cors.allowOrigins: an origin is https://host or https://host:port in lower case, without \
         a path; http:// is only for localhost; correct it, for example https://app.example.com"
    ))]
    #[x_kube(validation = (
        "self.all(o, !(o.startsWith('https://') && o.endsWith(':443')) \
         && !(o.startsWith('http://') && o.endsWith(':80')))",
        "cors.allowOrigins: browsers leave the port out if it is 443 of https or 80 of http, so \
         this origin never matches; remove the port"
    ))]
    #[x_kube(validation = (
        "!('*' in self) || self.size() == 1",
        "cors.allowOrigins: * already allows every page; remove it, or the other origins"
    ))]
    pub allow_origins: Vec<String>,
}

/// A gateway that a route attaches to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// The API group. Default: `gateway.networking.k8s.io`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = OPTIONAL_SUBDOMAIN))]
    pub group: String,
    /// The kind. Default: `Gateway`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_KIND))]
    pub kind: String,
    /// The namespace. Empty: the one of the AIRoute.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_LABEL))]
    pub namespace: String,
    /// The name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// A listener of the gateway. Empty: all of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = OPTIONAL_SUBDOMAIN))]
    pub section_name: String,
}

/// The handling of matching requests.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteRule {
    /// The rule's name. An AIQuota refers to it by sectionName; logs and metrics carry it.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The requests of the rule: those that satisfy one of these matches, at most 8. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<RouteMatch>,
    /// The deployments that serve the rule, 1 to 16. If every weight is 0, the gateway answers that
    /// there is no backend.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backend_refs: Vec<BackendRef>,
    /// Bounds on the output tokens of a response. Default: as the client asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OutputTokens")]
    pub output_tokens: Option<OutputTokens>,
    /// When to try another deployment, only before the first byte of a response. Default: two more
    /// attempts in each tier, on everything but Timeout, and on that too with timeouts.firstToken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// How long a request may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: RouteTimeouts,
    /// What happens to operations whose cost cannot be metered, such as speech, where a limit counts
    /// tokens or money: `Deny` answers 403, `Allow` serves them and counts none. Default: Deny.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unmetered: Unmetered,
    /// Whether answers carry the headers by which a backend names its region, deployment and load,
    /// such as `x-ms-region`. The access log names the deployment in any case. Default: Hide.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend_headers: BackendHeaders,
    /// What backends take for the end user of a request, by which providers monitor abuse: `Keep` leaves it to the
    /// client, `Consumer` names the calling consumer by a pseudonym, in `user`, `safety_identifier` and Anthropic's
    /// `metadata.user_id`. Default: Keep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub end_user: EndUser,
    /// The MCP servers that tools of a request may name, for the provider to call. Default: as the client sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mcp")]
    pub mcp: Option<Mcp>,
    /// Which requests go to the deployment that served the ones before them, so that its prompt cache serves
    /// their beginning. A deployment that is out or full is passed over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub affinity: Affinity,
    /// Who yields first where a provisioned deployment or the gateway itself is at its limit: Batch before
    /// Standard before Interactive. The attribute `class` of a consumer lowers it. Default: Standard.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class: Class,
}

/// Which requests go to the same deployment, within a priority.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "has(self.header) == (has(self.type) && self.type == 'Header')",
    "affinity.header names a header with type Header, and only then; set or remove it"
))]
#[x_kube(validation = Rule::new(
    "!has(self.header) || !(self.header.lowerAscii() in ['authorization', 'proxy-authorization', 'api-key', \
     'x-api-key', 'ocp-apim-subscription-key', 'cookie'])"
).message("affinity.header is a credential, which is the same in all conversations of a caller; name a header that \
           each conversation has of its own").field_path(".header"))]
pub struct Affinity {
    /// What tells them. Default: Conversation.
    #[serde(rename = "type", default, skip_serializing_if = "is_default")]
    pub type_: AffinityType,
    /// The header whose value tells them, with type Header; case-insensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub header: Option<String>,
}

/// MCP servers that a provider may be made to call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mcp {
    /// Hosts of their addresses, such as mcp.contoso.com, or *.contoso.com for all below it; at most 64. A request
    /// that names another, or a connector of the provider, is 403. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = HOSTNAME))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub servers: Vec<String>,
}

/// What tells which requests go to the same deployment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AffinityType {
    /// The `prompt_cache_key` of a request, else the beginning of its prompt up to the first words of the user,
    /// where the prompt is long enough for a cache: about 1,024 tokens.
    #[default]
    Conversation,
    /// The value of a header.
    Header,
    /// Nothing: weights and load decide alone.
    None,
}

/// Who yields first under pressure.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for the answer. Yields last.
    Interactive,
    /// As most requests.
    #[default]
    Standard,
    /// Work that can wait. Yields first.
    Batch,
}

/// What backends take for the end user of a request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndUser {
    /// What the client says, if anything.
    #[default]
    Keep,
    /// The calling consumer: 32 hex digits of the SHA-256 of its `namespace/name`.
    Consumer,
}

/// What happens to the headers by which a backend names its region, deployment and load.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendHeaders {
    /// Clients do not see them.
    #[default]
    Hide,
    /// Clients get them as they came.
    Show,
}

/// What happens to operations whose cost cannot be metered.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmetered {
    /// They are refused where a limit counts tokens or money.
    #[default]
    Deny,
    /// They are served, and count as requests only.
    Allow,
}

/// The requests of a rule. The fields are AND-ed; an empty field matches everything.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// Models, as the client calls them: exact (`gpt-4o`), or a prefix and one `*` at the end
    /// (`gpt-4o-*`), at most 32. Empty: any model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = MODEL_PATTERN))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = MODEL_PATTERN_RULE)]
    pub models: Vec<String>,
    /// The operations, in any dialect. Empty: any operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Vec<Operation>,
    /// Headers that the request must all have, with exactly these values; at most 8. Names are
    /// case-insensitive, values are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = (
        "self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",
        "headers must not name the same header twice, and case does not matter; remove one"
    ))]
    pub headers: Vec<HeaderMatch>,
    /// The calling consumer. Empty: any consumer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consumers: ConsumerMatch,
}

/// An operation, in any dialect.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Operation {
    /// Chat completions.
    ChatCompletions,
    /// Text completions.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Image generation and edits.
    Images,
    /// Speech, transcription and translation.
    Audio,
    /// Judgements of texts and images.
    Moderations,
    /// Realtime sessions.
    Realtime,
    /// Files.
    Files,
    /// Vector stores, and the files in them.
    VectorStores,
    /// Containers of the code interpreter, and the files in them.
    Containers,
    /// Batches.
    Batches,
    /// Agents of a Foundry project.
    Agents,
    /// The list of models.
    Models,
}

/// A header and its value.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header's name; case-insensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub name: String,
    /// Its exact value.
    #[schemars(length(min = 1, max = 256), regex(pattern = HEADER_VALUE))]
    pub value: String,
}

/// A deployment and its share of the requests.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// The AIBackend's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The AIBackend's namespace. Empty: the one of the AIRoute. Another one needs a
    /// ReferenceGrant there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_LABEL))]
    pub namespace: String,
    /// The deployment of the AIBackend. Empty: the deployment named like the requested model,
    /// else the one whose model is the requested one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128), regex(pattern = OPTIONAL_MODEL))]
    pub deployment: String,
    /// The share of requests among the deployments of the same priority, 0 to 1000000; 0 receives
    /// none. Default: 1.
    #[serde(default = "default_weight", skip_serializing_if = "is_default_weight")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: i32,
    /// 0 to 15. The lowest number is used first, a higher one while the lower ones are unavailable.
    /// Default: 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 15))]
    pub priority: i32,
}

/// Bounds on the output tokens of a response. Reasoning counts into them. The gateway writes them
/// into the request, so they hold at the backend, and quotas hold exactly as much.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "has(self.default) || has(self.max)",
    "outputTokens sets no bound; set default, max or both, or remove it"
))]
#[x_kube(validation = Rule::new(
    "!has(self.default) || !has(self.max) || self.default <= self.max"
).message("outputTokens.default must not be larger than outputTokens.max; lower default or raise \
           max").field_path(".default"))]
pub struct OutputTokens {
    /// The bound of a request that states none. Default: max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = MAX_OUTPUT_TOKENS))]
    pub default: Option<i64>,
    /// The largest bound; a request that asks for more gets this one, and its response says so.
    /// Default: as the client asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = MAX_OUTPUT_TOKENS))]
    pub max: Option<i64>,
}

/// When to try another deployment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Further attempts, 0 to 5; 0 turns retries off. Default: 2.
    #[serde(
        default = "default_attempts",
        skip_serializing_if = "is_default_attempts"
    )]
    #[schemars(range(min = 0, max = 5))]
    pub attempts: i32,
    /// The failures to retry after: `TooManyRequests` (429), `ServerError` (5xx, 408, 421, 424),
    /// `ConnectFailure` (no connection, or one lost before a response), `Timeout` (no stream in time),
    /// `CredentialRefused` (401 or 403 to the gateway's own credential), `NotThere` (no such deployment,
    /// or a retired model). Default: all but Timeout, which timeouts.firstToken adds.
    #[serde(default = "default_when", skip_serializing_if = "is_default_when")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub when: Vec<RetryWhen>,
}

/// A failure after which another deployment may be tried.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum RetryWhen {
    /// The backend answered 429.
    TooManyRequests,
    /// The backend answered 5xx, 408, 421 or 424.
    ServerError,
    /// No connection, or one lost before a response.
    ConnectFailure,
    /// No stream in time.
    Timeout,
    /// The backend refused the gateway's own credential.
    CredentialRefused,
    /// The backend has no such deployment, or the model has retired.
    NotThere,
}

/// How long a request may take.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "!has(self.firstToken) \
     || duration(self.firstToken) <= duration(has(self.request) ? self.request : '30m')"
).message("timeouts.firstToken must not be longer than timeouts.request (default 30m); lower it or \
           raise request").field_path(".firstToken"))]
pub struct RouteTimeouts {
    /// The whole request, including retries and the stream. Default: 30m.
    #[serde(
        default = "default_request",
        skip_serializing_if = "is_default_request"
    )]
    pub request: Duration,
    /// From the start of a try to the head of its answer, and of a stream to its first event; the head of a
    /// stream waits for it. A try that takes longer is given up, and another deployment is tried. Default: only the timeouts of the backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub first_token: Option<Duration>,
}

/// The state of the route, as the operator sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AiRouteStatus {
    /// The generation that the operator judged last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Programmed, Ready, Reconciling while the object waits for another one, and
    /// Stalled while it needs a fix by a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many of the proxies that should be there serve this generation: `all`, or as in `2/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16), regex(pattern = r"^(all|[0-9]{1,6}/[0-9]{1,6})?$"))]
    pub programmed: String,
    /// Each Gateway of `parentRefs` that is this installation's, and whether the route is attached to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub parents: Vec<RouteParentStatus>,
}

/// Whether a route is attached to a Gateway.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The Gateway, as the route names it.
    pub parent_ref: ParentRef,
    /// The controller that judges: that of the GatewayClass.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// Accepted, and ResolvedRefs of the whole route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

// === defaults ===

impl Default for BackendRef {
    fn default() -> Self {
        Self {
            name: String::new(),
            namespace: String::new(),
            deployment: String::new(),
            weight: default_weight(),
            priority: 0,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: default_attempts(),
            when: default_when(),
        }
    }
}

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self {
            request: default_request(),
            first_token: None,
        }
    }
}

const fn default_weight() -> i32 {
    1
}

fn is_default_weight(weight: &i32) -> bool {
    *weight == default_weight()
}

const fn default_attempts() -> i32 {
    2
}

fn is_default_attempts(attempts: &i32) -> bool {
    *attempts == default_attempts()
}

fn default_when() -> Vec<RetryWhen> {
    vec![
        RetryWhen::TooManyRequests,
        RetryWhen::ServerError,
        RetryWhen::ConnectFailure,
        RetryWhen::CredentialRefused,
        RetryWhen::NotThere,
    ]
}

fn is_default_when(when: &Vec<RetryWhen>) -> bool {
    *when == default_when()
}

const fn default_request() -> Duration {
    Duration::from_secs(1_800)
}

fn is_default_request(request: &Duration) -> bool {
    *request == default_request()
}
