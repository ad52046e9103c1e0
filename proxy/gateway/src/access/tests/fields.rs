//! The page that says what each field means.

use std::fmt::Write;

use expect_test::expect_file;
use proxy_admin::telemetry::Format;
use proxy_core::names::Class;
use serde_json::Value;

use super::{Entry, FULL_ENTRY, limits, retried, written};

/// Of every field: its name, its unit or form, when it is there if not always, and what it means. In the order of
/// a line.
const FIELDS: [(&str, &str, &str, &str); 48] = [
    ("timestamp", "RFC 3339, UTC", "", "when the request ended"),
    ("level", "word", "", "`INFO`"),
    ("message", "word", "", "`request`"),
    (
        "v",
        "number",
        "",
        "the version of these fields: 2. A line without it has version 1",
    ),
    (
        "request_id",
        "text",
        "",
        "the `x-request-id` of the client if it is one word, else a new one; the answer has it too",
    ),
    (
        "client",
        "IP address",
        "",
        "who sent it: the peer of the connection, or what `--trusted-hops` and `--proxy-protocol` say",
    ),
    ("protocol", "word", "", "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`"),
    ("method", "text", "", "as sent"),
    ("host", "text", "", "as sent, with its port"),
    ("path", "text", "", "without the query, the first 256 bytes"),
    (
        "user_agent",
        "text",
        "the client sent one",
        "the first 160 bytes",
    ),
    (
        "dialect",
        "word",
        "the path is served",
        "`OpenAI` or `Anthropic`: the shape of errors",
    ),
    (
        "operation",
        "word",
        "the path is served",
        "`ChatCompletions` and so on, as in `operations` of an AIRoute",
    ),
    (
        "model",
        "text",
        "the request named one",
        "as the client named it",
    ),
    (
        "consumer",
        "namespace/name",
        "the caller is known",
        "who is charged; `key-` and digits for a key without a Secret",
    ),
    ("route", "namespace/name", "a rule took it", "the AIRoute"),
    ("rule", "text", "a rule took it", "the rule of the route"),
    (
        "class",
        "word",
        "it is not `Standard`",
        "`Interactive` or `Batch`: of the rule, or lowered by the attribute `class` of the consumer",
    ),
    (
        "backend",
        "namespace/name",
        "an endpoint was tried",
        "the AIBackend of the last try",
    ),
    (
        "deployment",
        "text",
        "an endpoint was tried",
        "its deployment",
    ),
    (
        "status",
        "number",
        "",
        "of the answer; 0 if the client left before it",
    ),
    (
        "code",
        "word",
        "",
        "`ok`, `upstream_error`, `client_aborted`, or a word of [errors.md](../errors.md)",
    ),
    (
        "limit",
        "namespace/quota/limit",
        "a limit refused it",
        "which one",
    ),
    (
        "shadow_limits",
        "list of limits",
        "one would have refused",
        "the limits in mode `Shadow` that would have refused it",
    ),
    (
        "stream",
        "true, false",
        "",
        "the request asked for a stream",
    ),
    (
        "held_input_tokens",
        "tokens",
        "it was admitted",
        "the estimate: reserved for the input",
    ),
    (
        "held_output_tokens",
        "tokens",
        "it was admitted",
        "reserved for the output",
    ),
    (
        "input_tokens",
        "tokens",
        "",
        "settled, cached ones included",
    ),
    (
        "cached_input_tokens",
        "tokens",
        "",
        "the part of the input that the backend had in its cache",
    ),
    (
        "cache_write_tokens",
        "tokens",
        "there are some",
        "the part of the input that the backend put into its cache",
    ),
    ("output_tokens", "tokens", "", "settled, reasoning included"),
    (
        "reasoning_tokens",
        "tokens",
        "there are some",
        "the part of the output that is reasoning",
    ),
    (
        "cost_micros",
        "millionths of the currency",
        "tokens were settled that have a price",
        "what they cost",
    ),
    (
        "cost",
        "word",
        "tokens were settled that have none",
        "`unknown`",
    ),
    (
        "estimated",
        "true, false",
        "",
        "the settled tokens are an estimate: the answer had no usage, or none that can be true",
    ),
    (
        "bytes_in",
        "bytes",
        "",
        "of the request's body; 0 if it was refused before that was read",
    ),
    (
        "bytes_out",
        "bytes",
        "",
        "of the answer's body, as far as it was passed on",
    ),
    ("tries", "number", "", "endpoints that were tried"),
    (
        "attempts",
        "list",
        "a try failed",
        "every try in order, as below",
    ),
    ("attempts[].backend", "namespace/name", "", "the AIBackend"),
    ("attempts[].deployment", "text", "", "its deployment"),
    (
        "attempts[].status",
        "number",
        "an answer came",
        "of that answer",
    ),
    (
        "attempts[].cause",
        "word",
        "it failed",
        "`upstream_error`, or a word of [errors.md](../errors.md)",
    ),
    (
        "attempts[].error",
        "text",
        "no answer came",
        "what the system or the peer said, the first 200 bytes",
    ),
    (
        "attempts[].ms",
        "ms",
        "",
        "from the begin of the try to the head of the answer, or the failure",
    ),
    (
        "upstream_request_id",
        "text",
        "the backend sent one",
        "its `apim-request-id`, else `x-request-id`, `request-id` or `x-ms-request-id`: what its support asks for",
    ),
    (
        "upstream_ms",
        "ms",
        "an endpoint answered",
        "from the begin of the last try to the head of its answer, connecting included",
    ),
    (
        "first_byte_ms",
        "ms",
        "an endpoint answered",
        "from the head of the request to the head of the answer",
    ),
];
const LAST: [(&str, &str, &str, &str); 2] = [
    (
        "duration_ms",
        "ms",
        "",
        "from the head of the request to the end of the answer",
    ),
    (
        "target",
        "word",
        "",
        "`access`, by which `--log-level` chooses these lines",
    ),
];

