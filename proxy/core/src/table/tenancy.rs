//! Whose routes may serve a caller: a router for each namespace, and who is open to callers without a
//! key on which host.
//!
//! Namespaces share hosts and models without seeing each other. A caller with a key meets the routes of
//! its own namespace; what anybody could claim is open only where the operator granted the host.

use std::collections::HashMap;
use std::sync::Arc;

use super::admitted::Admitted;
use super::contents::{Authentication, Route, Rule};
use crate::auth::{Token, Trust};
use crate::names::ObjectName;
use crate::route::{ByHost, Facts, Rank, Router, RuleMatches};

/// The namespaces of a table.
#[derive(Debug, Default)]
pub(crate) struct Tenancy {
    namespaces: Vec<Namespace>,
    by_name: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    open: ByHost<Vec<Open>>,
    /// Whose tokens are good, in the order of namespaces.
    homes: ByHost<Vec<Home>>,
}

/// The routes of one namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    router: Router,
    /// Shared with the table before, as long as no route of the namespace changes.
    pub(super) admitted: Arc<Admitted>,
}

/// What a namespace admits without a key of the gateway on some host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    namespace: usize,
    /// Every caller.
    pub(crate) anonymous: bool,
    /// Every credential that is no key.
    pub(crate) pass_through: bool,
}

/// A namespace that knows callers by the tokens of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The namespace, in which these callers are consumers.
    pub namespace: Arc<str>,
    /// Which tokens are good, and who they are of.
    pub trust: Trust,
}

// === impl Tenancy ===

impl Tenancy {
    /// Indexes `rules` with their routes, in order of precedence, and `routes`, all that have them. Takes from
    /// `before` what did not change.
    pub(super) fn new<'a>(
        rules: impl Iterator<Item = (&'a Route, &'a Rule)>,
        routes: &[Arc<Route>],
        before: &Self,
    ) -> Self {
        let mut tenancy = Self::default();
        let mut matches: Vec<Vec<RuleMatches<'_>>> = Vec::new();
        let mut by_namespace: Vec<Vec<Arc<Route>>> = Vec::new();
        for route in routes {
            let next = by_namespace.len();
            let name = route.name.namespace().into();
            let place = *tenancy.by_name.entry(name).or_insert(next);
            if place == next {
                by_namespace.push(Vec::new());
                matches.push(Vec::new());
            }
            if let Some(routes) = by_namespace.get_mut(place) {
                routes.push(Arc::clone(route));
            }
            tenancy.add_open(place, route);
            tenancy.add_homes(route);
        }
        for (index, (route, rule)) in rules.enumerate() {
            let place = tenancy.by_name.get(route.name.namespace());
            let matches = place.and_then(|&place| matches.get_mut(place));
            if let Some(matches) = matches {
                matches.push(RuleMatches {
                    rule: index,
                    hosts: &route.hostnames,
                    matches: &rule.matches,
                });
            }
        }
        tenancy.homes.sort();
        let namespaces = by_namespace.into_iter().zip(matches);
        let namespaces = namespaces.map(|(routes, matches)| {
            let name = routes.first().map_or("", |route| route.name.namespace());
            let known = before.namespace(name).map(|known| &known.admitted);
            let known = known.filter(|known| known.is_of(&routes));
            Namespace {
                router: Router::new(matches),
                admitted: known.map_or_else(|| Admitted::new(routes).into(), Arc::clone),
            }
        });
        tenancy.namespaces = namespaces.collect();
        tenancy
    }

    fn add_open(&mut self, namespace: usize, route: &Route) {
        let Authentication {
            anonymous,
            pass_through,
            ..
        } = route.authentication;
        if !anonymous && !pass_through {
            return;
        }
        self.open.change(&route.hostnames, |all| {
            match all.iter_mut().find(|one| one.namespace == namespace) {
                Some(known) => {
                    known.anonymous |= anonymous;
                    known.pass_through |= pass_through;
                }
                None => all.push(Open {
                    namespace,
                    anonymous,
                    pass_through,
                }),
            }
        });
    }

    fn add_homes(&mut self, route: &Route) {
        let accepted = &route.authentication;
        if accepted.pass_through {
            return;
        }
        for issuer in &accepted.issuers {
            self.homes.change(&route.hostnames, |all| {
                let is_known = |home: &Home| {
                    home.trust == issuer.trust && *home.namespace == *route.name.namespace()
                };
                if !all.iter().any(is_known) {
                    all.push(Home {
                        namespace: route.name.namespace().into(),
                        trust: issuer.trust.clone(),
                    });
                }
            });
        }
    }

    /// The namespace of a token's caller on `host`: the first whose routes list its issuer and audience,
    /// on the host itself before patterns.
    pub(crate) fn home(&self, host: &str, token: &Token) -> Option<&Home> {
        let mut all = self.homes.of(host).flat_map(|(_, all)| all);
        all.find(|home| home.trust.is_about(token))
    }

    /// Whether a route of `namespace` admits tokens, or callers without a key, on `host`.
    pub(crate) fn takes_tokens(&self, host: &str, namespace: &str) -> bool {
        let place = self.by_name.get(namespace);
        let mut open = self.open.of(host).flat_map(|(_, all)| all);
        open.any(|one| Some(&one.namespace) == place)
            || self.homes(host).any(|home| *home.namespace == *namespace)
    }

    /// Every issuer that is listed for `host`; one may come twice.
    pub(crate) fn homes(&self, host: &str) -> impl Iterator<Item = &Home> {
        self.homes.of(host).flat_map(|(_, all)| all)
    }

    /// The routes of a namespace, if it has any.
    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(*self.by_name.get(name)?)
    }

    /// The namespaces that admit callers without a key on `host`, by `wanted`. One may come twice.
    pub(crate) fn open(
        &self,
        host: &str,
        wanted: fn(&Open) -> bool,
    ) -> impl Iterator<Item = &Namespace> {
        let all = self.open.of(host).flat_map(|(_, all)| all);
        let all = all.filter(move |one| wanted(one));
        all.filter_map(|one| self.namespaces.get(one.namespace))
    }
}

// === impl Namespace ===

impl Namespace {
    /// The rule of this namespace that serves `facts`.
    pub(crate) fn find(&self, facts: &Facts<'_>) -> Option<Rank> {
        self.router.find(facts)
    }

    /// The first rule of this namespace that serves `facts` for some model and is as `wanted`.
    pub(crate) fn find_for_some_model(
        &self,
        facts: &Facts<'_>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<Rank> {
        self.router.find_for_some_model(facts, wanted)
    }

    /// Whether a route that serves `host` admits the key of `secret`, or cannot be read and may.
    pub(crate) fn may_admit(&self, host: &str, secret: &ObjectName) -> bool {
        self.admitted.has(host, secret)
    }
}
