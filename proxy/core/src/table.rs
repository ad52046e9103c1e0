//! The compiled routing table: what the operator meant, flattened for the request path.
//!
//! [`Contents`] is the declared form; [`Table`] adds the indexes. A table is immutable: a change makes
//! a new one, which shares every entry that did not change with the one before ([`Table::after`]).

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::{Caller, KeyRing, Token};
use crate::names::ObjectName;
use crate::tokens::Price;

mod admitted;
mod contents;
mod endpoint;
mod identity;
mod limit;
mod tenancy;
#[cfg(test)]
mod tests;

pub use contents::{
    Affinity, Authentication, Backend, BackendAuth, BackendKind, Capacity, Certificates, Contents,
    Cors, Deployment, OutputTokens, Override, Quota, QuotaFacts, Retry, Route, Rule, Scope,
    StreamUsage, Target,
};
pub use endpoint::{Endpoint, EndpointName, FlatTarget};
pub use identity::{Identity, Principal, resource_of};
pub use limit::{FlatLimit, SubjectPart};

use endpoint::EndpointIndex;
use limit::LimitIndex;
pub use tenancy::Home;
pub(crate) use tenancy::{Open, Tenancy};

/// A rule with everything that a request of it needs.
#[derive(Debug)]
pub struct FlatRule {
    /// Its route.
    pub route: Arc<Route>,
    /// The rule as declared.
    pub rule: Arc<Rule>,
    /// Where it goes, by tier, and within one in the order of the rule.
    pub targets: Vec<FlatTarget>,
    /// What may apply, in the order of the table; models and consumers still decide.
    pub limits: Vec<Arc<FlatLimit>>,
    /// The dearest price, field by field, of its targets' deployments.
    pub max_price: Arc<Price>,
}

/// A table ready for requests.
#[derive(Debug)]
pub struct Table {
    contents: Contents,
    tenancy: Tenancy,
    ring: KeyRing,
    /// The caller without a credential, or with one that counts for none.
    anonymous: Arc<Caller>,
    rules: Vec<FlatRule>,
    limits: LimitIndex,
    endpoints: EndpointIndex,
    /// Quotas that this proxy cannot enforce.
    unsupported: Vec<Arc<Quota>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::empty()
    }
}

// === impl FlatRule ===

impl FlatRule {
    /// The first endpoint that may serve requests for `model`: of the first tier that has one, in the
    /// order of the rule. Its model is what quotas count by ("the deployed model").
    #[must_use]
    pub fn first_endpoint(&self, model: &str) -> Option<&Arc<Endpoint>> {
        let mut usable = self.targets.iter().filter(|target| target.weight > 0);
        usable.find_map(|target| target.endpoint(model))
    }
}

// === impl Table ===

impl Table {
    /// Indexes `contents`. A target whose backend is missing is left out.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        Self::after(&Self::empty(), contents)
    }

    fn empty() -> Self {
        Self {
            contents: Contents::default(),
            tenancy: Tenancy::default(),
            ring: KeyRing::default(),
            anonymous: Arc::new(Caller::anonymous()),
            rules: Vec::new(),
            limits: LimitIndex::default(),
            endpoints: EndpointIndex::default(),
            unsupported: Vec::new(),
        }
    }

    /// Like [`Table::new`]; takes from `before` what did not change, so that whoever holds one of its
    /// entries finds the same one again.
    #[must_use]
    pub fn after(before: &Self, mut contents: Contents) -> Self {
        share(&mut contents.backends, &before.contents.backends, |one| {
            &one.name
        });
        share(&mut contents.routes, &before.contents.routes, |one| {
            &one.name
        });
        share(&mut contents.quotas, &before.contents.quotas, |one| {
            &one.name
        });
        share(&mut contents.keys, &before.contents.keys, |one| &one.secret);
        let limits = LimitIndex::new(&contents.quotas, &before.limits);
        let endpoints = EndpointIndex::new(&contents.backends, &before.endpoints);

        let mut routes: Vec<&Arc<Route>> = contents.routes.iter().collect();
        routes.sort_by_key(|route| (route.created_s, &route.name));
        let mut rules = Vec::new();
        for route in routes {
            for rule in &route.rules {
                let mut targets: Vec<FlatTarget> = rule
                    .targets
                    .iter()
                    .filter_map(|target| endpoints.target(target))
                    .collect();
                targets.sort_by_key(|target| target.priority);
                let endpoints = targets.iter().flat_map(FlatTarget::endpoints);
                let prices = endpoints.filter_map(|endpoint| endpoint.deployment.price.as_deref());
                rules.push(FlatRule {
                    route: Arc::clone(route),
                    rule: Arc::clone(rule),
                    max_price: prices
                        .fold(Price::default(), |one, other| one.max(other))
                        .into(),
                    limits: limits.covering(&route.name, &rule.name),
                    targets,
                });
            }
        }
        let tenancy = Tenancy::new(
            rules
                .iter()
                .map(|flat: &FlatRule| (&*flat.route, &*flat.rule)),
            &contents.routes,
            &before.tenancy,
        );
        let ring = KeyRing::new(&contents.keys);
        let quotas = contents.quotas.iter();
        let unsupported = quotas.filter(|quota| quota.unsupported.is_some());
        let unsupported = unsupported.cloned().collect();
        Self {
            contents,
            tenancy,
            ring,
            anonymous: Arc::clone(&before.anonymous),
            rules,
            limits,
            endpoints,
            unsupported,
        }
    }

    /// What the table was made of.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Every limit of every quota.
    #[must_use]
    pub fn limits(&self) -> &[Arc<FlatLimit>] {
        self.limits.all()
    }

    /// Every deployment of every backend.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        self.endpoints.all()
    }

    /// Every rule of every route, in order of precedence.
    #[must_use]
    pub fn rules(&self) -> &[FlatRule] {
        &self.rules
    }

    /// The namespace of a good token's caller on `host` (lower case, without a port); `None` if no route there
    /// admits its issuer and audience.
    #[must_use]
    pub fn home(&self, host: &str, token: &Token) -> Option<&Home> {
        self.tenancy.home(host, token)
    }

    /// Whether a route of `namespace` admits tokens, or callers without a key, on `host`: what this namespace lists
    /// decides which tokens are known there. Others could shut its callers out otherwise.
    #[must_use]
    pub fn takes_tokens(&self, host: &str, namespace: &str) -> bool {
        self.tenancy.takes_tokens(host, namespace)
    }

    /// Every issuer whose tokens routes of `host` admit; one may come twice.
    pub fn homes(&self, host: &str) -> impl Iterator<Item = &Home> {
        self.tenancy.homes(host)
    }

    pub(crate) const fn tenancy(&self) -> &Tenancy {
        &self.tenancy
    }

    pub(crate) const fn anonymous(&self) -> &Arc<Caller> {
        &self.anonymous
    }

    pub(crate) fn unsupported(&self) -> &[Arc<Quota>] {
        &self.unsupported
    }

    pub(crate) const fn ring(&self) -> &KeyRing {
        &self.ring
    }
}

/// Replaces each entry by the equal one of `before`, if there is one.
fn share<T: PartialEq>(now: &mut [Arc<T>], before: &[Arc<T>], name: fn(&T) -> &ObjectName) {
    if before.is_empty() {
        return;
    }
    let known: HashMap<&ObjectName, &Arc<T>> = before.iter().map(|one| (name(one), one)).collect();
    for entry in now {
        if let Some(known) = known.get(name(entry))
            && (Arc::ptr_eq(known, entry) || *known == entry)
        {
            *entry = Arc::clone(known);
        }
    }
}
