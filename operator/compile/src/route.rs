//! AIRoutes. One in error keeps its matches and answers an error, so that a broader route never
//! takes its traffic; a reference in error is left out, and the rest of its rule serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{AiRoute, AiRouteSpec, ConditionType, Reason};
use proxy_core::auth::Key;
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;
use proxy_core::table::{Authentication, Route, Rule};

use crate::bounds::{duplicate, is_hostname};
use crate::collision;
use crate::consumer::{Admitted, Selector};
use crate::diagnostic::{Findings, Verdict};
use crate::index::{Index, Stored};
use crate::object::{Kind, ObjectRef, created_s};
use crate::reference::References;

mod rule;

pub(crate) use rule::{consumers, models};

const CONDITIONS: [ConditionType; 2] = [ConditionType::Accepted, ConditionType::ResolvedRefs];

/// Where the Secrets with keys are named.
const SELECTOR: &str = "spec.authentication.apiKeys.secretSelector.matchLabels";

/// A route on its way into the table.
pub(crate) struct Draft<'a> {
    pub(crate) name: &'a ObjectName,
    pub(crate) created_s: i64,
    pub(crate) hostnames: Vec<HostPattern>,
    pub(crate) rules: Vec<DraftRule>,
    pub(crate) findings: Findings,
    spec: &'a AiRouteSpec,
    generation: i64,
    /// Its place among the selections of Secrets.
    selection: Option<usize>,
    /// A part of the route was left out.
    partial: bool,
}

/// A rule, and which of the declared matches its own are.
pub(crate) struct DraftRule {
    pub(crate) rule: Rule,
    /// Index among the declared rules.
    pub(crate) declared: usize,
    /// For each match its index among the declared ones.
    pub(crate) matches: Vec<usize>,
}

/// Compiles every AIRoute, and the keys that they select.
pub(crate) fn compile(
    index: &Index,
    references: &References<'_>,
    verdicts: &mut BTreeMap<ObjectRef, Verdict>,
) -> (Vec<Route>, Vec<Key>) {
    let mut selector = Selector::new(&index.secrets);
    let mut drafts = Vec::with_capacity(index.routes.len());
    for (name, stored) in &index.routes {
        match stored {
            Stored::Decoded(route) => drafts.push(draft(name, route, references, &mut selector)),
            Stored::Undecodable(message) => {
                let object = ObjectRef::new(Kind::AiRoute, name.clone());
                let mut findings = Findings::new(object.clone());
                findings.invalid("", format!("the object can't be read: {message}"));
                findings.unresolved(Reason::Invalid, "", "the object can't be read");
                verdicts.insert(object, findings.verdict(0, &CONDITIONS, false));
            }
        }
    }
    collision::find(&mut drafts);
    let (keys, admitted) = selector.judge();
    let nobody = Admitted::default();
    let mut routes = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let object = ObjectRef::new(Kind::AiRoute, draft.name.clone());
        let admitted = draft.selection.and_then(|place| admitted.get(place));
        let (route, verdict) = draft.finish(admitted.unwrap_or(&nobody));
        routes.extend(route);
        verdicts.insert(object, verdict);
    }
    (routes, keys)
}

fn draft<'a>(
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

/// Hosts that can't be a pattern are left out: no request ever names them.
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
    /// The route as the gateway follows it; `None` if nobody can tell what it would match.
    fn finish(mut self, admitted: &Admitted) -> (Option<Route>, Verdict) {
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
            // It answers an error whatever it is asked, so nothing may lead anywhere.
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

#[cfg(test)]
mod tests;
