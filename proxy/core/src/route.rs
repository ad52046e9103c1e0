//! Routing: the rule that serves a request.
//!
//! Precedence: exact host > longest wildcard host > any host; then exact model > longest prefix >
//! no model named; then more headers; then the route's and the rule's order. A rejected route
//! takes part with its matches, so that a broader route never takes its traffic.

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
            && self.consumers.matches(facts.consumer, facts.attributes)
    }
}

/// The hosts and matches of one rule, to build a [`Router`].
#[derive(Clone, Debug)]
pub struct RuleMatches<'a> {
    /// Hosts of the route; empty = any.
    pub hosts: &'a [HostPattern],
    /// Alternatives of the rule; empty = everything.
    pub matches: &'a [Match],
}

#[derive(Clone, Debug)]
struct Candidate {
    rule: usize,
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
    fn add(&mut self, candidate: &Candidate) {
        if candidate.alternative.models.is_empty() {
            self.any.push(candidate.clone());
        }
        for pattern in &candidate.alternative.models {
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

    fn find(&self, facts: &Facts<'_>) -> Option<usize> {
        let first = |list: &[Candidate]| {
            list.iter()
                .find(|c| c.alternative.holds_besides_model(facts))
                .map(|c| c.rule)
        };
        if let Some(model) = facts.model {
            if let Some(rule) = self.exact.get(model).and_then(|list| first(list)) {
                return Some(rule);
            }
            let mut longest_first = self
                .prefixes
                .iter()
                .filter(|(prefix, _)| model.starts_with(&**prefix));
            if let Some(rule) = longest_first.find_map(|(_, list)| first(list)) {
                return Some(rule);
            }
        }
        first(&self.any)
    }
}

/// Finds the rule of a request. Built once per table; a lookup does not allocate.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Arc<str>, ByModel, foldhash::fast::RandomState>,
    /// Longest suffix first.
    wildcards: Vec<(Arc<str>, ByModel)>,
    any: ByModel,
}

impl Router {
    /// Indexes the rules, which must be in order of their routes' precedence. [`Router::find`] returns
    /// an index into them.
    pub fn new<'a>(rules: impl IntoIterator<Item = RuleMatches<'a>>) -> Self {
        let mut router = Self::default();
        let everything = [Match::default()];
        for (rule, declared) in rules.into_iter().enumerate() {
            let alternatives = if declared.matches.is_empty() {
                &everything
            } else {
                declared.matches
            };
            for alternative in alternatives {
                router.add(
                    declared.hosts,
                    &Candidate {
                        rule,
                        alternative: alternative.clone(),
                    },
                );
            }
        }
        router.exact.values_mut().for_each(ByModel::sort);
        router
            .wildcards
            .iter_mut()
            .for_each(|(_, by_model)| by_model.sort());
        router
            .wildcards
            .sort_by_key(|(suffix, _)| usize::MAX - suffix.len());
        router.any.sort();
        router
    }

    fn add(&mut self, hosts: &[HostPattern], candidate: &Candidate) {
        if hosts.is_empty() {
            self.any.add(candidate);
        }
        for host in hosts {
            match host {
                HostPattern::Exact(name) => {
                    self.exact
                        .entry(Arc::clone(name))
                        .or_default()
                        .add(candidate);
                }
                HostPattern::Wildcard(suffix) => {
                    match self.wildcards.iter_mut().find(|(known, _)| known == suffix) {
                        Some((_, by_model)) => by_model.add(candidate),
                        None => {
                            let mut by_model = ByModel::default();
                            by_model.add(candidate);
                            self.wildcards.push((Arc::clone(suffix), by_model));
                        }
                    }
                }
            }
        }
    }

    /// The index of the rule that serves `facts`, by the stated precedence.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<usize> {
        if let Some(rule) = self
            .exact
            .get(facts.host)
            .and_then(|by_model| by_model.find(facts))
        {
            return Some(rule);
        }
        let mut longest_first = self.wildcards.iter().filter(|(suffix, _)| {
            facts.host.len() > suffix.len() && facts.host.ends_with(&**suffix)
        });
        longest_first
            .find_map(|(_, by_model)| by_model.find(facts))
            .or_else(|| self.any.find(facts))
    }
}
