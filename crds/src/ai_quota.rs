//! AIQuota: limits on requests, tokens and cost.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::default::is_default;
use crate::matching::{ConsumerMatch, MODEL_PATTERN_RULE};
use crate::patterns::{
    LABEL, MAX_SAFE_INTEGER, MODEL_PATTERN, OBJECT_NAME, OPTIONAL_ATTRIBUTE, OPTIONAL_KIND,
    OPTIONAL_LABEL, OPTIONAL_SUBDOMAIN, OPTIONAL_TIME_ZONE,
};

/// The requests that count, how counters split, and the limits.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "tundish.dev",
    version = "v1alpha1",
    kind = "AIQuota",
    root = "AiQuota",
    plural = "aiquotas",
    singular = "aiquota",
    shortname = "aiq",
    category = "tundish",
    namespaced,
    status = "AiQuotaStatus",
    derive = "PartialEq",
    selectable = ".spec.mode",
    label("gateway.networking.k8s.io/policy", "Inherited"),
    doc = "AIQuota limits requests, tokens, cost or concurrency on AIRoutes. Quotas are merged by \
           AND: a request must pass every AIQuota that applies to it, and none overrides another, \
           so a tenant's quota can never lift the platform's. All limits of a request are debited \
           together, or none is. Metrics show how much is used; the status does not.",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.programmed"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.targetRefs[*].name","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(has(self.per) && 'Attribute' in self.per) == (has(self.attribute) && self.attribute != '')"
).message("attribute is required when per has Attribute, and must be left out otherwise; name the \
           attribute, for example team").field_path(".attribute"))]
#[x_kube(validation = Rule::new(
    "!has(self.match) || !has(self.match.namespaces) || size(self.match.namespaces) == 0 \
     || !has(self.targetRefs) || size(self.targetRefs) == 0"
).message("match.namespaces chooses among the routes of the gateway, and targetRefs names routes of \
           this namespace; remove one of the two").field_path(".match"))]
#[x_kube(validation = Rule::new(
    "!has(self.overrides) || size(self.overrides) == 0 || (has(self.per) && ('Consumer' in self.per \
     || ('Attribute' in self.per && has(self.attribute) && self.overrides.all(o, \
     (!has(o.consumers.names) || size(o.consumers.names) == 0) && has(o.consumers.attributes) \
     && size(o.consumers.attributes) == 1 && self.attribute in o.consumers.attributes))))"
).message("overrides need counters that belong to their consumers; add Consumer to per, or match \
           nothing but the attribute of a per with Attribute").field_path(".overrides"))]
#[x_kube(validation = Rule::new(
    "!has(self.overrides) || self.overrides.all(o, o.limits.all(l, \
     self.limits.exists(own, own.name == l.name)))"
).message("overrides name limits of this quota; correct the name, or add the limit")
 .field_path(".overrides"))]
pub struct AiQuotaSpec {
    /// The AIRoutes that the quota limits, in its own namespace, at most 16. Empty: every AIRoute
    /// of the namespace; in the installation's namespace, every route of the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (
        "self.all(t, self.exists_one(o, o.name == t.name \
         && (has(o.sectionName) ? o.sectionName : '') == (has(t.sectionName) ? t.sectionName : '')))",
        "targetRefs must not name the same target and section twice; remove the duplicate"
    ))]
    pub target_refs: Vec<TargetRef>,
    /// Which requests of the targets count. Empty: all.
    #[serde(rename = "match", default, skip_serializing_if = "is_default")]
    pub match_: QuotaMatch,
    /// How the counters split: one counter for each `Namespace` (of a route), `Consumer`, `Model` (as
    /// deployed), `Route`, or value of an `Attribute`, or for each combination of them. Empty: one shared
    /// counter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub per: Vec<SplitBy>,
    /// The consumer attribute whose values split the counters, when per has Attribute: the part of
    /// the label's name after `attributes.tundish.dev/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_ATTRIBUTE))]
    pub attribute: String,
    /// `Enforce` refuses requests above a limit with status 429. `Shadow` only counts, and reports
    /// the requests that it would refuse. Default: Enforce.
    #[serde(default)]
    pub mode: QuotaMode,
    /// The rule while the shared store can't be reached: `Share` (each proxy enforces the
    /// limit divided by the number of live proxies), `Deny` (refuse) or `Allow` (do not limit).
    /// Without a shared store it has no effect. Default: Share.
    #[serde(default)]
    pub on_store_loss: StoreLoss,
    /// Per cents of a limit's amount, 1 to 99 and at most 4. When a counter reaches one, the log, a metric
    /// and an Event of reason `QuotaWarning` say so once in its window, and answers carry the header
    /// `x-tundish-quota-warning`. Nothing is refused by that. Empty: no warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(range(min = 1, max = 99)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = (
        "self.all(level, self.exists_one(other, other == level))",
        "warnAt must not have a level twice; remove the duplicate"
    ))]
    pub warn_at: Vec<i32>,
    /// The limits, 1 to 16 with different names. A request must fit into all of them.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<Limit>,
    /// Other amounts for some consumers, at most 32. The first that fits a consumer replaces the amounts
    /// of the limits that it names. It needs counters that belong to the consumer: per with Consumer, or
    /// with the Attribute that every override matches alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub overrides: Vec<Override>,
}

