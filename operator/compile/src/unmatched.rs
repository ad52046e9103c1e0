//! What a quota names and no request can have: models that no covered rule serves, and consumers that cannot
//! call a covered route. Such a quota counts nothing, and looks as if it did.
//!
//! Says nothing where the objects do not tell: of routes in error, of names and values that tokens have, of
//! Secrets that are made elsewhere, and to a tenant of the consumers of other namespaces.

use std::collections::BTreeSet;

use crds::AiQuotaSpec;
use proxy_core::names::ModelPattern;
use proxy_core::table::{Quota, Route, Rule, Scope, Target};

use crate::backend::Backends;
use crate::covered::Routes;
use crate::diagnostic::Findings;
use crate::index::{Index, Stored};
use crate::keys::Keys;
use crate::near::did_you_mean;
use crate::reach::reached;
use crate::settings::{Secrets, Settings};

mod callers;
#[cfg(test)]
mod tests;

/// Finds what a quota names without effect.
pub(crate) struct Unmatched<'a> {
    index: &'a Index,
    settings: &'a Settings,
    routes: Routes<'a>,
    backends: &'a Backends<'a>,
    keys: Keys<'a>,
}

impl<'a> Unmatched<'a> {
    pub(crate) const fn new(
        (index, settings): (&'a Index, &'a Settings),
        routes: Routes<'a>,
        backends: &'a Backends<'a>,
        keys: Keys<'a>,
    ) -> Self {
        Self {
            index,
            settings,
            routes,
            backends,
            keys,
        }
    }

    /// Warns of what has no effect in `quota`, which was compiled of `spec`.
    pub(crate) fn judge(&self, quota: &Quota, spec: &AiQuotaSpec, findings: &mut Findings) {
        let of_all = quota.consumers.names.is_empty() && quota.consumers.attributes.is_empty();
        let names_callers = !of_all || !quota.overrides.is_empty();
        if quota.models.is_empty() && !names_callers {
            return;
        }
        let covered = self.routes.of(&quota.scope);
        if covered.is_empty() || !self.is_complete(&quota.scope) {
            return;
        }
        self.judge_models(quota, spec, &covered, findings);
        let is_readable = |route: &&Route| !route.authentication.unreadable;
        if names_callers && self.settings.secrets == Secrets::All && covered.iter().all(is_readable)
        {
            let known = (self.keys, self.routes, &*self.settings.own_namespace);
            callers::judge(known, quota, spec, &covered, findings);
        }
    }

    /// Whether every route that the scope means is in the table.
    fn is_complete(&self, scope: &Scope) -> bool {
        // The table has no other routes than the index.
        let has_all = |namespace: &str| {
            let there = self.routes.of_namespace(namespace).count();
            self.index.routes_of(namespace).count() == there
        };
        match scope {
            Scope::Gateway => self.index.routes.len() == self.routes.len(),
            Scope::Namespace(namespace) => has_all(namespace),
            Scope::Namespaces(all) => all.iter().all(|one| has_all(one)),
            Scope::Targets(targets) => targets.iter().all(|(name, section)| {
                let has = |route: &Route| {
                    let mut rules = route.rules.iter();
                    section
                        .as_ref()
                        .is_none_or(|section| rules.any(|rule| rule.name == *section))
                };
                self.routes.find(name).is_some_and(has)
            }),
        }
    }

    fn judge_models(
        &self,
        quota: &Quota,
        spec: &AiQuotaSpec,
        covered: &[&'a Route],
        findings: &mut Findings,
    ) {
        if quota.models.is_empty() {
            return;
        }
        // Lazily: in most cases the first ones serve it.
        let rules = || {
            covered.iter().flat_map(|route| {
                let rules = route.rules.iter().map(|rule| (*route, &**rule));
                rules.filter(|(route, rule)| quota.scope.covers(&route.name, &rule.name))
            })
        };
        for (i, declared) in spec.match_.models.iter().enumerate() {
            let Some(pattern) = ModelPattern::parse(declared) else {
                continue;
            };
            let pattern = [pattern];
            let serves = |rule: &Rule| {
                let mut found = reached(rule, &pattern, self.backends, |_| true);
                found.next().is_some()
            };
            if rules().any(|(_, rule)| serves(rule)) {
                continue;
            }
            if !rules().all(|(route, rule)| self.is_resolved(route, rule)) {
                return;
            }
            let known = self.models_of(rules(), quota);
            let hint = did_you_mean(declared, known.iter().map(String::as_str));
            let message = format!(
                "no covered rule serves {declared}, by this name or as the model of a deployment{hint}, so it \
                 counts nothing; correct it, or serve it by a rule"
            );
            findings.note(format!("spec.match.models[{i}]"), message);
        }
    }

    /// Whether all that the rule may send to is known.
    fn is_resolved(&self, route: &Route, rule: &Rule) -> bool {
        let declared = self.index.routes.get(&route.name).and_then(Stored::decoded);
        let mut declared = declared.into_iter().flat_map(|route| &route.spec.rules);
        let declared = declared.find(|declared| *declared.name == *rule.name);
        let is_usable = |target: &Target| self.backends.usable(&target.backend).is_some();
        route.rejected.is_none()
            && declared.is_some_and(|one| one.backend_refs.len() == rule.targets.len())
            && rule.targets.iter().all(is_usable)
    }

    /// Names of models that the status of `quota` may show: those of the rules, and of the deployments that
    /// are not another namespace's.
    fn models_of<'r>(
        &self,
        rules: impl Iterator<Item = (&'r Route, &'r Rule)>,
        quota: &Quota,
    ) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let is_own = |namespace: &str| {
            namespace == quota.name.namespace()
                || quota.name.namespace() == self.settings.own_namespace
        };
        for (_, rule) in rules {
            let asked = rule.matches.iter().flat_map(|one| &one.models);
            names.extend(asked.map(ModelPattern::to_string));
            for target in rule.targets.iter().filter(|one| one.weight > 0) {
                names.extend(target.deployment.as_deref().map(str::to_owned));
                let backend = self.backends.usable(&target.backend);
                let backend = backend.filter(|backend| is_own(backend.name.namespace()));
                for one in backend.into_iter().flat_map(|backend| &backend.deployments) {
                    let is_served = target
                        .deployment
                        .as_ref()
                        .is_none_or(|name| *name == one.name);
                    if is_served {
                        names.extend([one.name.to_string(), one.model.to_string()]);
                    }
                }
            }
        }
        names
    }
}
