//! Deployments without a price, which a limit on cost cannot count.

use std::collections::BTreeSet;

use proxy_core::names::ObjectName;
use proxy_core::table::{Backend, Deployment, List, Quota};

use crate::backend::Backends;
use crate::covered::Routes;
use crate::reach::reached;
use crate::reads::{Reads, Subject};

/// Most deployments that are named for one quota; the others are counted.
const NAMED: usize = 16;

/// Finds what a limit on cost reaches and cannot count.
pub(crate) struct Prices<'a> {
    routes: Routes<'a>,
    backends: &'a Backends<'a>,
    own_namespace: &'a str,
    /// Whether any deployment has no price. Most installations have either none or no limits on
    /// cost, and need no search.
    any_missing: bool,
    reads: &'a Reads,
}

/// Whether some deployment of these backends has no price.
pub(crate) fn any_missing(usable: &List<Backend>) -> bool {
    let mut deployments = usable.iter().flat_map(|one| &one.deployments);
    deployments.any(|deployment| deployment.price.is_none())
}

/// A deployment without a price, as the quota's status may name it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Unpriced<'a> {
    backend: &'a ObjectName,
    /// `None` if the status must not show it.
    deployment: Option<&'a str>,
}

impl<'a> Prices<'a> {
    pub(crate) const fn new(
        routes: Routes<'a>,
        (backends, any_missing): (&'a Backends<'a>, bool),
        own_namespace: &'a str,
        reads: &'a Reads,
    ) -> Self {
        Self {
            routes,
            backends,
            own_namespace,
            any_missing,
            reads,
        }
    }

    /// One message for each deployment that `quota` reaches and whose price is unknown.
    pub(crate) fn missing(&self, quota: &Quota) -> Vec<String> {
        self.reads.all(Subject::Unpriced);
        if !self.any_missing {
            return Vec::new();
        }
        let mut found: BTreeSet<Unpriced<'_>> = BTreeSet::new();
        for route in self.routes.of(&quota.scope) {
            let rules = route.rules.iter();
            for rule in rules.filter(|rule| quota.scope.covers(&route.name, &rule.name)) {
                let is_unpriced = |deployment: &Deployment| deployment.price.is_none();
                for one in reached(rule, &quota.models, self.backends, is_unpriced) {
                    // A status must not show what another namespace has, unless the route says it.
                    let is_shown = one.named
                        || one.backend.namespace() == quota.name.namespace()
                        || quota.name.namespace() == self.own_namespace;
                    found.insert(Unpriced {
                        backend: one.backend,
                        deployment: is_shown.then_some(&*one.deployment.name),
                    });
                }
            }
        }
        let mut messages: Vec<String> = found.iter().take(NAMED).map(Unpriced::message).collect();
        if let Some(more) = found.len().checked_sub(NAMED).filter(|more| *more > 0) {
            messages.push(format!(
                "{more} more deployments have no price; set it there, too"
            ));
        }
        messages
    }
}

impl Unpriced<'_> {
    fn message(&self) -> String {
        const SO: &str = "has no price, so the limit can't count what it costs and admits nothing";
        let Self {
            backend,
            deployment,
        } = self;
        match deployment {
            Some(name) => format!(
                "deployment {name} of AIBackend {backend} {SO}; set deployments[{name}].price there, \
                 or {{inputPerMillion: 0, outputPerMillion: 0}} if it is free"
            ),
            None => format!(
                "a deployment of AIBackend {backend} {SO}; ask its owner to set deployments[].price \
                 there, or {{inputPerMillion: 0, outputPerMillion: 0}} if it is free"
            ),
        }
    }
}
