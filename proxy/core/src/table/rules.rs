//! Rules with everything that their requests need, in order of precedence. A rule stays the same from
//! table to table unless its route, a backend of its targets or a quota that covers it has changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::contents::{Backend, Quota, Route, Rule, Scope};
use super::endpoint::{Endpoint, EndpointIndex, FlatTarget};
use super::limit::{FlatLimit, LimitIndex};
use super::list::Changes;
use crate::names::ObjectName;
use crate::tokens::Price;

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

/// What differs from the table before.
pub(super) struct Differences<'a> {
    pub(super) backends: Changes<'a, Backend>,
    pub(super) routes: Changes<'a, Route>,
    pub(super) quotas: Changes<'a, Quota>,
}

/// What the quotas that changed cover.
#[derive(Default)]
struct Covered<'a> {
    every: bool,
    namespaces: HashSet<&'a str, foldhash::fast::RandomState>,
    routes: HashSet<&'a ObjectName, foldhash::fast::RandomState>,
}

/// The rules of the table after `before`, in order of precedence.
pub(super) fn after(
    before: &[Arc<FlatRule>],
    differences: &Differences<'_>,
    (limits, endpoints): (&LimitIndex, &EndpointIndex),
) -> Vec<Arc<FlatRule>> {
    let Differences {
        backends,
        routes,
        quotas,
    } = differences;
    let gone: HashSet<*const Route, foldhash::fast::RandomState> =
        routes.gone.iter().map(|route| Arc::as_ptr(route)).collect();
    let kept = before
        .iter()
        .filter(|flat| gone.is_empty() || !gone.contains(&Arc::as_ptr(&flat.route)));
    let mut rules: Vec<Arc<FlatRule>> = kept.cloned().collect();
    if !backends.is_empty() || !quotas.is_empty() {
        let backends: HashSet<&ObjectName, foldhash::fast::RandomState> =
            backends.all().map(|backend| &backend.name).collect();
        let covered = Covered::by(quotas);
        for flat in &mut rules {
            let mut targets = flat.rule.targets.iter();
            if covered.has(&flat.route.name)
                || targets.any(|target| backends.contains(&target.backend))
            {
                *flat = Arc::new(FlatRule::new(&flat.route, &flat.rule, limits, endpoints));
            }
        }
    }
    if !routes.fresh.is_empty() {
        for route in &routes.fresh {
            let each = route.rules.iter();
            rules.extend(each.map(|rule| FlatRule::new(route, rule, limits, endpoints).into()));
        }
        // Stable: the rules of a route stay in its order.
        rules.sort_by(|a, b| {
            let (a, b) = (&a.route, &b.route);
            (a.created_s, &a.name).cmp(&(b.created_s, &b.name))
        });
    }
    rules
}

// === impl FlatRule ===

impl FlatRule {
    fn new(
        route: &Arc<Route>,
        rule: &Arc<Rule>,
        limits: &LimitIndex,
        endpoints: &EndpointIndex,
    ) -> Self {
        let declared = rule.targets.iter();
        let mut targets: Vec<FlatTarget> = declared
            .filter_map(|target| endpoints.target(target))
            .collect();
        targets.sort_by_key(|target| target.priority);
        let endpoints = targets.iter().flat_map(FlatTarget::endpoints);
        let prices = endpoints.filter_map(|endpoint| endpoint.deployment.price.as_deref());
        Self {
            route: Arc::clone(route),
            rule: Arc::clone(rule),
            max_price: prices
                .fold(Price::default(), |one, other| one.max(other))
                .into(),
            limits: limits.covering(&route.name, &rule.name),
            targets,
        }
    }

    /// The first endpoint that may serve requests for `model`: of the first tier that has one, in the
    /// order of the rule. Its model is what quotas count by ("the deployed model").
    #[must_use]
    pub fn first_endpoint(&self, model: &str) -> Option<&Arc<Endpoint>> {
        let mut usable = self.targets.iter().filter(|target| target.weight > 0);
        usable.find_map(|target| target.endpoint(model))
    }
}

// === impl Covered ===

impl<'a> Covered<'a> {
    fn by(quotas: &'a Changes<'_, Quota>) -> Self {
        let mut covered = Self::default();
        for quota in quotas.all() {
            match &quota.scope {
                Scope::Gateway => covered.every = true,
                Scope::Namespace(namespace) => {
                    covered.namespaces.insert(namespace);
                }
                Scope::Namespaces(all) => {
                    covered.namespaces.extend(all.iter().map(|one| &**one));
                }
                Scope::Targets(targets) => {
                    covered
                        .routes
                        .extend(targets.iter().map(|(route, _)| route));
                }
            }
        }
        covered
    }

    fn has(&self, route: &ObjectName) -> bool {
        self.every || self.namespaces.contains(route.namespace()) || self.routes.contains(route)
    }
}
