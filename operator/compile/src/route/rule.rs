//! One rule of an AIRoute.

use std::sync::Arc;

use crds::{AiRouteSpec, Operation, RetryOn, RouteMatch, RouteRule};
use http::HeaderName;
use proxy_core::names::{self, ConsumerMatch, ModelPattern, ObjectName};
use proxy_core::route::Match;
use proxy_core::table::{Retry, Rule};

use crate::bounds::{is_label, is_model_pattern};
use crate::diagnostic::Findings;
use crate::reference::{Place, References};

/// Most further attempts; the schema has the same bound.
const MAX_ATTEMPTS: i32 = 5;

/// A compiled rule, and its place among the declared ones.
pub(crate) struct DraftRule {
    pub(crate) rule: Rule,
    /// Index among the declared rules.
    pub(crate) declared: usize,
    /// For each match its index among the declared matches.
    pub(crate) matches: Vec<usize>,
}

/// Compiles a rule; `None` if none of its matches can be parsed.
pub(super) fn compile(
    index: usize,
    declared: &RouteRule,
    route: &ObjectName,
    spec: &AiRouteSpec,
    references: &References<'_>,
    findings: &mut Findings,
) -> Option<DraftRule> {
    let field = format!("spec.rules[{index}]");
    if !is_label(&declared.name) {
        let message = "must be 1 to 63 lower-case letters, digits and '-'";
        findings.invalid(format!("{field}.name"), message);
    }
    if declared.backend_refs.is_empty() {
        let message = "is empty; name at least one AIBackend";
        findings.invalid(format!("{field}.backendRefs"), message);
    }
    let targets = declared.backend_refs.iter().enumerate();
    let targets = targets.filter_map(|(i, reference)| {
        let place = Place {
            namespace: route.namespace(),
            pass_through: spec.authentication.pass_through.is_some(),
            field: format!("{field}.backendRefs[{i}]"),
        };
        references.resolve(reference, &place, findings)
    });
    let targets = targets.collect();
    let retry = retry(declared, &field, findings);
    let request = declared.timeouts.request;
    let first_token = declared.timeouts.first_token;
    if first_token.is_some_and(|first_token| first_token > request) {
        let message =
            format!("must not be longer than request ({request}); lower it or raise request");
        findings.invalid(format!("{field}.timeouts.firstToken"), message);
    }
    let mut matches = Vec::with_capacity(declared.matches.len());
    let mut origins = Vec::with_capacity(declared.matches.len());
    for (i, alternative) in declared.matches.iter().enumerate() {
        if let Some(compiled) =
            alternative_of(alternative, &format!("{field}.matches[{i}]"), findings)
        {
            matches.push(compiled);
            origins.push(i);
        }
    }
    // Without its matches the rule would match everything.
    if matches.is_empty() && !declared.matches.is_empty() {
        return None;
    }
    Some(DraftRule {
        rule: Rule {
            name: declared.name.as_str().into(),
            matches,
            targets,
            retry,
            request_timeout: Some(request.as_std()),
            first_token_timeout: first_token.map(crds::Duration::as_std),
        },
        declared: index,
        matches: origins,
    })
}

fn retry(declared: &RouteRule, field: &str, findings: &mut Findings) -> Retry {
    let crds::Retry { attempts, on } = &declared.retry;
    let further = u8::try_from(*attempts)
        .ok()
        .filter(|_| *attempts <= MAX_ATTEMPTS);
    if further.is_none() {
        let message = format!("must be 0 to {MAX_ATTEMPTS}; 0 turns retries off");
        findings.invalid(format!("{field}.retry.attempts"), message);
    }
    if on.is_empty() {
        let message = "is empty; name a reason to try again, or set attempts: 0";
        findings.invalid(format!("{field}.retry.on"), message);
    }
    Retry {
        attempts: further.unwrap_or(0),
        on_too_many_requests: on.contains(&RetryOn::TooManyRequests),
        on_server_error: on.contains(&RetryOn::ServerError),
        on_connect_failure: on.contains(&RetryOn::ConnectFailure),
        on_timeout: on.contains(&RetryOn::Timeout),
    }
}

/// One alternative with sorted lists; `None` if a part of it can't be parsed, since without that
/// part it would match more than declared.
fn alternative_of(declared: &RouteMatch, field: &str, findings: &mut Findings) -> Option<Match> {
    let models = models(&declared.models, field, findings);
    let mut headers = Vec::with_capacity(declared.headers.len());
    let mut all_parsed = true;
    for (i, header) in declared.headers.iter().enumerate() {
        match HeaderName::from_bytes(header.name.as_bytes()) {
            Ok(name) => headers.push((name, Arc::from(header.value.as_str()))),
            Err(_) => {
                all_parsed = false;
                let message = format!("{:?} is no header name; correct it", header.name);
                findings.invalid(format!("{field}.headers[{i}].name"), message);
            }
        }
        let printable = header.value.bytes().all(|b| (b' '..=b'~').contains(&b));
        if header.value.is_empty() || !printable {
            let message = "must be printable ASCII and not empty";
            findings.invalid(format!("{field}.headers[{i}].value"), message);
        }
    }
    headers
        .sort_by(|a: &(HeaderName, Arc<str>), b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    if headers
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
    {
        let message = "names the same header twice, and case does not matter; remove one";
        findings.invalid(format!("{field}.headers"), message);
    }
    let mut operations: Vec<_> = declared.operations.iter().copied().map(operation).collect();
    operations.sort();
    operations.dedup();
    let compiled = Match {
        models: models?,
        operations,
        headers,
        consumers: consumers(&declared.consumers),
    };
    all_parsed.then_some(compiled)
}

/// Sorted model patterns; `None` if some are declared and none can be parsed.
pub(crate) fn models(
    declared: &[String],
    field: &str,
    findings: &mut Findings,
) -> Option<Vec<ModelPattern>> {
    let mut patterns = Vec::with_capacity(declared.len());
    for (i, model) in declared.iter().enumerate() {
        if !is_model_pattern(model) {
            let message = format!(
                "{model:?} is no model: letters, digits and '._:/@+-', and '*' only as the last \
                 character, as in gpt-4o-*; correct it"
            );
            findings.invalid(format!("{field}.models[{i}]"), message);
        }
        patterns.extend(ModelPattern::parse(model));
    }
    patterns.sort();
    patterns.dedup();
    (declared.is_empty() || !patterns.is_empty()).then_some(patterns)
}

pub(crate) fn consumers(declared: &crds::ConsumerMatch) -> ConsumerMatch {
    let mut names: Vec<Arc<str>> = declared.names.iter().map(|n| n.as_str().into()).collect();
    names.sort();
    names.dedup();
    let attributes = declared.attributes.iter();
    let attributes = attributes.map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    ConsumerMatch {
        names,
        attributes: attributes.collect(),
    }
}

const fn operation(declared: Operation) -> names::Operation {
    match declared {
        Operation::ChatCompletions => names::Operation::ChatCompletions,
        Operation::Completions => names::Operation::Completions,
        Operation::Embeddings => names::Operation::Embeddings,
        Operation::Responses => names::Operation::Responses,
        Operation::Messages => names::Operation::Messages,
        Operation::Images => names::Operation::Images,
        Operation::Audio => names::Operation::Audio,
        Operation::Realtime => names::Operation::Realtime,
        Operation::Files => names::Operation::Files,
        Operation::Batches => names::Operation::Batches,
        Operation::Agents => names::Operation::Agents,
        Operation::Models => names::Operation::Models,
    }
}
