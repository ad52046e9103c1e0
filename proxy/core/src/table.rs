//! The compiled routing table: what the operator meant, flattened for the request path.
//!
//! [`Contents`] is the declared form; [`Table`] adds the indexes. A table is immutable: a change makes
//! a new one, which shares every entry that did not change with the one before ([`Table::after`]).

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::KeyRing;
use crate::names::ObjectName;
use crate::route::{Router, RuleMatches};
use crate::tokens::Price;

mod contents;
mod endpoint;
mod limit;
#[cfg(test)]
mod tests;

pub use contents::{
    Authentication, Backend, BackendAuth, BackendKind, Certificates, Contents, Deployment, Quota,
    Retry, Route, Rule, Scope, Target,
};
pub use endpoint::{Endpoint, EndpointName, FlatTarget};
pub use limit::{FlatLimit, SubjectPart};

use endpoint::EndpointIndex;
use limit::LimitIndex;

/// A rule with everything that a request of it needs.
#[derive(Debug)]
pub struct FlatRule {
    /// Its route.
    pub route: Arc<Route>,
    /// The rule as declared.
    pub rule: Arc<Rule>,
    /// Where it goes.
    pub targets: Vec<FlatTarget>,
    /// What may apply, in the order of the table; models and consumers still decide.
    pub limits: Vec<Arc<FlatLimit>>,
    /// The dearest price, field by field, of its targets' deployments.
    pub max_price: Price,
}

/// A table ready for requests.
#[derive(Debug, Default)]
pub struct Table {
    contents: Contents,
    router: Router,
    ring: KeyRing,
    rules: Vec<FlatRule>,
    limits: LimitIndex,
    endpoints: EndpointIndex,
    /// Quotas that this proxy cannot enforce.
    unsupported: Vec<Arc<Quota>>,
    /// Some route admits callers without a known key.
    tolerant: bool,
}

// === impl Table ===

impl Table {
    /// Indexes `contents`. A target whose backend is missing is left out.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        Self::after(&Self::default(), contents)
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
        let mut matches = Vec::new();
        for route in routes {
            for rule in &route.rules {
                matches.push(RuleMatches {
                    hosts: &route.hostnames,
                    matches: &rule.matches,
                });
                let targets: Vec<FlatTarget> = rule
                    .targets
                    .iter()
                    .filter_map(|target| endpoints.target(target))
                    .collect();
                let prices = targets.iter().flat_map(FlatTarget::endpoints);
                rules.push(FlatRule {
                    route: Arc::clone(route),
                    rule: Arc::clone(rule),
                    max_price: prices.fold(Price::default(), |dearest, endpoint| {
                        dearest.max(endpoint.deployment.price)
                    }),
                    limits: limits.covering(&route.name, &rule.name),
                    targets,
                });
            }
        }
        let router = Router::new(matches);
        let ring = KeyRing::new(&contents.keys);
        let quotas = contents.quotas.iter();
        let unsupported = quotas.filter(|quota| quota.unsupported.is_some());
        let unsupported = unsupported.cloned().collect();
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
            endpoints,
            unsupported,
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

    pub(crate) const fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) fn unsupported(&self) -> &[Arc<Quota>] {
        &self.unsupported
    }

    pub(crate) const fn tolerant(&self) -> bool {
        self.tolerant
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
