//! Limits of quotas: which cover a rule, which apply to a request, and their subjects.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::contents::{Quota, QuotaFacts, Scope};
use crate::auth::Caller;
use crate::names::ObjectName;
use crate::quota::{Limit, LimitName, Per, SubjectKey};

/// Characters shown of one part of a subject: what names a consumer may have any length.
const SHOWN: usize = 128;

/// A limit with its quota. A handle: tables that follow keep it as long as the quota does not change.
#[derive(Debug)]
pub struct FlatLimit {
    /// `namespace/quota/limit`.
    pub name: LimitName,
    /// Its quota.
    pub quota: Arc<Quota>,
    /// The limit itself.
    pub limit: Limit,
}

/// One part of what splits a limit's counters, in the order of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectPart<'a> {
    /// The namespace of the route.
    Namespace(&'a str),
    /// The consumer, by the namespace of its Secret and its name.
    Consumer(&'a str, &'a str),
    /// The deployed model; empty if no deployment serves the request.
    Model(&'a str),
    /// The route, by namespace and name.
    Route(&'a str, &'a str),
    /// The value of the quota's attribute, and the namespace of the consumer that has it: whoever labels
    /// Secrets elsewhere must not spend it. Empty if the consumer has none.
    Attribute(&'a str, &'a str),
}

/// A limit, and where it stands in the order of the table.
type Ordered = (usize, Arc<FlatLimit>);
type ByName<K, V> = HashMap<K, Vec<V>, foldhash::fast::RandomState>;

/// All limits, found by what their quotas cover.
#[derive(Debug, Default)]
pub(super) struct LimitIndex {
    all: Vec<Arc<FlatLimit>>,
    gateway: Vec<Ordered>,
    namespaces: ByName<Arc<str>, Ordered>,
    /// With the rule, if only one of the route is covered.
    routes: ByName<ObjectName, (Option<Arc<str>>, Ordered)>,
}

// === impl FlatLimit ===

impl FlatLimit {
    /// Whether it counts a request of a rule that its quota covers.
    #[must_use]
    pub fn applies(&self, facts: &QuotaFacts<'_>) -> bool {
        self.quota.applies(facts)
    }

    /// How much it allows `caller`, by all replicas together.
    #[must_use]
    pub fn amount_for(&self, caller: &Caller) -> u64 {
        let place = self.quota.override_of(caller);
        let found = place.and_then(|place| self.quota.overrides.get(place));
        let amount = found.and_then(|found| found.amount(&self.limit.name));
        amount.unwrap_or(self.limit.amount)
    }

    /// Stable identity of the counter across replicas. Costs a SHA-256: compute it once per counter,
    /// not per request.
    #[must_use]
    pub fn subject_key(&self, facts: &QuotaFacts<'_>) -> SubjectKey {
        let mut hash = Sha256::new();
        let mut feed = |tag: u8, text: &str| {
            hash.update([tag]);
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text.as_bytes());
        };
        for part in self.subject(facts) {
            match part {
                SubjectPart::Namespace(namespace) => feed(5, namespace),
                SubjectPart::Consumer(namespace, name) => {
                    feed(1, namespace);
                    feed(1, name);
                }
                SubjectPart::Model(model) => feed(2, model),
                SubjectPart::Route(namespace, name) => {
                    feed(3, namespace);
                    feed(3, name);
                }
                SubjectPart::Attribute(namespace, value) => {
                    feed(4, namespace);
                    feed(4, value);
                }
            }
        }
        let mut key = [0; 16];
        for (byte, hashed) in key.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        SubjectKey(key)
    }

    /// The counter's name for operators, such as `consumer=ns/name model=gpt-4o`; empty if the quota
    /// does not split its counters.
    #[must_use]
    pub fn subject_text(&self, facts: &QuotaFacts<'_>) -> String {
        let mut text = String::new();
        for part in self.subject(facts) {
            let (name, namespace, value) = match part {
                SubjectPart::Namespace(namespace) => ("namespace", "", namespace),
                SubjectPart::Consumer(namespace, name) => ("consumer", namespace, name),
                SubjectPart::Model(model) => ("model", "", model),
                SubjectPart::Route(namespace, name) => ("route", namespace, name),
                SubjectPart::Attribute(namespace, value) => {
                    (&*self.quota.attribute, namespace, value)
                }
            };
            if !text.is_empty() {
                text.push(' ');
            }
            text.extend([name, "=", namespace]);
            if !namespace.is_empty() {
                text.push('/');
            }
            // Text that others chose must not look like another part, nor steer a terminal.
            let plain = |c: char| {
                if c.is_control() || c.is_whitespace() {
                    '?'
                } else {
                    c
                }
            };
            text.extend(value.chars().take(SHOWN).map(plain));
        }
        text
    }

    /// What splits this limit's counters, for one request.
    pub fn subject<'a>(
        &'a self,
        facts: &QuotaFacts<'a>,
    ) -> impl Iterator<Item = SubjectPart<'a>> + use<'a> {
        let QuotaFacts {
            caller,
            route,
            deployed_model,
            ..
        } = *facts;
        let attribute = &self.quota.attribute;
        self.quota.per.iter().map(move |per| match per {
            Per::Namespace => SubjectPart::Namespace(route.name.namespace()),
            Per::Consumer => SubjectPart::Consumer(&caller.namespace, &caller.name),
            Per::Model => SubjectPart::Model(deployed_model.unwrap_or("")),
            Per::Route => SubjectPart::Route(route.name.namespace(), route.name.name()),
            Per::Attribute => {
                let mut attributes = caller.attributes.iter();
                let found = attributes.find(|(name, _)| name == attribute);
                found.map_or(SubjectPart::Attribute("", ""), |(_, value)| {
                    SubjectPart::Attribute(&caller.namespace, value)
                })
            }
        })
    }
}