#[test]
fn every_field_of_a_line_is_in_the_page_in_this_order() {
    let ((detail, attempts), limits) = (retried(Format::Json), limits());
    let all = Entry {
        head: detail.head(),
        upstream_id: detail.upstream_id(),
        limit: limits.first(),
        shadow_limits: &limits,
        attempts: &attempts,
        cache_write_tokens: 1,
        reasoning_tokens: 1,
        unpriced: true,
        class: Class::Batch,
        ..FULL_ENTRY
    };
    let line = written(Format::Json, &all);
    let value: Value = serde_json::from_str(&line).expect("JSON");
    let fields = value.as_object().expect("an object").len();
    let named = FIELDS.iter().chain(&LAST).map(|field| field.0);
    let (nested, own): (Vec<&str>, Vec<&str>) = named.partition(|name| name.contains("[]."));
    assert_eq!(own.len(), fields, "{line}");
    let mut rest = line.as_str();
    for name in own {
        let at = rest.find(&format!("\"{name}\":"));
        rest = &rest[at.unwrap_or_else(|| panic!("{name} is not behind the field before it"))..];
    }
    let tries = value["attempts"].as_array().expect("a list");
    for name in nested {
        let (_, name) = name.split_once("[].").expect("a part");
        assert!(tries.iter().any(|one| one.get(name).is_some()), "{name}");
    }
}

#[test]
fn the_page_of_fields_is_current() {
    let mut page = String::from(
        "# Fields of the access log\n\nGenerated from the code. A field without a condition is in every line; \
         of a client that sent what is no HTTP, only `client` is known. In text form, lists are one text.\n\n\
         | field | unit or form | there if | meaning |\n|---|---|---|---|\n",
    );
    for (name, unit, condition, meaning) in FIELDS.iter().chain(&LAST) {
        writeln!(page, "| `{name}` | {unit} | {condition} | {meaning} |").expect("a string");
    }
    expect_file!["../../../../../docs/access-log/fields.md"].assert_eq(&page);
}
