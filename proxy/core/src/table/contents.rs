//! The declared form of a table: what is compiled, sent and compared. Every entry is shared, so that
//! the next table keeps those that did not change.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use crate::auth::{Caller, Issuer, Key, Lack, Token};
use crate::balance::HealthSettings;
use crate::names::{Class, ConsumerMatch, ModelPattern, ObjectName, Secret};
use crate::quota::{Limit, LimitName, Mode, OnStoreLoss, Per, WarnAt};
use crate::route::{HostPattern, Match};
use crate::tokens::Price;

use super::identity::Identity;
use super::list::{List, Named};
use super::secrets::Secrets;

/// Everything declared, in the compiled form. Each list is sorted by name and free of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// AIBackends that can be used.
    pub backends: List<Backend>,
    /// AIRoutes, the rejected ones too.
    pub routes: List<Route>,
    /// AIQuotas.
    pub quotas: List<Quota>,
    /// Credentials of consumers.
    pub keys: List<Key>,
}

/// How a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// A Microsoft Foundry resource.
    Foundry,
    /// A server that speaks `/v1/...` as `OpenAI` does.
    OpenAiCompatible,
}

/// How the gateway shows itself to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendAuth {
    /// Header `api-key` (Foundry) or a bearer token (`OpenAI`-compatible).
    ApiKey(Secret),
    /// A bearer token that Entra makes for an identity of the gateway.
    Identity(Identity),
    /// The client's own credential goes upstream.
    PassThrough,
    /// No credential.
    None,
}

/// Certificates in DER.
pub type Certificates = Arc<[Arc<[u8]>]>;

/// One AIBackend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The object.
    pub name: ObjectName,
    /// Its dialect.
    pub kind: BackendKind,
    /// `scheme://host[:port][/prefix]` without a trailing slash.
    pub endpoint: Arc<str>,
    /// The `api-version` to speak; `None` = as the client did.
    pub api_version: Option<Arc<str>>,
    /// The credential.
    pub auth: BackendAuth,
    /// What it serves.
    pub deployments: Vec<Deployment>,
    /// Certificates (DER) to trust instead of the public roots. Compile has checked that each can be
    /// a trust anchor.
    pub ca: Option<Certificates>,
    /// The name to expect in its certificate, if not the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// Its certificate is not checked.
    pub skips_verification: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the head of a stream.
    pub stream_start_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// When its deployments are left out.
    pub health: HealthSettings,
}

/// One deployment of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// What the backend calls it.
    pub name: Arc<str>,
    /// The underlying model.
    pub model: Arc<str>,
    /// What it costs; `None` = unknown, which is not 0.
    pub price: Option<Arc<Price>>,
    /// Whether the gateway asks for the usage of its streams.
    pub stream_usage: StreamUsage,
    /// What it takes.
    pub capacity: Capacity,
}

/// What a deployment takes, as far as that is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Paid for whether it is used or not: it is filled first.
    pub is_provisioned: bool,
    /// Its rated input tokens in a minute.
    pub tokens_per_minute: Option<u64>,
}

/// Whether the gateway asks for the usage of a deployment's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamUsage {
    /// As long as the deployment does not refuse it.
    #[default]
    Auto,
    /// Not at all.
    Never,
}

/// Which callers a route admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Secrets whose keys are good here, sorted.
    pub keys: Secrets,
    /// Issuers whose tokens are good here. Where credentials are passed on they admit no caller.
    pub issuers: Vec<Issuer>,
    /// Every caller.
    pub anonymous: bool,
    /// Every caller that the backend admits by the caller's own credential. Never one with a key of
    /// the gateway: keys do not go upstream.
    pub pass_through: bool,
    /// Part of what was declared cannot be read, so it may admit every consumer of its namespace.
    /// Their answer says that the route is in error, not that it does not admit them.
    pub unreadable: bool,
}

/// Which pages of other sites may call a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins as browsers write them, `https://app.example.com`; `*` = any.
    pub allow_origins: Vec<Arc<str>>,
}

/// One AIRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The object.
    pub name: ObjectName,
    /// When it was created, in seconds since the Unix epoch: the older route wins a tie.
    pub created_s: i64,
    /// Hosts; empty = any.
    pub hostnames: Vec<HostPattern>,
    /// Callers.
    pub authentication: Authentication,
    /// Which pages of other sites may call; `None` = none.
    pub cors: Option<Cors>,
    /// Set if the route is in error: it keeps its matches and answers this.
    pub rejected: Option<Arc<str>>,
    /// Its rules, in order.
    pub rules: Vec<Arc<Rule>>,
}