// === impl LimitIndex ===

impl LimitIndex {
    /// Takes the limits of `before` for quotas that are the same.
    pub(super) fn new(quotas: &[Arc<Quota>], before: &Self) -> Self {
        let known: HashMap<&LimitName, &Arc<FlatLimit>> = before
            .all
            .iter()
            .map(|limit| (&limit.name, limit))
            .collect();
        let mut index = Self::default();
        for quota in quotas {
            for limit in &quota.limits {
                let name = LimitName {
                    quota: quota.name.clone(),
                    limit: Arc::clone(&limit.name),
                };
                let flat = match known.get(&name) {
                    Some(known) if Arc::ptr_eq(&known.quota, quota) => Arc::clone(known),
                    Some(_) | None => Arc::new(FlatLimit {
                        name,
                        quota: Arc::clone(quota),
                        limit: limit.clone(),
                    }),
                };
                index.add(quota, flat);
            }
        }
        index
    }

    fn add(&mut self, quota: &Quota, flat: Arc<FlatLimit>) {
        let ordered = (self.all.len(), Arc::clone(&flat));
        match &quota.scope {
            Scope::Gateway => self.gateway.push(ordered),
            Scope::Namespace(namespace) => self.add_to(namespace, ordered),
            Scope::Namespaces(all) => {
                for namespace in all {
                    self.add_to(namespace, ordered.clone());
                }
            }
            Scope::Targets(targets) => {
                for (route, rule) in targets {
                    let of_route = self.routes.entry(route.clone()).or_default();
                    of_route.push((rule.clone(), ordered.clone()));
                }
            }
        }
        self.all.push(flat);
    }

    fn add_to(&mut self, namespace: &Arc<str>, ordered: Ordered) {
        let of_namespace = self.namespaces.entry(Arc::clone(namespace)).or_default();
        of_namespace.push(ordered);
    }

    pub(super) fn all(&self) -> &[Arc<FlatLimit>] {
        &self.all
    }

    /// The limits of every quota that covers a rule, in the order of the table.
    pub(super) fn covering(&self, route: &ObjectName, rule: &str) -> Vec<Arc<FlatLimit>> {
        let namespace = self.namespaces.get(route.namespace());
        let of_route = self.routes.get(route).into_iter().flatten();
        let of_rule = of_route
            .filter(|(section, _)| section.as_ref().is_none_or(|section| **section == *rule))
            .map(|(_, ordered)| ordered);
        let mut found: Vec<&Ordered> = self.gateway.iter().collect();
        found.extend(namespace.into_iter().flatten());
        found.extend(of_rule);
        found.sort_unstable_by_key(|(place, _)| *place);
        // A quota may name a route and a rule of it.
        found.dedup_by_key(|(place, _)| *place);
        found
            .into_iter()
            .map(|(_, flat)| Arc::clone(flat))
            .collect()
    }
}
