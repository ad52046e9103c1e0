//! The types of version 1 as they were released, frozen. They stand for proxies and operators that
//! run today: what this build writes must mean the same to them. Nothing here changes when the crate
//! learns something new.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::v1::{Line, Objects};

type Pairs = Vec<(String, String)>;

/// A line as a released proxy reads it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum OldLine {
    Snapshot {
        version: u32,
        revision: u64,
        digest: String,
        replicas: u64,
        objects: BTreeMap<String, Value>,
    },
    Delta {
        base: String,
        revision: u64,
        digest: String,
        replicas: u64,
        #[serde(default)]
        changed: BTreeMap<String, Value>,
        #[serde(default)]
        removed: Vec<String>,
    },
    Heartbeat {
        revision: u64,
        digest: String,
        replicas: u64,
    },
    Carried {
        replicas: u64,
        #[serde(default)]
        entries: Vec<OldCarried>,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct OldCarried {
    limit: String,
    key: String,
    period_start_ms: i64,
    amount: u64,
}

/// An acknowledgement as a released operator reads it.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct OldAck {
    pub(super) replica: String,
    pub(super) revision: u64,
    pub(super) digest: String,
    pub(super) result: OldResult,
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OldResult {
    Applied,
    Refused,
}

/// A report as a released operator reads it.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct OldReport {
    replica: String,
    instance: String,
    store: OldStore,
    #[serde(default)]
    counters: Vec<OldCounter>,
    #[serde(default)]
    limits: Vec<OldDenials>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OldStore {
    None,
    Ok,
    Lost,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldCounter {
    limit: String,
    key: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    period_start_ms: Option<i64>,
    used: u64,
    #[serde(default)]
    reserved: u64,
    #[serde(default)]
    amount: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldDenials {
    limit: String,
    #[serde(default)]
    denials: u64,
    #[serde(default)]
    shadow_denials: u64,
}

/// An entry as a released proxy reads it.
#[derive(Debug, PartialEq)]
pub(super) enum OldEntry {
    Backend(OldBackend),
    Route(OldRoute),
    Quota(OldQuota),
    Key(OldKey),
    /// It needs features, and version 1 was released with none.
    Unsupported(Vec<String>),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OldBackend {
    kind: OldKind,
    endpoint: String,
    #[serde(default)]
    api_version: Option<String>,
    auth: OldAuth,
    deployments: Vec<OldDeployment>,
    #[serde(default)]
    ca_pem: Option<String>,
    #[serde(default)]
    server_name: Option<String>,
    connect_timeout_ms: u64,
    first_byte_timeout_ms: u64,
    idle_timeout_ms: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldKind {
    Foundry,
    #[serde(rename = "OpenAICompatible")]
    OpenAiCompatible,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
enum OldAuth {
    ApiKey { key: String },
    PassThrough,
    None,
    Withheld,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldDeployment {
    name: String,
    model: String,
    #[serde(default)]
    input_per_million: u64,
    #[serde(default)]
    cached_input_per_million: u64,
    #[serde(default)]
    output_per_million: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OldRoute {
    created_s: i64,
    #[serde(default)]
    hostnames: Vec<String>,
    authentication: OldAuthentication,
    #[serde(default)]
    rejected: Option<String>,
    rules: Vec<OldRule>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldAuthentication {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    pass_through: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldRule {
    name: String,
    #[serde(default)]
    matches: Vec<OldMatch>,
    targets: Vec<OldTarget>,
    #[serde(default)]
    retry: OldRetry,
    #[serde(default)]
    request_timeout_ms: Option<u64>,
    #[serde(default)]
    first_token_timeout_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldMatch {
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    operations: Vec<OldOperation>,
    #[serde(default)]
    headers: Pairs,
    #[serde(default)]
    consumers: OldConsumers,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldOperation {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Images,
    Audio,
    Realtime,
    Files,
    Batches,
    Agents,
    Models,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct OldConsumers {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    attributes: Pairs,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldTarget {
    backend: String,
    #[serde(default)]
    deployment: Option<String>,
    weight: u32,
    priority: u8,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OldRetry {
    attempts: u8,
    on_too_many_requests: bool,
    on_server_error: bool,
    on_connect_failure: bool,
    on_timeout: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OldQuota {
    scope: OldScope,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    consumers: OldConsumers,
    #[serde(default)]
    per: Vec<OldPer>,
    attribute: String,
    mode: OldMode,
    on_store_loss: OldStoreLoss,
    limits: Vec<OldLimit>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
enum OldScope {
    Gateway,
    Namespace { namespace: String },
    Targets { targets: Vec<OldSection> },
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldSection {
    route: String,
    #[serde(default)]
    rule: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldPer {
    Consumer,
    Model,
    Route,
    Attribute,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldMode {
    Enforce,
    Shadow,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldStoreLoss {
    Share,
    Deny,
    Allow,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OldLimit {
    name: String,
    unit: OldUnit,
    amount: u64,
    window: OldWindow,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldUnit {
    Requests,
    InputTokens,
    OutputTokens,
    Tokens,
    CostMicros,
    Concurrency,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
enum OldWindow {
    Second,
    Minute,
    #[serde(rename_all = "camelCase")]
    Calendar {
        period: OldPeriod,
        time_zone: String,
    },
    Held,
}

#[derive(Debug, PartialEq, Deserialize)]
enum OldPeriod {
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OldKey {
    consumer: String,
    digest: String,
    #[serde(default)]
    attributes: Pairs,
    #[serde(default)]
    expires_ms: Option<i64>,
}

/// Reads `objects` as a released proxy does: an entry that it cannot read is an error, since the
/// proxy would refuse the table.
pub(super) fn entries(objects: &Objects) -> Result<BTreeMap<String, OldEntry>, serde_json::Error> {
    let each = objects.iter().map(|(key, entry)| {
        let json = entry.json();
        let value: Value = serde_json::from_str(json)?;
        let entry = match key.split('/').next() {
            _ if value.get("needs").is_some() => {
                OldEntry::Unsupported(serde_json::from_value(value["needs"].clone())?)
            }
            Some("backend") => OldEntry::Backend(serde_json::from_str(json)?),
            Some("route") => OldEntry::Route(serde_json::from_str(json)?),
            Some("quota") => OldEntry::Quota(serde_json::from_str(json)?),
            Some("key") => OldEntry::Key(serde_json::from_str(json)?),
            other => panic!("a released proxy refuses a table with {other:?}"),
        };
        Ok((key.to_owned(), entry))
    });
    each.collect()
}

/// Reads what this build writes as a line.
pub(super) fn line(line: &Line) -> OldLine {
    serde_json::from_slice(&line.to_bytes().unwrap()).unwrap()
}
