//! Rules for nothing but operations that no dated API has, in front of backends that are pinned to one.

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

/// Such rules; `undated` are the operations that no dated API has.
pub(super) fn rules<'a>(contents: &'a Contents, undated: &[Operation]) -> Vec<Pinned<'a>> {
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
            let Some(operation) = only(rule, undated) else {
                continue;
            };
            let versions: Option<Vec<&str>> = rule.targets.iter().map(version).collect();
            let Some(version) = versions.as_ref().and_then(|versions| versions.first()) else {
                continue;
            };
            found.push(Pinned {
                route: &route.name,
                rule: &rule.name,
                message: format!(
                    "no dated API has {}, and every backend of the rule is pinned to one (apiVersion {version}): each \
                     request is answered with 400; remove apiVersion from an AIBackend, or add one without it",
                    operation.as_str()
                ),
            });
        }
    }
    found
}

/// The first operation of a rule that matches no others than these.
fn only(rule: &Rule, undated: &[Operation]) -> Option<Operation> {
    let all_undated = rule.matches.iter().all(|one| {
        let mut operations = one.operations.iter();
        !one.operations.is_empty() && operations.all(|operation| undated.contains(operation))
    });
    let first = rule.matches.first()?.operations.first()?;
    all_undated.then_some(*first)
}
