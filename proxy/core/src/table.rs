//! The compiled routing table: what the operator meant, flattened for the request path.
//!
//! [`Contents`] is the declared form, which is compiled, sent and compared; [`Table`] adds the
//! indexes. A table is immutable: a change makes a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Key, KeyRing};
use crate::names::{ConsumerMatch, ModelPattern, ObjectName, Secret};
use crate::quota::{Limit, LimitName, Mode, OnStoreLoss, Per};
use crate::route::{HostPattern, Match, Router, RuleMatches};
use crate::tokens::Price;

#[cfg(test)]
mod tests;

/// Everything declared, in the compiled form. Each list is sorted by name and free of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// AIBackends that can be used.
    pub backends: Vec<Backend>,
    /// AIRoutes, the rejected ones too.
    pub routes: Vec<Route>,
    /// AIQuotas.
    pub quotas: Vec<Quota>,
    /// Credentials of consumers.
    pub keys: Vec<Key>,
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
    /// The client's own credential goes upstream.
    PassThrough,
    /// No credential.
    None,
}

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
    /// PEM certificates to trust instead of the public roots.
    pub ca_pem: Option<Arc<str>>,
    /// The name to expect in its certificate, if not the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the first byte of an answer.
    pub first_byte_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
}

/// One deployment of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// What the backend calls it.
    pub name: Arc<str>,
    /// The underlying model.
    pub model: Arc<str>,
    /// What it costs.
    pub price: Price,
}

/// Which callers a route admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Secrets whose keys are good here.
    pub keys: Vec<ObjectName>,
    /// Anybody.
    pub anonymous: bool,
    /// Whoever the backend admits, by the caller's own credential.
    pub pass_through: bool,
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
    /// Set if the route is in error: it keeps its matches and answers this.
    pub rejected: Option<Arc<str>>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
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
    /// When another target is tried.
    pub retry: Retry,
    /// Longest life of a request.
    pub request_timeout: Option<Duration>,
    /// Longest wait for the first byte over all tries.
    pub first_token_timeout: Option<Duration>,
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
    /// Further tries after the first.
    pub attempts: u8,
    /// On 429.
    pub on_too_many_requests: bool,
    /// On 500, 502, 503, 504.
    pub on_server_error: bool,
    /// On a failed connection.
    pub on_connect_failure: bool,
    /// On no answer in time.
    pub on_timeout: bool,
}

/// Which rules an AIQuota covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every route of the gateway.
    Gateway,
    /// Every route of a namespace.
    Namespace(Arc<str>),
    /// These routes, or these rules of them.
    Targets(Vec<(ObjectName, Option<Arc<str>>)>),
}

impl Scope {
    fn covers(&self, route: &ObjectName, rule: &str) -> bool {
        match self {
            Self::Gateway => true,
            Self::Namespace(namespace) => &**namespace == route.namespace(),
            Self::Targets(targets) => targets.iter().any(|(name, section)| {
                name == route && section.as_ref().is_none_or(|section| &**section == rule)
            }),
        }
    }
}

/// One AIQuota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The object.
    pub name: ObjectName,
    /// Rules it covers.
    pub scope: Scope,
    /// Models it covers; empty = all.
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
    /// Its limits; every one must hold.
    pub limits: Vec<Limit>,
}

/// A [`Target`] with its backend looked up.
#[derive(Clone, Debug)]
pub struct FlatTarget {
    /// Index into [`Contents::backends`].
    pub backend: usize,
    /// The declared deployment, if any.
    pub deployment: Option<Arc<str>>,
    /// Share within the tier.
    pub weight: u32,
    /// Tier, lower first.
    pub priority: u8,
}

/// A rule with everything that a request of it needs.
#[derive(Debug)]
pub struct FlatRule {
    /// Index into [`Contents::routes`].
    pub route: usize,
    /// Index into the route's rules.
    pub rule: usize,
    /// Where it goes.
    pub targets: Vec<FlatTarget>,
    /// Indices into [`Table::limits`] of what may apply; models and consumers still decide.
    pub limits: Vec<usize>,
    /// The dearest price, field by field, of its targets' deployments.
    pub max_price: Price,
}

/// A limit with its quota.
#[derive(Debug)]
pub struct FlatLimit {
    /// `namespace/quota/limit`.
    pub name: LimitName,
    /// Index into [`Contents::quotas`].
    pub quota: usize,
    /// The limit itself.
    pub limit: Limit,
}

/// A table ready for requests.
#[derive(Debug, Default)]
pub struct Table {
    contents: Contents,
    router: Router,
    ring: KeyRing,
    rules: Vec<FlatRule>,
    limits: Vec<FlatLimit>,
    /// Some route admits callers without a known key.
    tolerant: bool,
}

