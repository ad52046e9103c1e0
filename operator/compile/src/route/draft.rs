//! One AIRoute, validated by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{AiRoute, AiRouteSpec, ConditionType, Reason};
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;
use proxy_core::table::{Authentication, Cors, Route, Rule, Secrets};

use super::issuer::{self, DraftIssuer, Trusted};
use super::rule::{self, DraftRule};
use crate::attachment::{Attachment, attach};
use crate::bounds::{duplicate, is_hostname, is_origin};
use crate::consumer::Admitted;
use crate::diagnostic::{Findings, Verdict};
use crate::host_claim::HostClaims;
use crate::object::{Kind, ObjectRef, created_s};
use crate::reference::References;

/// The conditions of a route.
pub(super) const CONDITIONS: [ConditionType; 2] =
    [ConditionType::Accepted, ConditionType::ResolvedRefs];

/// The field that selects the Secrets with keys.
const SELECTOR: &str = "spec.authentication.apiKeys.secretSelector.matchLabels";

/// Most origins of a route; the schema has the same bound.
const MAX_ORIGINS: usize = 32;

/// A validated route, before it is known what other routes and Secrets make of it.
pub(super) struct Draft {
    pub(super) name: ObjectName,
    pub(super) created_s: i64,
    pub(super) hostnames: Vec<HostPattern>,
    pub(super) rules: Vec<DraftRule>,
    /// The labels that select Secrets with keys.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// The issuers whose tokens are good, sorted.
    pub(super) issuers: Vec<DraftIssuer>,
    /// Its callers' own credentials go to backends.
    pub(super) is_passed: bool,
    /// It is what is left of an object that cannot be read.
    pub(super) remains: bool,
    findings: Findings,
    cors: Option<Cors>,
    generation: i64,
    declares_hosts: bool,
    admits_all: bool,
    /// A part of the route was left out.
    partial: bool,
    /// It may serve callers that another namespace could claim, if it declares so.
    granted: bool,
    /// The Gateways that it is attached to.
    attachment: Attachment,
    /// Not all of the callers that it admits are known.
    unreadable: bool,
}

/// What other routes and Secrets make of a draft.
pub(super) struct Given<'a> {
    /// The judgement on the Secrets that it selects.
    pub(super) admitted: Option<&'a Admitted>,
    /// What it has of its issuers, if it lists any.
    pub(super) trusted: Option<&'a Trusted>,
    /// Matches that an earlier route has, by field, with that route.
    pub(super) conflicts: Vec<(String, ObjectName)>,
}

