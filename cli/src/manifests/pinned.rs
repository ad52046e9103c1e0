//! Rules for nothing but operations that came after the versions of the dated API to which their backends are pinned.

use proxy_core::names::{ObjectName, Operation};
use proxy_core::table::{BackendKind, Contents, Rule, Target};

#[cfg(test)]
mod tests;

/// A rule that answers every request with 400.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pinned<'a> {
    pub(super) route: &'a ObjectName,
    /// The name of the rule.
    pub(super) rule: &'a str,
    pub(super) message: String,
}

/// Such rules; `lacking` has the operations that a version does not have.
pub(super) fn rules(
    contents: &Contents,
    lacking: impl Fn(&str) -> Vec<Operation>,
) -> Vec<Pinned<'_>> {
    let version = |target: &Target| {
        let mut backends = contents.backends.iter();
        let backend = backends.find(|backend| backend.name == target.backend)?;
        let version = backend.api_version.as_deref()?;
        let is_pinned = backend.kind == BackendKind::Foundry && proxy_api::is_dated(version);
        is_pinned.then_some(version)
    };
    let mut found = Vec::new();
    for route in &contents.routes {
        for rule in &route.rules {
            let versions: Option<Vec<&str>> = rule.targets.iter().map(version).collect();
            // What the newest version lacks, the older ones lack too.
            let Some(newest) = versions.and_then(|versions| versions.into_iter().max()) else {
                continue;
            };
            let Some(operation) = only(rule, &lacking(newest)) else {
                continue;
            };
            found.push(Pinned {
                route: &route.name,
                rule: &rule.name,
                message: format!(
                    "version {newest} of the API has no {}, and every backend of the rule is pinned to it or an older one: \
                     each request is answered with 400; remove apiVersion from an AIBackend, or add one without it",
                    operation.as_str()
                ),
            });
        }
    }
    found
}

/// The first operation of a rule that matches no others than these.
fn only(rule: &Rule, lacking: &[Operation]) -> Option<Operation> {
    let lacks_all = rule.matches.iter().all(|one| {
        let mut operations = one.operations.iter();
        !one.operations.is_empty() && operations.all(|operation| lacking.contains(operation))
    });
    let first = rule.matches.first()?.operations.first()?;
    lacks_all.then_some(*first)
}
