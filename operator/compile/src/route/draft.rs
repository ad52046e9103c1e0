//! One AIRoute, validated by itself.

use std::sync::Arc;

use crds::{AiRoute, AiRouteSpec, ConditionType, Reason};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;
use proxy_core::table::{Authentication, Route, Rule};

use super::rule::{self, DraftRule};
use crate::bounds::{duplicate, is_hostname};
use crate::consumer::{Admitted, Selector};
use crate::diagnostic::{Findings, Verdict};
use crate::object::{Kind, ObjectRef, created_s};
use crate::reference::References;

/// The conditions of a route.
pub(super) const CONDITIONS: [ConditionType; 2] =
    [ConditionType::Accepted, ConditionType::ResolvedRefs];

/// The field that selects the Secrets with keys.
const SELECTOR: &str = "spec.authentication.apiKeys.secretSelector.matchLabels";

/// A validated route, before collisions and keys are known.
pub(super) struct Draft<'a> {
    pub(super) name: &'a ObjectName,
    pub(super) created_s: i64,
    pub(super) hostnames: Vec<HostPattern>,
    pub(super) rules: Vec<DraftRule>,
    pub(super) findings: Findings,
    spec: &'a AiRouteSpec,
    generation: i64,
    /// Its place among the selections of Secrets.
    pub(super) selection: Option<usize>,
    /// A part of the route was left out.
    partial: bool,
}

/// Validates a route.
pub(super) fn draft<'a>(
    name: &'a ObjectName,
    route: &'a AiRoute,
    references: &References<'_>,
    selector: &mut Selector<'a>,
) -> Draft<'a> {
    let spec = &route.spec;
    let mut findings = Findings::new(ObjectRef::new(Kind::AiRoute, name.clone()));
    if !spec.parent_refs.is_empty() {
        let message = "this version does not follow Gateways yet; leave parentRefs out, and the \
                       route belongs to the installation's gateway";
        findings.unsupported("spec.parentRefs", message);
    }
    let hostnames = hostnames(spec, &mut findings);
    authentication(spec, &mut findings);
    let keys = spec.authentication.api_keys.as_ref();
    let labels = keys.map(|keys| &keys.secret_selector.match_labels);
    let selection = labels
        .filter(|labels| !labels.is_empty())
        .map(|labels| selector.select(name.namespace(), labels));
    if spec.rules.is_empty() {
        findings.invalid("spec.rules", "is empty; add at least one rule");
    }
    if let Some((i, rule)) = duplicate(spec.rules.iter().map(|rule| rule.name.as_str())) {
        let message = format!("{rule:?} is there twice; rename one");
        findings.invalid(format!("spec.rules[{i}].name"), message);
    }
    let mut rules = Vec::with_capacity(spec.rules.len());
    let mut declared_targets = 0usize;
    for (i, declared) in spec.rules.iter().enumerate() {
        declared_targets = declared_targets.saturating_add(declared.backend_refs.len());
        rules.extend(rule::compile(
            i,
            declared,
            name,
            spec,
            references,
            &mut findings,
        ));
    }
    let targets: usize = rules.iter().map(|draft| draft.rule.targets.len()).sum();
    Draft {
        name,
        created_s: created_s(&route.metadata),
        hostnames,
        rules,
        findings,
        spec,
        generation: route.metadata.generation.unwrap_or(0),
        selection,
        partial: targets < declared_targets || !spec.authentication.jwt.is_empty(),
    }
}

/// Hosts that are no pattern are left out: no request ever names them.
fn hostnames(spec: &AiRouteSpec, findings: &mut Findings) -> Vec<HostPattern> {
    let mut patterns = Vec::with_capacity(spec.hostnames.len());
    for (i, hostname) in spec.hostnames.iter().enumerate() {
        if !is_hostname(&hostname.to_ascii_lowercase()) {
            let message = format!(
                "{hostname:?} is no host name; write it without scheme and port, as in \
                 ai.example.com, or with one '*' in front, as in *.example.com"
            );
            findings.invalid(format!("spec.hostnames[{i}]"), message);
        }
        patterns.extend(HostPattern::parse(hostname));
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

fn authentication(spec: &AiRouteSpec, findings: &mut Findings) {
    const FIELD: &str = "spec.authentication";
    let declared = &spec.authentication;
    let keys = declared.api_keys.as_ref();
    if declared.anonymous.is_some() && declared.pass_through.is_some() {
        let message = "anonymous and passThrough exclude each other: one asks for no credential, \
                       the other needs the client's; remove one";
        findings.invalid(FIELD, message);
    }
    if keys.is_some_and(|keys| keys.secret_selector.match_labels.is_empty()) {
        let message = "must name at least one label, or every Secret of the namespace would be a \
                       key; add one, for example tundish.dev/keys: chat";
        findings.invalid(SELECTOR, message);
    }
    let other_way =
        keys.is_some() || declared.anonymous.is_some() || declared.pass_through.is_some();
    if !declared.jwt.is_empty() {
        let field = format!("{FIELD}.jwt");
        if other_way {
            let message = "this version has no JWT yet, so callers with a token are refused and \
                           only the other ways count; remove jwt, or wait for a version that has it";
            let (condition, reason) = (ConditionType::Accepted, Reason::PartiallyInvalid);
            findings.warning(condition, reason, field, message);
        } else {
            let message = "this version has no JWT yet, and no other way is listed; add apiKeys, \
                           anonymous or passThrough";
            findings.unsupported(field, message);
        }
    } else if !other_way {
        let message = "lists no way to authenticate, so every request is refused; add apiKeys, \
                       anonymous or passThrough";
        findings.warning(ConditionType::Accepted, Reason::Accepted, FIELD, message);
    }
}

// === impl Draft ===

impl Draft<'_> {
    /// The compiled route; `None` if no host of it can be parsed, since it would then match any
    /// host.
    pub(super) fn finish(mut self, admitted: &Admitted) -> (Option<Route>, Verdict) {
        let condition = ConditionType::ResolvedRefs;
        if self.selection.is_some() && !admitted.any_selected {
            let message = format!(
                "no Secret in namespace {} has these labels, so no key is good here; create one, \
                 or correct the labels",
                self.name.namespace()
            );
            let reason = Reason::SecretNotFound;
            self.findings.warning(condition, reason, SELECTOR, message);
        }
        for (reason, message) in &admitted.warnings {
            self.findings.warning(condition, *reason, SELECTOR, message);
        }
        let rejected = self.findings.first_error(ConditionType::Accepted);
        let rejected: Option<Arc<str>> = rejected.map(|error| {
            let text = format!("{}: {}: {}", error.reason, error.field, error.message);
            text.into()
        });
        let hostless = self.hostnames.is_empty() && !self.spec.hostnames.is_empty();
        let mut rules: Vec<Rule> = self.rules.into_iter().map(|draft| draft.rule).collect();
        if rejected.is_some() {
            // It answers every request with an error, so it needs no target.
            rules.iter_mut().for_each(|rule| rule.targets.clear());
        }
        let route = Route {
            name: self.name.clone(),
            created_s: self.created_s,
            hostnames: self.hostnames,
            authentication: Authentication {
                keys: admitted.secrets.clone(),
                anonymous: self.spec.authentication.anonymous.is_some(),
                pass_through: self.spec.authentication.pass_through.is_some(),
            },
            rejected,
            rules: rules.into_iter().map(Arc::new).collect(),
        };
        let verdict = self
            .findings
            .verdict(self.generation, &CONDITIONS, self.partial);
        ((!hostless).then_some(route), verdict)
    }
}