impl Table {
    /// Indexes `contents`. A target whose backend is missing is left out.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        let limits = flat_limits(&contents.quotas);
        let backends: HashMap<&ObjectName, usize> = contents
            .backends
            .iter()
            .enumerate()
            .map(|(i, backend)| (&backend.name, i))
            .collect();

        let mut order: Vec<usize> = (0..contents.routes.len()).collect();
        let age = |index: &usize| {
            contents
                .routes
                .get(*index)
                .map(|r| (r.created_s, r.name.clone()))
        };
        order.sort_by_key(age);

        let mut rules = Vec::new();
        let mut matches = Vec::new();
        for route_index in order {
            let Some(route) = contents.routes.get(route_index) else {
                continue;
            };
            for (rule_index, rule) in route.rules.iter().enumerate() {
                matches.push(RuleMatches {
                    hosts: &route.hostnames,
                    matches: &rule.matches,
                });
                let targets = flat_targets(rule, &backends);
                let max_price = max_price(&targets, &contents.backends);
                let covering = covering(&contents.quotas, &limits, &route.name, &rule.name);
                rules.push(FlatRule {
                    route: route_index,
                    rule: rule_index,
                    targets,
                    limits: covering,
                    max_price,
                });
            }
        }
        let router = Router::new(matches);
        let ring = KeyRing::new(contents.keys.clone());
        let tolerant = contents
            .routes
            .iter()
            .any(|route| route.authentication.anonymous || route.authentication.pass_through);
        Self {
            contents,
            router,
            ring,
            rules,
            limits,
            tolerant,
        }
    }

    /// What the table was made of.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Every limit of every quota.
    #[must_use]
    pub fn limits(&self) -> &[FlatLimit] {
        &self.limits
    }

    /// Every rule of every route, in order of precedence.
    #[must_use]
    pub fn rules(&self) -> &[FlatRule] {
        &self.rules
    }

    pub(crate) const fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) const fn tolerant(&self) -> bool {
        self.tolerant
    }

    pub(crate) const fn ring(&self) -> &KeyRing {
        &self.ring
    }
}

impl Route {
    /// Whether this route takes part for `host` (lower case, without a port).
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.hostnames.is_empty() || self.hostnames.iter().any(|pattern| pattern.matches(host))
    }
}

impl Backend {
    /// The deployment for `model`: `declared` if the rule names one, else the one named like the
    /// model, else the first whose underlying model it is.
    #[must_use]
    pub fn deployment(&self, declared: Option<&str>, model: Option<&str>) -> Option<&Deployment> {
        let named = |name: &str| self.deployments.iter().find(|d| &*d.name == name);
        match (declared, model) {
            (Some(name), _) => named(name),
            (None, Some(model)) => {
                named(model).or_else(|| self.deployments.iter().find(|d| &*d.model == model))
            }
            (None, None) => None,
        }
    }
}

fn flat_limits(quotas: &[Quota]) -> Vec<FlatLimit> {
    let each = quotas.iter().enumerate();
    each.flat_map(|(index, quota)| {
        quota.limits.iter().map(move |limit| FlatLimit {
            name: LimitName {
                quota: quota.name.clone(),
                limit: Arc::clone(&limit.name),
            },
            quota: index,
            limit: limit.clone(),
        })
    })
    .collect()
}

fn flat_targets(rule: &Rule, backends: &HashMap<&ObjectName, usize>) -> Vec<FlatTarget> {
    rule.targets
        .iter()
        .filter_map(|target| {
            Some(FlatTarget {
                backend: *backends.get(&target.backend)?,
                deployment: target.deployment.clone(),
                weight: target.weight,
                priority: target.priority,
            })
        })
        .collect()
}

fn max_price(targets: &[FlatTarget], backends: &[Backend]) -> Price {
    let mut dearest = Price::default();
    for target in targets {
        let Some(backend) = backends.get(target.backend) else {
            continue;
        };
        for deployment in &backend.deployments {
            if target
                .deployment
                .as_ref()
                .is_none_or(|name| *name == deployment.name)
            {
                dearest = dearest.max(deployment.price);
            }
        }
    }
    dearest
}

fn covering(quotas: &[Quota], limits: &[FlatLimit], route: &ObjectName, rule: &str) -> Vec<usize> {
    let covers = |quota: usize| {
        quotas
            .get(quota)
            .is_some_and(|q| q.scope.covers(route, rule))
    };
    limits
        .iter()
        .enumerate()
        .filter(|(_, l)| covers(l.quota))
        .map(|(index, _)| index)
        .collect()
}
