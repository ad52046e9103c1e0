//! Rules that may send to deployments of different models. Quotas count such a request as the first of
//! them, wherever it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proxy_core::names::ObjectName;
use proxy_core::quota::Per;
use proxy_core::table::{Deployment, Quota, Route, Rule, Scope};

use crate::backend::Backends;
use crate::reads::{Reads, Subject};

/// Most rules that are named for one quota; the others are counted.
const NAMED: usize = 8;

/// The rules whose named deployments have different models, by their routes: few, so that most quotas need
/// no search.
#[derive(Debug, Default)]
pub(crate) struct MixedRules(BTreeMap<ObjectName, Vec<Mixed>>);

#[derive(Debug, PartialEq, Eq)]
struct Mixed {
    rule: Arc<str>,
    /// Of the first tier, in the order of the rule.
    first: Deployment,
    /// Those of other models.
    others: Vec<Deployment>,
}

// === impl MixedRules ===

impl MixedRules {
    /// Takes the rules of a route, or of none, in the place of what was known of it. True if they differ.
    pub(crate) fn set(
        &mut self,
        name: &ObjectName,
        route: Option<&Route>,
        backends: &Backends<'_>,
    ) -> bool {
        let rules = route.into_iter().flat_map(|route| &route.rules);
        let mixed = rules.filter_map(|rule| Mixed::of(rule, backends));
        let mixed: Vec<Mixed> = mixed.collect();
        if self.0.get(name).map_or(&[][..], Vec::as_slice) == mixed {
            return false;
        }
        if mixed.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.clone(), mixed);
        }
        true
    }

    /// One message for each rule that `quota` covers and whose models it tells apart.
    pub(crate) fn told_apart(&self, quota: &Quota, reads: &Reads) -> Vec<String> {
        let covered = self.covered(&quota.scope, reads);
        let each = covered.flat_map(|(route, rules)| rules.iter().map(move |rule| (route, rule)));
        let each = each.filter(|(route, one)| quota.scope.covers(route, &one.rule));
        let found = each.filter_map(|(route, one)| one.message(route, quota));
        let mut found: Vec<String> = found.collect();
        if let Some(more) = found.len().checked_sub(NAMED).filter(|more| *more > 0) {
            found.truncate(NAMED);
            found.push(format!(
                "{more} more rules send to deployments of different models"
            ));
        }
        found
    }

    /// The routes that a scope may cover.
    fn covered(
        &self,
        scope: &Scope,
        reads: &Reads,
    ) -> Box<dyn Iterator<Item = (&ObjectName, &Vec<Mixed>)> + '_> {
        const SUBJECT: Subject = Subject::Mixed;
        match scope {
            Scope::Gateway => {
                reads.all(SUBJECT);
                Box::new(self.0.iter())
            }
            Scope::Namespace(namespace) => {
                reads.namespace(SUBJECT, namespace);
                Box::new(self.of_namespace(Arc::clone(namespace)))
            }
            Scope::Namespaces(all) => {
                all.iter().for_each(|one| reads.namespace(SUBJECT, one));
                let all = all.clone().into_iter();
                Box::new(all.flat_map(|namespace| self.of_namespace(namespace)))
            }
            Scope::Targets(targets) => {
                targets
                    .iter()
                    .for_each(|(route, _)| reads.one(SUBJECT, route));
                let routes: BTreeSet<ObjectName> =
                    targets.iter().map(|(route, _)| route.clone()).collect();
                let routes = routes.into_iter();
                Box::new(routes.filter_map(|route| self.0.get_key_value(&route)))
            }
        }
    }

    fn of_namespace(
        &self,
        namespace: Arc<str>,
    ) -> impl Iterator<Item = (&ObjectName, &Vec<Mixed>)> {
        let first = ObjectName::new(Arc::clone(&namespace), "");
        let rest = self.0.range(first..);
        rest.take_while(move |(route, _)| route.namespace() == &*namespace)
    }
}

// === impl Mixed ===

impl Mixed {
    fn of(rule: &Rule, backends: &Backends<'_>) -> Option<Self> {
        if rule.targets.len() < 2 {
            return None;
        }
        let mut targets: Vec<_> = rule.targets.iter().filter(|one| one.weight > 0).collect();
        targets.sort_by_key(|target| target.priority);
        let mut named = targets.into_iter().filter_map(|target| {
            let wanted = target.deployment.as_ref()?;
            let mut deployments = backends.usable(&target.backend)?.deployments.iter();
            deployments.find(|one| one.name == *wanted)
        });
        let first = named.next()?;
        let others = named.filter(|one| one.model != first.model).cloned();
        let others: Vec<_> = others.collect();
        (!others.is_empty()).then(|| Self {
            rule: Arc::clone(&rule.name),
            first: first.clone(),
            others,
        })
    }

    /// Names deployments only, as the route does: what models they have may be for another namespace to
    /// say.
    fn message(&self, route: &ObjectName, quota: &Quota) -> Option<String> {
        let covers = |one: &Deployment| {
            let mut models = quota.models.iter();
            quota.models.is_empty() || models.any(|model| model.matches(&one.model))
        };
        let by_model = quota.per.contains(&Per::Model) && covers(&self.first);
        let mut others = self.others.iter();
        let other = others.find(|other| by_model || covers(other) != covers(&self.first))?;
        let (rule, first) = (&self.rule, &self.first.name);
        let other = &other.name;
        Some(format!(
            "rule {rule} of AIRoute {route} may send to deployment {other}, whose model is not that of \
             {first}; its requests count as those of {first}; to count {other} apart, give it a rule of its own"
        ))
    }
}
