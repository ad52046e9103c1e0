use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use proxy_api::{Answer, Call, ROWS};
use proxy_core::names::Secret;
use proxy_core::table::{Backend, BackendAuth, BackendKind};
use proxy_core::test_util;

use super::{Destination, Origin, Outgoing, Peer};
use crate::credential;

fn chat() -> &'static Call {
    let Answer::Backend(call) = &ROWS[0].answer else {
        panic!("the first row is chat")
    };
    call
}

fn backend(kind: BackendKind, endpoint: &str, version: Option<&str>, auth: BackendAuth) -> Origin {
    let backend = Backend {
        kind,
        endpoint: endpoint.into(),
        api_version: version.map(Arc::from),
        auth,
        ..test_util::backend("b")
    };
    Origin::of(&backend, ROWS, |name| Arc::new(Peer::new(name))).expect("a good backend")
}

fn foundry(version: Option<&str>) -> Origin {
    backend(
        BackendKind::Foundry,
        "https://f.example/",
        version,
        BackendAuth::None,
    )
}

#[test]
fn speaks_as_the_client_did_or_as_pinned() {
    let dated = foundry(None)
        .destination(chat(), "a/b", Some("2024-10-21"))
        .expect("a path");
    assert_eq!(
        dated.path,
        "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"
    );
    assert!(!dated.model_in_body && dated.asks_usage);
    let v1 = foundry(None)
        .destination(chat(), "d", None)
        .expect("a path");
    assert_eq!(
        (v1.path.as_str(), v1.model_in_body),
        ("/openai/v1/chat/completions", true)
    );
    let pinned = foundry(Some("2024-06-01"))
        .destination(chat(), "d", Some("preview"))
        .expect("a path");
    assert!(
        pinned
            .path
            .as_str()
            .ends_with("/deployments/d/chat/completions?api-version=2024-06-01")
    );
    assert!(!pinned.asks_usage, "older than stream_options");
    let preview = foundry(None)
        .destination(chat(), "d", Some("preview"))
        .expect("a path");
    assert_eq!(
        preview.path,
        "/openai/v1/chat/completions?api-version=preview"
    );
}

#[test]
fn an_openai_compatible_server_gets_its_one_path() {
    let path = |endpoint: &str| {
        let kind = BackendKind::OpenAiCompatible;
        backend(kind, endpoint, None, BackendAuth::None)
            .destination(chat(), "d", Some("2024-10-21"))
            .expect("a path")
            .path
    };
    assert_eq!(path("http://vllm:8000"), "/v1/chat/completions");
    assert_eq!(path("https://api.example/v1"), "/v1/chat/completions");
    assert_eq!(path("https://api.example/llm/"), "/llm/v1/chat/completions");
}

/// The headers as they leave on HTTP/2. On HTTP/1.1 it is the same, and the lines that only it has.
fn sent(origin: &Origin, client: &HeaderMap) -> HeaderMap {
    let destination = Destination {
        path: "/x".parse().expect("a path"),
        model_in_body: true,
        asks_usage: true,
    };
    let shown = credential::shown(client).expect("good headers");
    let id = HeaderValue::from_static("id");
    let outgoing = Outgoing {
        destination,
        client,
        shown: shown.first(),
        request_id: &id,
        length: 4,
        body: &|| None,
    };
    let headers = origin.request(&outgoing, ()).headers().clone();
    let mut head = Vec::new();
    origin.write_head(&outgoing, &mut head);
    let head = String::from_utf8(head).expect("only text was given");
    let lines = head.strip_suffix("\r\n\r\n").expect("an end").split("\r\n");
    let mut lines: Vec<_> = lines.collect();
    let mut same = vec![
        "POST /x HTTP/1.1".to_owned(),
        "content-length: 4".to_owned(),
        "host: f.example".to_owned(),
    ];
    same.extend(
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))),
    );
    lines.sort_unstable();
    same.sort_unstable();
    assert_eq!(lines, same);
    headers
}

#[test]
fn only_allowed_headers_and_one_credential_leave() {
    let mut client = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer client"),
        ("x-api-key", "client"),
        ("cookie", "c"),
        ("x-stainless-lang", "python"),
        ("x-ms-spillover-deployment", "other"),
        ("content-type", "application/json"),
        ("accept-encoding", "gzip"),
        ("x-policy-id", "StrictForMinors"),
        ("aoai-evals", "preview"),
        ("connection", "aoai-evals, authorization"),
    ] {
        client.insert(name, HeaderValue::from_static(value));
    }
    let key = BackendAuth::ApiKey(Secret::new("backend"));
    let left = sent(
        &backend(BackendKind::Foundry, "https://f.example", None, key),
        &client,
    );
    let mut names: Vec<_> = left.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept-encoding",
            "api-key",
            "content-type",
            "x-ms-client-request-id",
            "x-policy-id"
        ]
    );
    assert_eq!(left["api-key"], "backend");
    assert!(left["api-key"].is_sensitive());
}

#[test]
fn pass_through_sends_the_clients_credential_in_its_own_form() {
    let origin = backend(
        BackendKind::Foundry,
        "https://f.example",
        None,
        BackendAuth::PassThrough,
    );
    let mut client = HeaderMap::new();
    client.insert("authorization", HeaderValue::from_static("Bearer token"));
    let left = sent(&origin, &client);
    assert_eq!(left["authorization"], "Bearer token");
    assert!(!left.contains_key("api-key"));
}

#[test]
fn a_header_leaves_once_and_the_last_text_of_it() {
    let mut client = HeaderMap::new();
    for (name, value) in [
        ("accept", "a"),
        ("x-ms-client-request-id", "own"),
        ("accept", "b"),
        ("accept", "\u{e9}"),
        ("content-type", "c"),
    ] {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        client.append(name, value);
    }
    let left = sent(&foundry(None), &client);
    let mut pairs: Vec<_> = left
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
        .collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            ("accept", "b"),
            ("accept-encoding", "identity"),
            ("content-type", "c"),
            ("x-ms-client-request-id", "own")
        ]
    );
}

#[test]
fn the_host_is_without_a_user_and_without_the_usual_port() {
    let authority = |endpoint| {
        let origin = backend(BackendKind::Foundry, endpoint, None, BackendAuth::None);
        origin.peer.name.authority.to_string()
    };
    assert_eq!(authority("https://f.example:443/x"), "f.example");
    assert_eq!(authority("http://f.example:443"), "f.example:443");
    assert_eq!(authority("http://f.example:80"), "f.example");
    assert_eq!(
        authority("https://user:pass@f.example:8443"),
        "f.example:8443"
    );
    assert_eq!(authority("http://[::1]:80"), "[::1]");
    assert_eq!(authority("http://[::1]:8080"), "[::1]:8080");
}

#[test]
fn no_form_of_an_origin_shows_its_credential() {
    let key = BackendAuth::ApiKey(Secret::new("very-secret"));
    let origin = backend(BackendKind::Foundry, "https://f.example", None, key);
    assert!(!format!("{origin:?}").contains("very-secret"));
}
