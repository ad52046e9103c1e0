//! One rule of an AIRoute.

use std::sync::Arc;

use crds::{AiRouteSpec, BackendRef, Operation, RetryWhen, RouteMatch, RouteRule};
use http::HeaderName;
use proxy_core::auth::Caller;
use proxy_core::names::{self, Class, ConsumerMatch, ConsumerName, ModelPattern, ObjectName};
use proxy_core::route::{HostPattern, Match};
use proxy_core::table::{Affinity, Deployment, OutputTokens, Retry, Rule};
use proxy_core::tokens::{is_reasoning, max_output_tokens};

use crate::backend::Backends;
use crate::bounds::{is_hostname, is_label, is_model_pattern};
use crate::diagnostic::Findings;
use crate::reach::{Reached, reached};
use crate::reference::{Place, References};

/// Most further attempts; the schema has the same bound.
const MAX_ATTEMPTS: i32 = 5;

/// The largest bound on output tokens; the schema has the same.
const MAX_OUTPUT_TOKENS: u64 = 10_000_000;
/// With a smaller bound a model that reasons often has no tokens left for its answer. Low effort
/// takes some hundred tokens, and providers advise to leave thousands.
const REASONING_NEEDS: u64 = 2_048;

/// A compiled rule, and its place among the declared ones.
pub(crate) struct DraftRule {
    pub(crate) rule: Arc<Rule>,
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
    judge_references(declared, &field, findings);
    let retry = retry(declared, &field, findings);
    let bounds = output_tokens(declared, &field, findings);
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
        if let Some(compiled) = alternative_of(
            alternative,
            route,
            &format!("{field}.matches[{i}]"),
            findings,
        ) {
            matches.push(compiled);
            origins.push(i);
        }
    }
    // Without its matches the rule would match everything.
    if matches.is_empty() && !declared.matches.is_empty() {
        return None;
    }
    let rule = Rule {
        name: declared.name.as_str().into(),
        matches,
        targets,
        output_tokens: bounds,
        retry,
        request_timeout: Some(request.as_std()),
        first_token_timeout: first_token.map(crds::Duration::as_std),
        shows_backend: declared.backend_headers == crds::BackendHeaders::Show,
        names_end_user: declared.end_user == crds::EndUser::Consumer,
        mcp_servers: mcp_servers(declared, &field, findings),
        affinity: affinity(declared, &field, findings),
        class: match declared.class {
            crds::Class::Interactive => Class::Interactive,
            crds::Class::Standard => Class::Standard,
            crds::Class::Batch => Class::Batch,
        },
        allows_unmetered: declared.unmetered == crds::Unmetered::Allow,
    };
    judge_bounds(&rule, route, references.backends, &field, findings);
    judge_end_user(&rule, &field, findings);
    judge_models(
        &rule,
        declared,
        route,
        references.backends,
        &field,
        findings,
    );
    Some(DraftRule {
        rule: Arc::new(rule),
        declared: index,
        matches: origins,
    })
}

/// Warns of references without an effect.
fn judge_references(declared: &RouteRule, field: &str, findings: &mut Findings) {
    let all = &declared.backend_refs;
    let field = format!("{field}.backendRefs");
    if !all.is_empty() && all.iter().all(|one| one.weight == 0) {
        let message = "have a weight of 0 each, so the gateway answers that there is no backend; raise one, or \
                       remove the rule";
        findings.note(&field, message);
    }
    for (i, one) in all.iter().enumerate() {
        let is_same = |other: &BackendRef| {
            let same = |what: fn(&BackendRef) -> &String| what(one) == what(other);
            same(|one| &one.name) && same(|one| &one.namespace) && same(|one| &one.deployment)
        };
        if all.iter().take(i).any(is_same) {
            let message = "names a deployment that is there before; keep one of them, with the weight of both";
            findings.note(format!("{field}[{i}]"), message);
        }
    }
}

/// The bounds on output tokens; one that is invalid is left out, and the route rejected.
fn output_tokens(declared: &RouteRule, field: &str, findings: &mut Findings) -> OutputTokens {
    let Some(crds::OutputTokens { default, max }) = declared.output_tokens else {
        return OutputTokens::default();
    };
    let field = format!("{field}.outputTokens");
    if default.is_none() && max.is_none() {
        let message = "sets no bound; set default, max or both, or remove it";
        findings.invalid(&field, message);
    }
    let mut bound = |name: &str, bound: Option<i64>| {
        let bound = bound?;
        let valid = u64::try_from(bound).ok();
        let valid = valid.filter(|valid| (1..=MAX_OUTPUT_TOKENS).contains(valid));
        if valid.is_none() {
            let message = format!("must be 1 to {MAX_OUTPUT_TOKENS}");
            findings.invalid(format!("{field}.{name}"), message);
        }
        valid
    };
    let bounds = OutputTokens {
        default: bound("default", default),
        max: bound("max", max),
    };
    if let (Some(default), Some(max)) = (bounds.default, bounds.max)
        && default > max
    {
        let message = format!("must not be larger than max ({max}); lower default or raise max");
        findings.invalid(format!("{field}.default"), message);
    }
    bounds
}

