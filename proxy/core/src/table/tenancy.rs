//! Whose routes may serve a caller: a router for each namespace, and who is open to callers without a
//! key on which host.
//!
//! Namespaces share hosts and models without seeing each other. A caller with a key meets the routes of
//! its own namespace; what anybody could claim is open only where the operator granted the host.

use std::collections::HashMap;
use std::sync::Arc;

use super::admitted::Admitted;
use super::contents::{Authentication, Route, Rule};
use super::rules::FlatRule;
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
    /// Where its rules stand in the table, in order of precedence.
    places: Vec<usize>,
    /// Shared with the table before, as long as no rule of the namespace changes.
    matching: Arc<Matching>,
    /// Shared with the table before, as long as no route of the namespace changes.
    pub(super) admitted: Arc<Admitted>,
}

/// The rules of one namespace, found by what they match. It knows them by their order among themselves,
/// so that other namespaces do not matter.
#[derive(Debug)]
struct Matching {
    rules: Vec<(Arc<Route>, Arc<Rule>)>,
    router: Router,
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
    /// Indexes `rules`, in order of precedence, and `routes`, all that have them. Takes from `before` what
    /// did not change.
    pub(super) fn new(rules: &[Arc<FlatRule>], routes: &[Arc<Route>], before: &Self) -> Self {
        let mut tenancy = Self::default();
        let mut by_namespace: Vec<Vec<Arc<Route>>> = Vec::new();
        for route in routes {
            let next = by_namespace.len();
            let name = route.name.namespace();
            let known = tenancy.by_name.get(name).copied();
            let place = known.unwrap_or_else(|| {
                tenancy.by_name.insert(name.into(), next);
                by_namespace.push(Vec::new());
                next
            });
            if let Some(routes) = by_namespace.get_mut(place) {
                routes.push(Arc::clone(route));
            }
            tenancy.add_open(place, route);
            tenancy.add_homes(route);
        }
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); by_namespace.len()];
        for (index, flat) in rules.iter().enumerate() {
            let place = tenancy.by_name.get(flat.route.name.namespace());
            if let Some(places) = place.and_then(|&place| places.get_mut(place)) {
                places.push(index);
            }
        }
        tenancy.homes.sort();
        let namespaces = by_namespace.into_iter().zip(places);
        let namespaces = namespaces.map(|(routes, places)| {
            let name = routes.first().map_or("", |route| route.name.namespace());
            let known = before.namespace(name);
            let own = places.iter().filter_map(|&place| rules.get(place));
            let matching = known.map(|known| &known.matching);
            let matching = matching.filter(|known| known.is_of(own.clone()));
            let admitted = known.map(|known| &known.admitted);
            let admitted = admitted.filter(|known| known.is_of(&routes));
            Namespace {
                matching: matching.map_or_else(|| Matching::new(own).into(), Arc::clone),
                admitted: admitted.map_or_else(|| Admitted::new(routes).into(), Arc::clone),
                places,
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
        self.in_table(self.matching.router.find(facts)?)
    }

    /// The first rule of this namespace that serves `facts` for some model and is as `wanted`.
    pub(crate) fn find_for_some_model(
        &self,
        facts: &Facts<'_>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<Rank> {
        let is_wanted = |own: usize| self.places.get(own).is_some_and(|&place| wanted(place));
        let found = self.matching.router.find_for_some_model(facts, is_wanted);
        self.in_table(found?)
    }

    fn in_table(&self, rank: Rank) -> Option<Rank> {
        let place = *self.places.get(rank.rule)?;
        Some(rank.at(place))
    }

    /// Whether a route that serves `host` admits the key of `secret`, or cannot be read and may.
    pub(crate) fn may_admit(&self, host: &str, secret: &ObjectName) -> bool {
        self.admitted.has(host, secret)
    }
}

// === impl Matching ===

impl Matching {
    /// Indexes rules, in order of precedence.
    fn new<'a>(rules: impl Iterator<Item = &'a Arc<FlatRule>>) -> Self {
        let both = |flat: &Arc<FlatRule>| (Arc::clone(&flat.route), Arc::clone(&flat.rule));
        let rules: Vec<(Arc<Route>, Arc<Rule>)> = rules.map(both).collect();
        let matches = rules.iter().enumerate();
        let matches = matches.map(|(own, (route, rule))| RuleMatches {
            rule: own,
            hosts: &route.hostnames,
            matches: &rule.matches,
        });
        Self {
            router: Router::new(matches),
            rules,
        }
    }

    /// Whether it was made of these very rules.
    fn is_of<'a>(&self, rules: impl Iterator<Item = &'a Arc<FlatRule>>) -> bool {
        let mut own = self.rules.iter();
        let mut rules = rules;
        let same = rules.all(|flat| {
            own.next().is_some_and(|(route, rule)| {
                Arc::ptr_eq(route, &flat.route) && Arc::ptr_eq(rule, &flat.rule)
            })
        });
        same && own.next().is_none()
    }
}