/// Validates a route.
pub(super) fn draft(
    name: &ObjectName,
    route: &AiRoute,
    references: &References<'_>,
    hosts: &HostClaims<'_>,
) -> Draft {
    let spec = &route.spec;
    let mut findings = Findings::new(ObjectRef::new(Kind::AiRoute, name.clone()));
    let hostnames = hostnames(spec, &mut findings);
    let attachment = attach(
        name.namespace(),
        spec,
        hostnames,
        hosts.listeners,
        &mut findings,
    );
    authentication(spec, &mut findings);
    let mut issuers = issuer::compile(spec, &mut findings);
    let has_all_issuers = issuers.len() == spec.authentication.jwt.len();
    let granted = granted(name, spec, &attachment, hosts, &mut findings);
    let cors = cors(spec, &mut findings);
    let keys = spec.authentication.api_keys.as_ref();
    let labels = keys.map(|keys| &keys.secret_selector.match_labels);
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
    if !granted || attachment.is_hostless {
        issuers.clear();
    }
    let targets: usize = rules.iter().map(|draft| draft.rule.targets.len()).sum();
    Draft {
        name: name.clone(),
        created_s: created_s(&route.metadata),
        hostnames: attachment.hostnames.clone(),
        rules,
        findings,
        cors,
        generation: route.metadata.generation.unwrap_or(0),
        declares_hosts: !spec.hostnames.is_empty(),
        admits_all: spec.authentication.anonymous.is_some(),
        is_passed: spec.authentication.pass_through.is_some(),
        remains: false,
        granted,
        issuers,
        unreadable: !granted || !has_all_issuers || labels.is_some_and(BTreeMap::is_empty),
        labels: labels.filter(|labels| !labels.is_empty()).cloned(),
        partial: targets < declared_targets || attachment.is_partial,
        attachment,
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
    if keys.is_some() && declared.pass_through.is_some() {
        let message = "keys of the gateway are never sent to a backend, so these admit no \
                       caller to a route with passThrough; give them a route of their own";
        findings.note(format!("{FIELD}.apiKeys"), message);
    }
    issuer::note(spec, findings);
    let is_open = declared.anonymous.is_some() || declared.pass_through.is_some();
    if keys.is_none() && declared.jwt.is_empty() && !is_open {
        let message = "lists no way to authenticate, so every request is refused; add apiKeys, jwt, \
                       anonymous or passThrough";
        findings.warning(ConditionType::Accepted, Reason::Accepted, FIELD, message);
    }
}

/// Whether the route may serve the callers that it declares and that another namespace could, too.
fn granted(
    name: &ObjectName,
    spec: &AiRouteSpec,
    attachment: &Attachment,
    hosts: &HostClaims<'_>,
    findings: &mut Findings,
) -> bool {
    let declared = &spec.authentication;
    let (way, who) = if declared.anonymous.is_some() {
        ("anonymous", "callers without a key")
    } else if declared.pass_through.is_some() {
        ("passThrough", "callers without a key")
    } else if !declared.jwt.is_empty() {
        ("jwt", "callers with a token")
    } else {
        return true;
    };
    let Some(host) = hosts.missing(attachment, name.namespace()) else {
        return true;
    };
    let on = if host == "*" { "every host" } else { &host };
    let message = format!(
        "{who} could be claimed by every namespace, and none may take those of another; \
         ask the platform to grant {on} to this one (hostGrants, --host-grant={host}={}), or use apiKeys",
        name.namespace()
    );
    let (condition, reason) = (ConditionType::Accepted, Reason::HostNotGranted);
    findings.error(
        condition,
        reason,
        format!("spec.authentication.{way}"),
        message,
    );
    false
}

/// Origins in order. One in error allows nothing; the route is rejected then.
fn cors(spec: &AiRouteSpec, findings: &mut Findings) -> Option<Cors> {
    const FIELD: &str = "spec.cors.allowOrigins";
    let declared = &spec.cors.as_ref()?.allow_origins;
    if declared.is_empty() {
        let message =
            "is empty; name an origin, for example https://app.example.com, or remove cors";
        findings.invalid(FIELD, message);
    }
    if declared.len() > MAX_ORIGINS {
        let message =
            format!("has more than {MAX_ORIGINS} origins; remove some, or write \"*\" alone");
        findings.invalid(FIELD, message);
    }
    for (i, origin) in declared.iter().enumerate() {
        let default_port = (origin.starts_with("https://") && origin.ends_with(":443"))
            || (origin.starts_with("http://") && origin.ends_with(":80"));
        let message = if origin == "*" {
            if declared.len() == 1 {
                continue;
            }
            "already allows every page; remove it, or the other origins"
        } else if !is_origin(origin) {
            "an origin is https://host or https://host:port in lower case, without a path; http:// is \
             only for localhost; correct it, for example https://app.example.com"
        } else if default_port {
            "browsers leave the port out if it is 443 of https or 80 of http, so this origin never \
             matches; remove the port"
        } else {
            continue;
        };
        findings.invalid(format!("{FIELD}[{i}]"), message);
    }
    let mut allow_origins: Vec<Arc<str>> = declared.iter().map(|one| one.as_str().into()).collect();
    allow_origins.sort();
    allow_origins.dedup();
    Some(Cors { allow_origins })
}

// === impl Draft ===

impl Draft {
    /// Whether it has no host, since no Gateway takes it: it is not in the table.
    pub(super) const fn is_hostless(&self) -> bool {
        self.attachment.is_hostless
    }

    /// Whether its claim of issuers is that of another draft of the same route.
    pub(super) fn trusts_as(&self, other: &Self) -> bool {
        let claim = |one: &Self| (one.created_s, one.is_passed);
        claim(self) == claim(other)
            && self.issuers == other.issuers
            && self.hostnames == other.hostnames
    }

    /// What is left if the object cannot be read: it holds its hosts and matches, and serves nothing.
    pub(super) fn remains(self, findings: Findings) -> Self {
        Self {
            findings,
            unreadable: true,
            remains: true,
            partial: false,
            ..self
        }
    }

    /// The compiled route; `None` if no host of it is known, since it would then match any host.
    pub(super) fn finish(&self, given: &Given<'_>) -> (Option<Route>, Verdict) {
        let mut findings = self.findings.clone();
        let losses = given.trusted.into_iter().flat_map(|one| &one.losses);
        let mut loses_issuers = false;
        for (field, message) in losses {
            loses_issuers = true;
            let (condition, reason) = (ConditionType::Accepted, Reason::Conflicted);
            findings.error(condition, reason, field, message);
        }
        for (field, winner) in &given.conflicts {
            let message = format!(
                "AIRoute {} comes first and has the same host and match; change one of them",
                winner.name()
            );
            let (condition, reason) = (ConditionType::Accepted, Reason::Conflicted);
            findings.error(condition, reason, field, message);
        }
        if let Some(admitted) = given.admitted {
            self.judge_keys(admitted, &mut findings);
        }
        let rejected = findings.first_error(ConditionType::Accepted);
        let rejected: Option<Arc<str>> =
            rejected.map(|error| format!("{}: {}", error.reason, error.located()).into());
        let has_none = self.hostnames.is_empty() && self.declares_hosts;
        let hostless = has_none || self.attachment.is_hostless;
        let route = (!hostless).then(|| Route {
            name: self.name.clone(),
            created_s: self.created_s,
            hostnames: self.hostnames.clone(),
            authentication: Authentication {
                keys: given
                    .admitted
                    .map_or_else(Secrets::default, |admitted| admitted.secrets.clone()),
                issuers: given
                    .trusted
                    .map_or_else(Vec::new, |trusted| trusted.issuers.clone()),
                anonymous: self.granted && self.admits_all,
                pass_through: self.granted && self.is_passed,
                unreadable: self.unreadable || loses_issuers,
            },
            cors: self.cors.clone(),
            rules: self.rules(rejected.is_some()),
            rejected,
        });
        let mut verdict = findings.verdict(self.generation, &CONDITIONS, self.partial);
        verdict.parents = self.attachment.parents(&verdict);
        (route, verdict)
    }

    /// A route that is rejected answers every request with an error, so it needs no target.
    fn rules(&self, rejected: bool) -> Vec<Arc<Rule>> {
        let all = self.rules.iter().map(|draft| {
            if !rejected || draft.rule.targets.is_empty() {
                return Arc::clone(&draft.rule);
            }
            Arc::new(Rule {
                targets: Vec::new(),
                ..Rule::clone(&draft.rule)
            })
        });
        all.collect()
    }

    fn judge_keys(&self, admitted: &Admitted, findings: &mut Findings) {
        let condition = ConditionType::ResolvedRefs;
        if !admitted.any_selected {
            let message = format!(
                "no Secret in namespace {} has these labels, so no key is good here; create one, \
                 or correct the labels",
                self.name.namespace()
            );
            let reason = Reason::SecretNotFound;
            findings.warning(condition, reason, SELECTOR, message);
        }
        for (reason, message) in &admitted.warnings {
            findings.warning(condition, *reason, SELECTOR, message);
        }
    }
}
