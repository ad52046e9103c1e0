//! Routing: the rule that serves a request.
//!
//! Precedence: exact host > longest wildcard host > any host; then exact model > longest prefix >
//! no model named; then more headers; then the route's and the rule's order: [`Rank`]. A rejected
//! route takes part with its matches, so that a broader route never takes its traffic.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;

use crate::names::{Attributes, ConsumerMatch, ModelPattern, Operation};

#[cfg(test)]
mod tests;

/// A host that a route serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(Arc<str>),
    /// Every host with this suffix; it begins with a dot, as `.example.com` for `*.example.com`.
    Wildcard(Arc<str>),
}

impl HostPattern {
    /// Reads `ai.example.com` or `*.example.com`, in any case; `None` for a `*` elsewhere.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(rest) if rest.len() > 1 && rest.starts_with('.') && !rest.contains('*') => {
                Some(Self::Wildcard(rest.into()))
            }
            None if !text.is_empty() && !text.contains('*') => Some(Self::Exact(text.into())),
            Some(_) | None => None,
        }
    }

    /// Whether the pattern matches `host` (lower case, without a port).
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// One alternative of a rule: all fields must match; an empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// One of these models.
    pub models: Vec<ModelPattern>,
    /// One of these operations.
    pub operations: Vec<Operation>,
    /// All of these headers, with exactly this value.
    pub headers: Vec<(HeaderName, Arc<str>)>,
    /// These consumers.
    pub consumers: ConsumerMatch,
}

/// The facts of a request that rules can match.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host: lower case, without a port.
    pub host: &'a str,
    /// The operation.
    pub operation: Operation,
    /// The model the client named, if the dialect carries one.
    pub model: Option<&'a str>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The namespace of the consumer's Secret; empty without one.
    pub consumer_namespace: &'a str,
    /// The consumer's name.
    pub consumer: &'a str,
    /// The consumer's attributes.
    pub attributes: &'a Attributes,
}

impl Match {
    /// Whether everything but the model matches.
    fn holds_besides_model(&self, facts: &Facts<'_>) -> bool {
        (self.operations.is_empty() || self.operations.contains(&facts.operation))
            && self.headers.iter().all(|(name, value)| {
                facts
                    .headers
                    .get(name)
                    .is_some_and(|sent| sent.as_bytes() == value.as_bytes())
            })
            && self
                .consumers
                .matches(facts.consumer_namespace, facts.consumer, facts.attributes)
    }
}

/// How well a rule fits a request: the least serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    host: usize,
    model: usize,
    headers: usize,
    /// The index of the rule, which is in order of route and rule.
    pub rule: usize,
}

// === impl Rank ===

impl Rank {
    /// The same of a rule that stands elsewhere in another order.
    pub(crate) const fn at(self, rule: usize) -> Self {
        Self { rule, ..self }
    }
}

/// The rank of what a rule names exactly.
const EXACT: usize = 0;
/// The rank of what it does not name.
const ANY: usize = usize::MAX;

/// Longer is better, and the empty pattern is better than none.
const fn by_length(length: usize) -> usize {
    ANY - 1 - length
}

/// The hosts and matches of one rule, to build a [`Router`].
#[derive(Clone, Debug)]
pub struct RuleMatches<'a> {
    /// Its index.
    pub rule: usize,
    /// Hosts of the route; empty = any.
    pub hosts: &'a [HostPattern],
    /// Alternatives of the rule; empty = everything.
    pub matches: &'a [Match],
}

#[derive(Clone, Debug)]
struct Candidate {
    rule: usize,
    /// Without its models, by which it is found.
    alternative: Match,
}

/// Candidates of one host pattern by model. Each list is in order of precedence.
#[derive(Debug, Default)]
struct ByModel {
    exact: HashMap<Arc<str>, Vec<Candidate>, foldhash::fast::RandomState>,
    /// Longest prefix first.
    prefixes: Vec<(Arc<str>, Vec<Candidate>)>,
    any: Vec<Candidate>,
}

impl ByModel {
    fn add(&mut self, models: &[ModelPattern], candidate: &Candidate) {
        if models.is_empty() {
            self.any.push(candidate.clone());
        }
        for pattern in models {
            match pattern {
                ModelPattern::Exact(name) => {
                    self.exact
                        .entry(Arc::clone(name))
                        .or_default()
                        .push(candidate.clone());
                }
                ModelPattern::Prefix(prefix) => {
                    match self.prefixes.iter_mut().find(|(known, _)| known == prefix) {
                        Some((_, list)) => list.push(candidate.clone()),
                        None => self
                            .prefixes
                            .push((Arc::clone(prefix), vec![candidate.clone()])),
                    }
                }
            }
        }
    }

    fn sort(&mut self) {
        // The sort is stable, and candidates are in order of route and rule.
        let by_headers = |list: &mut Vec<Candidate>| {
            list.sort_by_key(|c| usize::MAX - c.alternative.headers.len())
        };
        self.exact.values_mut().for_each(by_headers);
        self.prefixes
            .iter_mut()
            .for_each(|(_, list)| by_headers(list));
        self.prefixes
            .sort_by_key(|(prefix, _)| usize::MAX - prefix.len());
        by_headers(&mut self.any);
    }