/// One rule of an AIRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name within the route.
    pub name: Arc<str>,
    /// Alternatives; empty = everything.
    pub matches: Vec<Match>,
    /// Where requests go. References that could not be resolved are left out.
    pub targets: Vec<Target>,
    /// What the gateway states as the bound of an answer where the client states none, or more.
    pub output_tokens: OutputTokens,
    /// When another target is tried.
    pub retry: Retry,
    /// Longest life of a request.
    pub request_timeout: Option<Duration>,
    /// Longest wait for the first byte over all tries.
    pub first_token_timeout: Option<Duration>,
    /// Whether an operation whose cost cannot be metered is served where a limit counts tokens or money.
    pub allows_unmetered: bool,
    /// Whether answers carry the headers by which a backend names its region, deployment and load.
    pub shows_backend: bool,
    /// Whether backends are given a pseudonym of the caller as their end user, whatever the client says.
    pub names_end_user: bool,
    /// The hosts of the MCP servers that a request may name; `None` = any.
    pub mcp_servers: Option<Vec<HostPattern>>,
    /// Which requests prefer the same endpoint.
    pub affinity: Affinity,
    /// Who yields first under pressure.
    pub class: Class,
}

/// Which requests of a rule prefer the same endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Those with the same key of the prompt cache, or the same beginning.
    #[default]
    Conversation,
    /// Those with the same value of this header.
    Header(HeaderName),
    /// None.
    None,
}

/// The bounds on output tokens that a rule sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputTokens {
    /// For requests without a bound.
    pub default: Option<u64>,
    /// The most that a request may ask for; larger bounds are lowered to it.
    pub max: Option<u64>,
}

/// One `backendRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The AIBackend.
    pub backend: ObjectName,
    /// The deployment; `None` = the one named like the requested model, else whose model it is.
    pub deployment: Option<Arc<str>>,
    /// Share within the tier.
    pub weight: u32,
    /// Tier, lower first.
    pub priority: u8,
}

/// When a request is tried again, against another target, before its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first, in each tier. Tries that the backend did not work on do not count.
    pub attempts: u8,
    /// On 429.
    pub on_too_many_requests: bool,
    /// On 5xx, 408, 421 and 424.
    pub on_server_error: bool,
    /// On a failed connection.
    pub on_connect_failure: bool,
    /// On no answer in time.
    pub on_timeout: bool,
    /// On a refusal of the gateway's own credential.
    pub on_credential_refused: bool,
    /// On a deployment that is not there.
    pub on_not_there: bool,
}

/// Which rules an AIQuota covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every route of the gateway.
    Gateway,
    /// Every route of a namespace.
    Namespace(Arc<str>),
    /// Every route of these namespaces.
    Namespaces(Vec<Arc<str>>),
    /// These routes, or these rules of them.
    Targets(Vec<(ObjectName, Option<Arc<str>>)>),
}

/// One AIQuota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The object.
    pub name: ObjectName,
    /// Rules it covers.
    pub scope: Scope,
    /// Models it covers, as the client names them or as they are deployed; empty = all.
    pub models: Vec<ModelPattern>,
    /// Consumers it covers.
    pub consumers: ConsumerMatch,
    /// How its counters split; empty = one shared.
    pub per: Vec<Per>,
    /// The attribute of [`Per::Attribute`].
    pub attribute: Arc<str>,
    /// Whether it refuses.
    pub mode: Mode,
    /// What it does without the shared store.
    pub on_store_loss: OnStoreLoss,
    /// When it warns; it refuses nothing by that.
    pub warn_at: WarnAt,
    /// Its limits; every one must hold.
    pub limits: Vec<Limit>,
    /// Other amounts for some callers; the first that fits counts. A subject belongs to one caller, or to
    /// callers that an override does not tell apart.
    pub overrides: Vec<Override>,
    /// What this proxy lacks to enforce the quota: every request that it covers is refused. The
    /// limits stay, so that their counters outlive it.
    pub unsupported: Option<Arc<str>>,
}

/// The facts of a request that decide which limits apply to it, and which of their counters it charges.
#[derive(Clone, Copy, Debug)]
pub struct QuotaFacts<'a> {
    /// The caller, as its route counts it.
    pub caller: &'a Caller,
    /// The route that serves it.
    pub route: &'a Route,
    /// The model that the client named.
    pub model: Option<&'a str>,
    /// The model of the first deployment that may serve it; `None` if none does.
    pub deployed_model: Option<&'a str>,
}

/// Other amounts of a quota's limits for some callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// For these.
    pub consumers: ConsumerMatch,
    /// Limits by name, and their amounts; the other limits stay as they are.
    pub amounts: Vec<(Arc<str>, u64)>,
}