/// What keeps requests on one deployment; a header that is invalid keeps none, and the route is rejected.
/// The hosts of MCP servers. One that cannot be read admits nothing.
fn mcp_servers(
    declared: &RouteRule,
    field: &str,
    findings: &mut Findings,
) -> Option<Vec<HostPattern>> {
    let servers = &declared.mcp.as_ref()?.servers;
    let mut read = |(i, server): (usize, &String)| {
        let host = HostPattern::parse(server).filter(|_| is_hostname(&server.to_ascii_lowercase()));
        if host.is_none() {
            let message = "is not the host of a server; write mcp.example.com, or *.example.com";
            findings.invalid(format!("{field}.mcp.servers[{i}]"), message);
        }
        host
    };
    Some(servers.iter().enumerate().filter_map(&mut read).collect())
}

fn affinity(declared: &RouteRule, field: &str, findings: &mut Findings) -> Affinity {
    let crds::Affinity { type_, header } = &declared.affinity;
    let field = format!("{field}.affinity.header");
    match (type_, header) {
        (crds::AffinityType::Conversation, None) => Affinity::Conversation,
        (crds::AffinityType::None, None) => Affinity::None,
        (crds::AffinityType::Header, Some(name)) => match name.parse() {
            Ok(name) if is_credential(&name) => {
                findings.invalid(
                    field,
                    "is a credential, which is the same in all conversations of a caller; name a header that each \
                     conversation has of its own",
                );
                Affinity::None
            }
            Ok(name) => Affinity::Header(name),
            Err(_invalid) => {
                findings.invalid(field, "is not the name of a header; correct it");
                Affinity::None
            }
        },
        (crds::AffinityType::Header, None) => {
            findings.invalid(field, "is missing; name the header whose value decides");
            Affinity::None
        }
        (crds::AffinityType::Conversation | crds::AffinityType::None, Some(_)) => {
            findings.invalid(
                field,
                "has no effect without type Header; remove it, or set the type",
            );
            Affinity::None
        }
    }
}

/// The schema has the same names.
fn is_credential(name: &HeaderName) -> bool {
    const CREDENTIALS: [&str; 6] = [
        "authorization",
        "proxy-authorization",
        "api-key",
        "x-api-key",
        "ocp-apim-subscription-key",
        "cookie",
    ];
    CREDENTIALS.contains(&name.as_str())
}

/// Warns of deployments that look as if they shared the requests for a model, and get none: a reference without a
/// deployment means one for each model.
fn judge_models(
    rule: &Rule,
    declared: &RouteRule,
    route: &ObjectName,
    backends: &Backends<'_>,
    field: &str,
    findings: &mut Findings,
) {
    let patterns = || rule.matches.iter().flat_map(|one| &one.models);
    let is_asked = |model: &str| patterns().any(|pattern| pattern.matches(model));
    for (i, reference) in declared.backend_refs.iter().enumerate() {
        let namespace = reference.namespace.as_str();
        // A status must not show the contents of another namespace.
        if !reference.deployment.is_empty() || !["", route.namespace()].contains(&namespace) {
            continue;
        }
        let name = ObjectName::new(route.namespace(), reference.name.as_str());
        let Some(backend) = backends.usable(&name) else {
            continue;
        };
        let all = &backend.deployments;
        let idle = all.iter().find_map(|one| {
            let named = all.iter().find(|other| other.name == one.model);
            let used = named.or_else(|| all.iter().find(|other| other.model == one.model))?;
            let is_idle = used.name != one.name && is_asked(&one.model) && !is_asked(&one.name);
            is_idle.then_some((one, used))
        });
        if let Some((one, used)) = idle {
            let message = format!(
                "sends requests for model {:?} to deployment {} alone, and none to {}, which has that model too; \
                 name each of them in a reference of its own",
                one.model, used.name, one.name
            );
            findings.note(format!("{field}.backendRefs[{i}]"), message);
        }
    }
}

/// Warns of bounds that the models of the rule hardly serve.
fn judge_bounds(
    rule: &Rule,
    route: &ObjectName,
    backends: &Backends<'_>,
    field: &str,
    findings: &mut Findings,
) {
    let OutputTokens { default, max } = rule.output_tokens;
    let field = format!("{field}.outputTokens");
    // The stricter of the two is the one to mend; default is never above max.
    let (name, smallest) = match (default, max) {
        (_, Some(max)) if max < REASONING_NEEDS => ("max", max),
        (Some(default), _) => ("default", default),
        (None, Some(max)) => ("max", max),
        (None, None) => return,
    };
    let reasons = |deployment: &Deployment| is_reasoning(&deployment.model);
    if smallest < REASONING_NEEDS
        && let Some(one) = reached(rule, &[], backends, reasons).next()
    {
        let message = format!(
            "is {smallest}, and reasoning counts into it: {} may spend all of it before the first \
             word of its answer; set {REASONING_NEEDS} or more, or serve it by a rule of its own",
            shown(&one, route)
        );
        findings.note(format!("{field}.{name}"), message);
    }
    let mut all = reached(rule, &[], backends, |_| true);
    let too_small = all.find_map(|one| {
        let most = max_output_tokens(&one.deployment.model)?;
        // An embedding answers no tokens, and takes no bound.
        (most > 0 && default? > most).then_some((one, most))
    });
    if let (Some((one, most)), Some(default)) = (too_small, default) {
        let message = format!(
            "is {default}, and {} answers at most {most} tokens: a backend may refuse every request \
             without a bound of its own; lower it",
            shown(&one, route)
        );
        findings.note(format!("{field}.default"), message);
    }
}

