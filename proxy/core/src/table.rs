//! The compiled routing table: what the operator meant, flattened for the request path.
//!
//! [`Contents`] is the declared form; [`Table`] adds the indexes. A table is immutable: a change makes
//! a new one, which shares every entry that did not change with the one before ([`Table::after`]).

use std::sync::Arc;

use crate::auth::{Caller, KeyRing, Token};

mod admitted;
mod contents;
mod endpoint;
mod identity;
mod limit;
mod list;
mod rules;
mod secrets;
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
pub use list::{Changes, List, Named};
pub use rules::FlatRule;
pub use secrets::Secrets;

use endpoint::EndpointIndex;
use limit::LimitIndex;
use rules::Differences;
pub use tenancy::Home;
pub(crate) use tenancy::{Open, Tenancy};

/// A table ready for requests.
#[derive(Debug)]
pub struct Table {
    contents: Contents,
    tenancy: Arc<Tenancy>,
    ring: Arc<KeyRing>,
    /// The caller without a credential, or with one that counts for none.
    anonymous: Arc<Caller>,
    rules: Vec<Arc<FlatRule>>,
    limits: Arc<LimitIndex>,
    endpoints: Arc<EndpointIndex>,
    /// Quotas that this proxy cannot enforce.
    unsupported: Vec<Arc<Quota>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::empty()
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
            tenancy: Arc::default(),
            ring: Arc::default(),
            anonymous: Arc::new(Caller::anonymous()),
            rules: Vec::new(),
            limits: Arc::default(),
            endpoints: Arc::default(),
            unsupported: Vec::new(),
        }
    }

    /// Like [`Table::new`]; takes from `before` what did not change, so that whoever holds one of its
    /// entries finds the same one again. Builds what the changed entries touch; of the others it looks at
    /// no more than their addresses, or at their order if routes changed.
    #[must_use]
    pub fn after(before: &Self, mut contents: Contents) -> Self {
        contents.share(&before.contents);
        let differences = Differences {
            backends: contents.backends.changes(&before.contents.backends),
            routes: contents.routes.changes(&before.contents.routes),
            quotas: contents.quotas.changes(&before.contents.quotas),
        };
        let limits = if differences.quotas.is_empty() {
            Arc::clone(&before.limits)
        } else {
            LimitIndex::new(&contents.quotas, &before.limits).into()
        };
        let endpoints = if differences.backends.is_empty() {
            Arc::clone(&before.endpoints)
        } else {
            EndpointIndex::new(&contents.backends, &before.endpoints).into()
        };
        let rules = rules::after(&before.rules, &differences, (&limits, &endpoints));
        let tenancy = if differences.routes.is_empty() {
            Arc::clone(&before.tenancy)
        } else {
            Tenancy::new(&rules, &contents.routes, &before.tenancy).into()
        };
        let ring = if contents.keys.is_copy_of(&before.contents.keys) {
            Arc::clone(&before.ring)
        } else {
            KeyRing::after(&before.ring, &contents.keys).into()
        };
        let quotas = contents.quotas.iter();
        let unsupported = quotas.filter(|quota| quota.unsupported.is_some());
        let unsupported = unsupported.cloned().collect();
        Self {
            anonymous: Arc::clone(&before.anonymous),
            tenancy,
            ring,
            rules,
            limits,
            endpoints,
            unsupported,
            contents,
        }
    }

    /// What the table was made of.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Whether both have the same keys of consumers, and callers for them.
    #[must_use]
    pub fn has_keys_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ring, &other.ring)
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
    pub fn rules(&self) -> &[Arc<FlatRule>] {
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

    pub(crate) fn tenancy(&self) -> &Tenancy {
        &self.tenancy
    }

    pub(crate) const fn anonymous(&self) -> &Arc<Caller> {
        &self.anonymous
    }

    pub(crate) fn unsupported(&self) -> &[Arc<Quota>] {
        &self.unsupported
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }
}
