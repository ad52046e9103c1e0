//! Rules that may send to deployments of different models. Quotas count such a request as the first of
//! them, wherever it goes.

use proxy_core::names::ObjectName;
use proxy_core::quota::Per;
use proxy_core::table::{Deployment, Quota, Route, Rule};

use crate::backend::Backends;

/// Most rules that are named for one quota; the others are counted.
const NAMED: usize = 8;

/// The rules whose named deployments have different models: few, so that most quotas need no search.
pub(crate) struct MixedRules<'a>(Vec<Mixed<'a>>);

struct Mixed<'a> {
    route: &'a ObjectName,
    rule: &'a str,
    /// Of the first tier, in the order of the rule.
    first: &'a Deployment,
    /// Those of other models.
    others: Vec<&'a Deployment>,
}

impl<'a> MixedRules<'a> {
    pub(crate) fn new(routes: &'a [Route], backends: &'a Backends<'a>) -> Self {
        let each = routes.iter().flat_map(|route| {
            let rules = route.rules.iter();
            rules.filter_map(|rule| Mixed::of(route, rule, backends))
        });
        Self(each.collect())
    }

    /// One message for each rule that `quota` covers and whose models it tells apart.
    pub(crate) fn told_apart(&self, quota: &Quota) -> Vec<String> {
        let covered = self.0.iter();
        let covered = covered.filter(|one| quota.scope.covers(one.route, one.rule));
        let mut found: Vec<String> = covered.filter_map(|one| one.message(quota)).collect();
        if let Some(more) = found.len().checked_sub(NAMED).filter(|more| *more > 0) {
            found.truncate(NAMED);
            found.push(format!(
                "{more} more rules send to deployments of different models"
            ));
        }
        found
    }
}

impl<'a> Mixed<'a> {
    fn of(route: &'a Route, rule: &'a Rule, backends: &'a Backends<'a>) -> Option<Self> {
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
        let others: Vec<_> = named.filter(|one| one.model != first.model).collect();
        (!others.is_empty()).then_some(Self {
            route: &route.name,
            rule: &rule.name,
            first,
            others,
        })
    }

    /// Names deployments only, as the route does: what models they have may be for another namespace to
    /// say.
    fn message(&self, quota: &Quota) -> Option<String> {
        let covers = |one: &Deployment| {
            let mut models = quota.models.iter();
            quota.models.is_empty() || models.any(|model| model.matches(&one.model))
        };
        let by_model = quota.per.contains(&Per::Model) && covers(self.first);
        let mut others = self.others.iter();
        let other = others.find(|other| by_model || covers(other) != covers(self.first))?;
        let (Self { route, rule, .. }, first) = (self, &self.first.name);
        let other = &other.name;
        Some(format!(
            "rule {rule} of AIRoute {route} may send to deployment {other}, whose model is not that of \
             {first}; its requests count as those of {first}; to count {other} apart, give it a rule of its own"
        ))
    }
}