/// Other amounts for some consumers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "(has(self.consumers.names) && size(self.consumers.names) > 0) \
     || (has(self.consumers.attributes) && size(self.consumers.attributes) > 0)"
).message("overrides: consumers needs names or attributes; for every consumer, change limits instead")
 .field_path(".consumers"))]
pub struct Override {
    /// The consumers: by name, or by attributes, or both.
    pub consumers: ConsumerMatch,
    /// The limits that it changes, 1 to 16 with different names.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub limits: Vec<OverriddenLimit>,
}

/// Another amount of a limit.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverriddenLimit {
    /// The name of one of the quota's limits.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// How many of its units fit into one window, 0 to 2^53 - 1. 0 refuses every request.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub limit: i64,
}

/// What a quota limits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "(!has(self.group) || self.group in ['', 'tundish.dev']) \
     && (!has(self.kind) || self.kind in ['', 'AIRoute'])",
    "targetRefs: a target must be of kind AIRoute in group tundish.dev; leave out kind and group"
))]
pub struct TargetRef {
    /// The API group. Default: `tundish.dev`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = OPTIONAL_SUBDOMAIN))]
    pub group: String,
    /// The kind. Default: `AIRoute`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_KIND))]
    pub kind: String,
    /// The target's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// A rule of the AIRoute, by its name. Empty: all its rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = OPTIONAL_LABEL))]
    pub section_name: String,
}

/// The requests that count. The fields are AND-ed; an empty field matches everything.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuotaMatch {
    /// Models, as the client calls them or as they are deployed (the `model` of the first deployment
    /// that may serve the request): exact (`gpt-4o`), or a prefix and one `*` at the end
    /// (`gpt-4o-*`), at most 32. Empty: any model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = MODEL_PATTERN))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = MODEL_PATTERN_RULE)]
    pub models: Vec<String>,
    /// Namespaces whose routes count, at most 64. Only in the installation's own namespace, where
    /// the quota covers the routes of every namespace, and not together with targetRefs. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = LABEL))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// The calling consumer. Empty: any consumer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consumers: ConsumerMatch,
}

/// The dimension that splits a quota's counters.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum SplitBy {
    /// Each namespace of a route.
    Namespace,
    /// Each consumer.
    Consumer,
    /// Each model, as it is deployed: the `model` of the first deployment that may serve the request.
    Model,
    /// Each AIRoute.
    Route,
    /// Each value of the consumer attribute that `attribute` names.
    Attribute,
}

/// Whether a quota refuses requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QuotaMode {
    /// Refuses requests above a limit.
    #[default]
    Enforce,
    /// Counts, and reports the requests that it would refuse.
    Shadow,
}

/// The rule while the shared store can't be reached.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StoreLoss {
    /// Each proxy enforces the limit divided by the number of live proxies.
    #[default]
    Share,
    /// Requests are refused.
    Deny,
    /// Requests are not limited.
    Allow,
}

/// A number of units within a window.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.unit == 'Concurrency' || has(self.window)")
    .message("limits: window is required for every unit but Concurrency; set one, for example \
              Minute").field_path(".window"))]
#[x_kube(validation = Rule::new("self.unit != 'Concurrency' || !has(self.window)")
    .message("limits: unit Concurrency counts requests in flight and has no window; remove window")
    .field_path(".window"))]
#[x_kube(validation = Rule::new(
    "!has(self.timeZone) || self.timeZone == '' \
     || (has(self.window) && self.window in ['Hour', 'Day', 'Week', 'Month'])"
).message("limits: timeZone is only for the calendar windows Hour, Day, Week and Month; remove it")
 .field_path(".timeZone"))]
pub struct Limit {
    /// The limit's name. A refusal names it.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The unit: `Requests`, `InputTokens`, `OutputTokens`, `Tokens` (input and output),
    /// `CostMicros` (millionths of the currency, by the deployments' prices), or `Concurrency`
    /// (requests in flight).
    pub unit: LimitUnit,
    /// How many units fit into one window, 1 to 2^53 - 1.
    #[schemars(range(min = 1, max = MAX_SAFE_INTEGER))]
    pub limit: i64,
    /// The time span of the limit. `Second` and `Minute` are rolling: the limit holds in any
    /// interval of that length. `Hour`, `Day`, `Week` (from Monday) and `Month` are calendar
    /// windows in the time zone. Not with Concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Window")]
    pub window: Option<Window>,
    /// The IANA time zone of a calendar window, for example `Europe/Vienna`. Default: UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = OPTIONAL_TIME_ZONE))]
    pub time_zone: String,
}

/// The unit of a limit.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum LimitUnit {
    /// Requests.
    Requests,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the response.
    OutputTokens,
    /// Tokens of prompt and response.
    Tokens,
    /// Millionths of the currency.
    CostMicros,
    /// Requests in flight.
    Concurrency,
}

/// The time span of a limit.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Window {
    /// Any interval of a second.
    Second,
    /// Any interval of a minute.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A day of the calendar.
    Day,
    /// A week of the calendar, from Monday.
    Week,
    /// A month of the calendar.
    Month,
}

/// The state of the quota, as the operator sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AiQuotaStatus {
    /// The generation that the operator judged last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted, Programmed, Ready, Reconciling while the object waits for another one, Stalled while it
    /// needs a fix by a person, and StoreUnavailable while a proxy does not reach the shared store of counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many of the proxies that should be there count by this generation: `all`, or as in `2/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16), regex(pattern = r"^(all|[0-9]{1,6}/[0-9]{1,6})?$"))]
    pub programmed: String,
}
