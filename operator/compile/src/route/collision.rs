//! Two routes of a namespace with the same host and the same match: the older one wins, then the first
//! by name.

use std::collections::HashMap;
use std::sync::Arc;

use crds::{ConditionType, Reason};
use http::HeaderName;
use proxy_core::names::{Attributes, ConsumerName, ModelPattern, ObjectName, Operation};
use proxy_core::route::{HostPattern, Match};

use super::draft::Draft;
use crate::diagnostic::Findings;

/// A host and a match, which one route of a namespace owns: namespaces do not see each other's routes.
/// The lists are sorted, so equal sets are equal.
#[derive(PartialEq, Eq, Hash)]
struct Claim<'a> {
    namespace: &'a str,
    /// `None` means any host.
    host: Option<&'a HostPattern>,
    models: &'a [ModelPattern],
    operations: &'a [Operation],
    headers: &'a [(HeaderName, Arc<str>)],
    consumers: &'a [ConsumerName],
    attributes: &'a Attributes,
}

struct Conflict<'a> {
    /// Index of the route that loses.
    loser: usize,
    field: String,
    winner: &'a ObjectName,
}

/// Reports every match of a route that an earlier route owns. A route that loses one, or is in
/// error otherwise, keeps its other matches and wins those over later routes.
pub(super) fn find(drafts: &mut [Draft<'_>]) {
    let mut order: Vec<(i64, &ObjectName, usize)> = drafts
        .iter()
        .enumerate()
        // A match that was widened since it can't be read is no claim, nor is one without a host.
        .filter(|(_, draft)| !draft.remains && !draft.is_hostless())
        .map(|(index, draft)| (draft.created_s, draft.name, index))
        .collect();
    order.sort_unstable();
    let mut claims: HashMap<Claim<'_>, &ObjectName> = HashMap::new();
    let everything = Match::default();
    let mut conflicts = Vec::new();
    for (_, name, index) in order {
        let Some(draft) = drafts.get(index) else {
            continue;
        };
        for (field, alternative) in alternatives(draft, &everything) {
            let owners = hosts(draft)
                .map(|host| *claims.entry(claim(name, host, alternative)).or_insert(name));
            // Claim every host before the first loss is reported.
            let owners: Vec<&ObjectName> = owners.collect();
            if let Some(winner) = owners.into_iter().find(|owner| *owner != name) {
                conflicts.push(Conflict {
                    loser: index,
                    field: field(),
                    winner,
                });
            }
        }
    }
    let losses: Vec<_> = conflicts
        .into_iter()
        .map(|conflict| (conflict.loser, conflict.field, conflict.winner.clone()))
        .collect();
    for (loser, field, winner) in losses {
        if let Some(draft) = drafts.get_mut(loser) {
            report(&mut draft.findings, field, &winner);
        }
    }
}

/// Each match with a function that formats its field.
fn alternatives<'a>(
    draft: &'a Draft<'_>,
    everything: &'a Match,
) -> impl Iterator<Item = (impl Fn() -> String, &'a Match)> {
    draft.rules.iter().flat_map(move |rule| {
        let whole = rule.rule.matches.is_empty().then_some((None, everything));
        let declared = rule
            .matches
            .iter()
            .map(|&i| Some(i))
            .zip(&rule.rule.matches);
        whole
            .into_iter()
            .chain(declared)
            .map(move |(alternative, matched)| {
                let field = move || match alternative {
                    Some(alternative) => {
                        format!("spec.rules[{}].matches[{alternative}]", rule.declared)
                    }
                    None => format!("spec.rules[{}]", rule.declared),
                };
                (field, matched)
            })
    })
}

/// The hosts of a route, or `None` for any.
fn hosts<'a>(draft: &'a Draft<'_>) -> impl Iterator<Item = Option<&'a HostPattern>> {
    let any = draft.hostnames.is_empty().then_some(None);
    any.into_iter().chain(draft.hostnames.iter().map(Some))
}

fn claim<'a>(
    route: &'a ObjectName,
    host: Option<&'a HostPattern>,
    alternative: &'a Match,
) -> Claim<'a> {
    Claim {
        namespace: route.namespace(),
        host,
        models: &alternative.models,
        operations: &alternative.operations,
        headers: &alternative.headers,
        consumers: &alternative.consumers.names,
        attributes: &alternative.consumers.attributes,
    }
}

fn report(findings: &mut Findings, field: String, winner: &ObjectName) {
    let message = format!(
        "AIRoute {} comes first and has the same host and match; change one of them",
        winner.name()
    );
    findings.error(ConditionType::Accepted, Reason::Conflicted, field, message);
}