/// Warns of an end user that no operation of the rule can name.
fn judge_end_user(rule: &Rule, field: &str, findings: &mut Findings) {
    let names_one = |operation: &names::Operation| {
        !matches!(
            operation,
            names::Operation::Audio
                | names::Operation::Moderations
                | names::Operation::Files
                | names::Operation::VectorStores
                | names::Operation::Containers
        )
    };
    let mut matches = rule.matches.iter();
    let is_named =
        matches.any(|one| one.operations.is_empty() || one.operations.iter().any(names_one));
    if rule.names_end_user && !is_named && !rule.matches.is_empty() {
        let message =
            "has no effect: no operation of the rule has a member for its end user; remove it";
        findings.note(format!("{field}.endUser"), message);
    }
}

/// A deployment as the status of `route` may name it: not what another namespace has.
fn shown(one: &Reached<'_>, route: &ObjectName) -> String {
    let (backend, deployment) = (one.backend, one.deployment);
    if backend.namespace() == route.namespace() {
        let (name, model) = (&deployment.name, &deployment.model);
        let model = if name == model {
            String::new()
        } else {
            format!(" ({model})")
        };
        format!("deployment {name}{model} of AIBackend {backend}")
    } else if one.named {
        format!("deployment {} of AIBackend {backend}", deployment.name)
    } else {
        format!("a deployment of AIBackend {backend}")
    }
}

fn retry(declared: &RouteRule, field: &str, findings: &mut Findings) -> Retry {
    let crds::Retry { attempts, when } = &declared.retry;
    let further = u8::try_from(*attempts)
        .ok()
        .filter(|_| *attempts <= MAX_ATTEMPTS);
    if further.is_none() {
        let message = format!("must be 0 to {MAX_ATTEMPTS}; 0 turns retries off");
        findings.invalid(format!("{field}.retry.attempts"), message);
    }
    if when.is_empty() {
        let message = "is empty; name a reason to try again, or set attempts: 0";
        findings.invalid(format!("{field}.retry.when"), message);
    }
    Retry {
        attempts: further.unwrap_or(0),
        on_too_many_requests: when.contains(&RetryWhen::TooManyRequests),
        on_server_error: when.contains(&RetryWhen::ServerError),
        on_connect_failure: when.contains(&RetryWhen::ConnectFailure),
        on_timeout: when.contains(&RetryWhen::Timeout) || declared.timeouts.first_token.is_some(),
        on_credential_refused: when.contains(&RetryWhen::CredentialRefused),
        on_not_there: when.contains(&RetryWhen::NotThere),
    }
}

/// One alternative with sorted lists; `None` if a part of it can't be parsed, since without that
/// part it would match more than declared.
fn alternative_of(
    declared: &RouteMatch,
    route: &ObjectName,
    field: &str,
    findings: &mut Findings,
) -> Option<Match> {
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
        consumers: consumers(&declared.consumers, route.namespace()),
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

/// The consumers that an object of `namespace` names.
pub(crate) fn consumers(declared: &crds::ConsumerMatch, namespace: &str) -> ConsumerMatch {
    let names = declared.names.iter();
    let mut names: Vec<_> = names.map(|name| consumer(name, namespace)).collect();
    names.sort();
    names.dedup();
    let attributes = declared.attributes.iter();
    let attributes = attributes.map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    ConsumerMatch {
        names,
        attributes: attributes.collect(),
    }
}

/// `namespace/name`; a bare name means a consumer of the object's own namespace, or a caller without a
/// Secret.
pub(crate) fn consumer(name: &str, namespace: &str) -> ConsumerName {
    if Caller::is_without_secret(name) {
        return ConsumerName::new("", name);
    }
    match name.split_once('/') {
        Some((namespace, name)) => ConsumerName::new(namespace, name),
        None => ConsumerName::new(namespace, name),
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
        Operation::Moderations => names::Operation::Moderations,
        Operation::Realtime => names::Operation::Realtime,
        Operation::Files => names::Operation::Files,
        Operation::VectorStores => names::Operation::VectorStores,
        Operation::Containers => names::Operation::Containers,
        Operation::Batches => names::Operation::Batches,
        Operation::Agents => names::Operation::Agents,
        Operation::Models => names::Operation::Models,
    }
}