impl Override {
    /// The amount of a limit, if it has another one here.
    #[must_use]
    pub fn amount(&self, limit: &str) -> Option<u64> {
        let mut amounts = self.amounts.iter();
        let found = amounts.find(|(name, _)| **name == *limit);
        found.map(|(_, amount)| *amount)
    }
}

impl Authentication {
    /// Whether whoever has the key of `secret` is admitted. Where credentials are passed on, no key of the
    /// gateway is, since a backend would see it.
    #[must_use]
    pub fn admits_key(&self, secret: &ObjectName) -> bool {
        self.anonymous || (!self.pass_through && self.keys.binary_search(secret).is_ok())
    }

    /// What a good token lacks to be admitted. Tokens of the gateway go to no backend either.
    #[must_use]
    pub fn lack(&self, token: &Token) -> Option<Lack> {
        if self.anonymous {
            return None;
        }
        if self.pass_through {
            return Some(Lack::Issuer);
        }
        let mut nearest = Lack::Issuer;
        for issuer in &self.issuers {
            match issuer.lack(token) {
                None => return None,
                Some(Lack::Issuer) => {}
                Some(lack) => nearest = lack,
            }
        }
        Some(nearest)
    }
}

impl Route {
    /// Whether this route takes part for `host` (lower case, without a port).
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.hostnames.is_empty() || self.hostnames.iter().any(|pattern| pattern.matches(host))
    }
}

impl OutputTokens {
    /// The bound that the request states upstream, when the client states `asked`; `None` = none.
    /// Where it differs from `asked`, the gateway writes it into the request.
    #[must_use]
    pub fn bound(self, asked: Option<u64>) -> Option<u64> {
        match asked {
            Some(asked) => Some(self.max.map_or(asked, |max| asked.min(max))),
            None => self.default.or(self.max),
        }
    }
}

impl Scope {
    /// Whether it includes `rule` of `route`.
    #[must_use]
    pub fn covers(&self, route: &ObjectName, rule: &str) -> bool {
        match self {
            Self::Gateway => true,
            Self::Namespace(namespace) => **namespace == *route.namespace(),
            Self::Namespaces(all) => all.iter().any(|one| **one == *route.namespace()),
            Self::Targets(targets) => targets.iter().any(|(name, section)| {
                name == route && section.as_ref().is_none_or(|section| **section == *rule)
            }),
        }
    }
}

impl Quota {
    /// Whether it counts a request of a rule of its scope: by the model that the client named, or the one
    /// that is deployed.
    #[must_use]
    pub fn applies(&self, facts: &QuotaFacts<'_>) -> bool {
        let caller = facts.caller;
        let covers = |model: &str| self.models.iter().any(|one| one.matches(model));
        let covers_model = self.models.is_empty()
            || facts.model.is_some_and(covers)
            || facts.deployed_model.is_some_and(covers);
        covers_model
            && self
                .consumers
                .matches(&caller.namespace, &caller.name, &caller.attributes)
    }
}

impl Quota {
    /// Each of its limits, with its full name.
    pub fn named_limits(&self) -> impl Iterator<Item = (LimitName, &Limit)> {
        self.limits.iter().map(|limit| {
            let name = LimitName {
                quota: self.name.clone(),
                limit: Arc::clone(&limit.name),
            };
            (name, limit)
        })
    }

    /// The place of the override that fits `caller`.
    #[must_use]
    pub fn override_of(&self, caller: &Caller) -> Option<usize> {
        let Caller {
            namespace,
            name,
            attributes,
            ..
        } = caller;
        let mut each = self.overrides.iter();
        each.position(|one| one.consumers.matches(namespace, name, attributes))
    }
}

impl Named for Backend {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Route {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Quota {
    fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Named for Key {
    fn name(&self) -> &ObjectName {
        &self.secret
    }
}

impl Contents {
    /// Shares what is declared. Each list must be sorted by name.
    #[must_use]
    pub fn new(
        backends: Vec<Backend>,
        routes: Vec<Route>,
        quotas: Vec<Quota>,
        keys: Vec<Key>,
    ) -> Self {
        Self {
            backends: shared(backends),
            routes: shared(routes),
            quotas: shared(quotas),
            keys: shared(keys),
        }
    }

    /// Takes from `before` the entries that are equal, so that further steps see by their addresses what
    /// changed.
    pub fn share(&mut self, before: &Self) {
        self.backends.share(&before.backends);
        self.routes.share(&before.routes);
        self.quotas.share(&before.quotas);
        self.keys.share(&before.keys);
    }
}

fn shared<T>(all: Vec<T>) -> List<T> {
    all.into_iter().map(Arc::new).collect()
}
