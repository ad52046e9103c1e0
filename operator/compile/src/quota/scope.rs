//! Which rules a quota covers. A part of its scope that cannot be parsed widens it.

use std::sync::Arc;

use crds::{AiQuotaSpec, ConditionType, Reason};
use proxy_core::names::ObjectName;
use proxy_core::table::Scope;

use crate::bounds::{is_label, is_subdomain};
use crate::diagnostic::Findings;
use crate::index::{Index, Stored};
use crate::near::did_you_mean;
use crate::object::Kind;
use crate::reads::{Reads, Subject};

const NAMESPACES: &str = "spec.match.namespaces";

/// The scope, and whether a target is missing while another exists. A missing target stays in the
/// scope: the quota holds at once when it appears.
pub(super) fn scope(
    name: &ObjectName,
    spec: &AiQuotaSpec,
    whole: Scope,
    facts: (&Index, &Reads),
    findings: &mut Findings,
) -> (Scope, bool) {
    let namespaces = &spec.match_.namespaces;
    if !namespaces.is_empty() {
        if let Scope::Namespace(own) = &whole {
            let message = format!(
                "is only for a quota in the installation's own namespace, so all routes of namespace \
                 {own} count; remove it"
            );
            findings.invalid(NAMESPACES, message);
        } else if !spec.target_refs.is_empty() {
            let message = "chooses among the routes of the gateway, and targetRefs names routes of this \
                           namespace, which all count; remove one of the two";
            findings.invalid(NAMESPACES, message);
        } else {
            return (of_namespaces(namespaces, whole, facts, findings), false);
        }
    }
    if spec.target_refs.is_empty() {
        return (whole, false);
    }
    let mut targets = Vec::with_capacity(spec.target_refs.len());
    let mut missing = Vec::new();
    let mut all_parsed = true;
    for (i, target) in spec.target_refs.iter().enumerate() {
        let field = format!("spec.targetRefs[{i}]");
        let group_fits = target.group.is_empty() || target.group == crds::GROUP;
        let kind_fits = target.kind.is_empty() || target.kind == Kind::AiRoute.as_str();
        let section = target.section_name.as_str();
        if !(group_fits && kind_fits) {
            all_parsed = false;
            let message = "a target must be of kind AIRoute in group tundish.dev, so the quota \
                           covers everything that it could until then; leave out kind and group";
            findings.invalid(field, message);
        } else if !is_subdomain(&target.name) || !(section.is_empty() || is_label(section)) {
            all_parsed = false;
            let message = "names no AIRoute or rule, so the quota covers everything that it could \
                           until then; correct name and sectionName";
            findings.invalid(field, message);
        } else {
            let route = ObjectName::new(name.namespace(), target.name.as_str());
            missing.extend(absent(&route, section, facts).map(|message| (field, message)));
            targets.push((route, (!section.is_empty()).then(|| section.into())));
        }
    }
    let some_exist = missing.len() < targets.len();
    for (field, message) in &missing {
        let (condition, reason) = (ConditionType::Accepted, Reason::TargetNotFound);
        if some_exist {
            findings.warning(condition, Reason::PartiallyInvalid, field, message);
        } else {
            findings.error(condition, reason, field, message);
        }
    }
    targets.sort();
    targets.dedup();
    let partial = some_exist && !missing.is_empty();
    (
        if all_parsed {
            Scope::Targets(targets)
        } else {
            whole
        },
        partial,
    )
}

/// The routes of these namespaces. If one cannot be read, those of all: the others alone would let it
/// through.
fn of_namespaces(
    declared: &[String],
    whole: Scope,
    facts: (&Index, &Reads),
    findings: &mut Findings,
) -> Scope {
    let mut all_parsed = true;
    for (i, namespace) in declared.iter().enumerate() {
        let field = format!("{NAMESPACES}[{i}]");
        if !is_label(namespace) {
            all_parsed = false;
            let message = "is no name of a namespace, so the routes of all namespaces count until then; \
                           correct it";
            findings.invalid(field, message);
        } else if !has_routes(facts, namespace) {
            let (index, reads) = facts;
            reads.all(Subject::RouteName);
            let mut others: Vec<&str> = index.routes.keys().map(ObjectName::namespace).collect();
            others.dedup();
            let hint = did_you_mean(namespace, others);
            let message = format!(
                "namespace {namespace} has no AIRoute{hint}, so nothing of it counts; create one or \
                 correct the name"
            );
            findings.note(field, message);
        }
    }
    if !all_parsed {
        return whole;
    }
    let mut all: Vec<Arc<str>> = declared.iter().map(|one| one.as_str().into()).collect();
    all.sort();
    all.dedup();
    match &*all {
        [one] => Scope::Namespace(Arc::clone(one)),
        _ => Scope::Namespaces(all),
    }
}

fn has_routes((index, reads): (&Index, &Reads), namespace: &str) -> bool {
    reads.namespace(Subject::RouteName, namespace);
    index.routes_of(namespace).next().is_some()
}

/// The missing part of a target, if any.
fn absent(route: &ObjectName, section: &str, (index, reads): (&Index, &Reads)) -> Option<String> {
    let name = route.name();
    reads.one(Subject::Route, route);
    match index.routes.get(route) {
        None => {
            reads.namespace(Subject::RouteName, route.namespace());
            let others = index.routes_of(route.namespace());
            let hint = did_you_mean(name, others.map(ObjectName::name));
            Some(format!(
                "AIRoute {name} does not exist in this namespace{hint}; create it or correct the name"
            ))
        }
        Some(Stored::Decoded(found))
            if !section.is_empty() && !found.spec.rules.iter().any(|r| r.name == section) =>
        {
            let rules = found.spec.rules.iter();
            let hint = did_you_mean(section, rules.map(|rule| rule.name.as_str()));
            Some(format!(
                "AIRoute {name} has no rule {section:?}{hint}; correct sectionName"
            ))
        }
        // The rules of an undecodable route are unknown; its own verdict says so.
        Some(Stored::Decoded(_) | Stored::Undecodable { .. }) => None,
    }
}