    /// Every candidate, with the rank of its model.
    fn all(&self) -> impl Iterator<Item = (usize, &Candidate)> {
        let exact = self.exact.values().map(|list| (EXACT, list));
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.map(|(prefix, list)| (by_length(prefix.len()), list));
        let lists = exact.chain(prefixes).chain([(ANY, &self.any)]);
        lists.flat_map(|(model, list)| list.iter().map(move |candidate| (model, candidate)))
    }

    fn find(&self, host: usize, facts: &Facts<'_>) -> Option<Rank> {
        let first = |model: usize, list: &[Candidate]| {
            let mut fitting = list.iter();
            let found = fitting.find(|c| c.alternative.holds_besides_model(facts))?;
            Some(Rank {
                host,
                model,
                headers: by_length(found.alternative.headers.len()),
                rule: found.rule,
            })
        };
        if let Some(model) = facts.model {
            if let Some(found) = self.exact.get(model).and_then(|list| first(EXACT, list)) {
                return Some(found);
            }
            let mut longest_first = self
                .prefixes
                .iter()
                .filter(|(prefix, _)| model.starts_with(&**prefix));
            let found = longest_first.find_map(|(prefix, list)| {
                let rank = by_length(prefix.len());
                first(rank, list)
            });
            if found.is_some() {
                return found;
            }
        }
        first(ANY, &self.any)
    }
}

/// Values by the host patterns that they are for.
#[derive(Debug, Default)]
pub(crate) struct ByHost<T> {
    exact: HashMap<Arc<str>, T, foldhash::fast::RandomState>,
    /// Longest suffix first, once sorted.
    wildcards: Vec<(Arc<str>, T)>,
    any: T,
}

impl<T: Default> ByHost<T> {
    /// Changes the value of each of `hosts`; of any host if there are none.
    pub(crate) fn change(&mut self, hosts: &[HostPattern], mut change: impl FnMut(&mut T)) {
        if hosts.is_empty() {
            change(&mut self.any);
        }
        for host in hosts {
            match host {
                HostPattern::Exact(name) => change(self.exact.entry(Arc::clone(name)).or_default()),
                HostPattern::Wildcard(suffix) => {
                    let known = self.wildcards.iter_mut().find(|(known, _)| known == suffix);
                    match known {
                        Some((_, value)) => change(value),
                        None => {
                            let mut value = T::default();
                            change(&mut value);
                            self.wildcards.push((Arc::clone(suffix), value));
                        }
                    }
                }
            }
        }
    }

    /// Ends the changes.
    pub(crate) fn sort(&mut self) {
        self.wildcards
            .sort_by_key(|(suffix, _)| by_length(suffix.len()));
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let wildcards = self.wildcards.iter_mut().map(|(_, value)| value);
        let exact = self.exact.values_mut();
        exact.chain(wildcards).chain([&mut self.any])
    }

    /// Every value for `host` with its rank; the best first, once sorted.
    pub(crate) fn of(&self, host: &str) -> impl Iterator<Item = (usize, &T)> {
        let exact = self.exact.get(host).map(|value| (EXACT, value));
        let wildcards = self.wildcards.iter();
        let wildcards = wildcards
            .filter(move |(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
        let wildcards = wildcards.map(|(suffix, value)| (by_length(suffix.len()), value));
        exact.into_iter().chain(wildcards).chain([(ANY, &self.any)])
    }
}

/// Finds the rule of a request. Built once per table; a lookup does not allocate.
#[derive(Debug, Default)]
pub struct Router {
    hosts: ByHost<ByModel>,
}

impl Router {
    /// Indexes the rules, which must be in order of their routes' precedence.
    pub fn new<'a>(rules: impl IntoIterator<Item = RuleMatches<'a>>) -> Self {
        let mut hosts: ByHost<ByModel> = ByHost::default();
        let everything = [Match::default()];
        for declared in rules {
            let alternatives = if declared.matches.is_empty() {
                &everything
            } else {
                declared.matches
            };
            for alternative in alternatives {
                let candidate = Candidate {
                    rule: declared.rule,
                    alternative: Match {
                        models: Vec::new(),
                        operations: alternative.operations.clone(),
                        headers: alternative.headers.clone(),
                        consumers: alternative.consumers.clone(),
                    },
                };
                let models = &alternative.models;
                hosts.change(declared.hosts, |by_model| by_model.add(models, &candidate));
            }
        }
        hosts.values_mut().for_each(ByModel::sort);
        hosts.sort();
        Self { hosts }
    }

    /// The first rule, in order of precedence, that serves `facts` for some model and is as `wanted`. For what
    /// is asked for by an id, so that no model is named.
    #[must_use]
    pub fn find_for_some_model(
        &self,
        facts: &Facts<'_>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<Rank> {
        let mut best_first = self.hosts.of(facts.host);
        best_first.find_map(|(host, by_model)| {
            let fitting = by_model.all().filter(|(_, candidate)| {
                candidate.alternative.holds_besides_model(facts) && wanted(candidate.rule)
            });
            let ranks = fitting.map(|(model, candidate)| Rank {
                host,
                model,
                headers: by_length(candidate.alternative.headers.len()),
                rule: candidate.rule,
            });
            ranks.min()
        })
    }

    /// The rule that serves `facts`, by the stated precedence.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<Rank> {
        let mut best_first = self.hosts.of(facts.host);
        best_first.find_map(|(host, by_model)| by_model.find(host, facts))
    }
}
