//! A rule of a route.

use proxy_core::names::Class;
use proxy_core::route::{HostPattern, Match};
use proxy_core::table::{Affinity, OutputTokens, Retry, Rule, Target};

use super::text::{consumer_match, line, list};

pub(super) fn rule(out: &mut String, rule: &Rule) {
    let Rule {
        name,
        matches,
        targets,
        output_tokens,
        retry,
        request_timeout,
        first_token_timeout,
        allows_unmetered,
        shows_backend,
        names_end_user,
        mcp_servers,
        affinity,
        class,
    } = rule;
    line(out, 1, format_args!("rule {name}"));
    matches.iter().for_each(|one| alternative_of(out, one));
    for target in targets {
        let Target {
            backend,
            deployment,
            weight,
            priority,
        } = target;
        let deployment = deployment.as_deref().unwrap_or("by model");
        line(
            out,
            2,
            format_args!("-> {backend} {deployment}, weight {weight}, priority {priority}"),
        );
    }
    let OutputTokens { default, max } = output_tokens;
    if default.is_some() || max.is_some() {
        line(
            out,
            2,
            format_args!("output tokens: default {default:?}, max {max:?}"),
        );
    }
    preferences(out, affinity, *class, mcp_servers.as_deref());
    for (is_set, text) in [
        (shows_backend, "headers of backends"),
        (names_end_user, "consumers as end users"),
        (allows_unmetered, "unmetered operations"),
    ] {
        if *is_set {
            line(out, 2, text);
        }
    }
    let Retry {
        attempts,
        on_too_many_requests,
        on_server_error,
        on_connect_failure,
        on_timeout,
        on_credential_refused,
        on_not_there,
    } = retry;
    let on = [
        (on_too_many_requests, "429"),
        (on_server_error, "5xx"),
        (on_connect_failure, "connect"),
        (on_timeout, "timeout"),
        (on_credential_refused, "credential"),
        (on_not_there, "not-there"),
    ];
    let on: Vec<&str> = on
        .into_iter()
        .filter(|(on, _)| **on)
        .map(|(_, word)| word)
        .collect();
    line(
        out,
        2,
        format_args!(
            "retry {attempts} on {}; request {request_timeout:?}, first token \
             {first_token_timeout:?}",
            on.join(" ")
        ),
    );
}

fn preferences(
    out: &mut String,
    affinity: &Affinity,
    class: Class,
    servers: Option<&[HostPattern]>,
) {
    if let Some(servers) = servers {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        line(out, 2, format_args!("MCP servers: {}", servers.join(", ")));
    }
    match affinity {
        Affinity::Conversation => {}
        Affinity::Header(name) => line(out, 2, format_args!("affinity: header {name}")),
        Affinity::None => line(out, 2, format_args!("affinity: none")),
    }
    if class != Class::Standard {
        line(out, 2, format_args!("class: {}", class.as_str()));
    }
}

fn alternative_of(out: &mut String, alternative: &Match) {
    let Match {
        models,
        operations,
        headers,
        consumers,
    } = alternative;
    let operations = operations.iter().map(|operation| operation.as_str());
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    line(
        out,
        2,
        format_args!(
            "match models: {}; operations: {}; headers: {}; {}",
            list(models),
            list(operations),
            list(headers),
            consumer_match(consumers)
        ),
    );
}
