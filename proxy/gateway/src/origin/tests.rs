use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_api::{Answer, Call, Dialect, ROWS};
use proxy_core::names::{Operation, Secret};
use proxy_core::table::{Backend, BackendAuth, BackendKind, Identity, Principal};
use proxy_core::test_util;
use proxy_identity::{Bearer, Identities};

use super::{Destination, InvalidBackend, Origin, Outgoing, Peer};
use crate::credential;
use crate::fields::Fields;
use crate::test_support::no_identity;

fn chat() -> &'static Call {
    let Answer::Backend(call) = &ROWS[0].answer else {
        panic!("the first row is chat")
    };
    call
}

/// The first row of an operation.
fn call(operation: Operation) -> &'static Call {
    let rows = ROWS.iter().filter(|row| row.operation == operation);
    let mut calls = rows.filter_map(|row| row.answer.call());
    calls.next().expect("it is served")
}

fn backend(kind: BackendKind, endpoint: &str, version: Option<&str>, auth: BackendAuth) -> Origin {
    let backend = Backend {
        kind,
        endpoint: endpoint.into(),
        api_version: version.map(Arc::from),
        auth,
        ..test_util::backend("b")
    };
    Origin::of(&backend, ROWS, None, |name| Arc::new(Peer::new(name))).expect("a good backend")
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
        .destination(chat(), "a/b", Some("2024-10-21"), None)
        .expect("a path");
    assert_eq!(
        dated.path,
        "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"
    );
    assert!(!dated.model_in_body && dated.asks_usage);
    let v1 = foundry(None)
        .destination(chat(), "d", None, None)
        .expect("a path");
    assert_eq!(
        (v1.path.as_str(), v1.model_in_body),
        ("/openai/v1/chat/completions", true)
    );
    let pinned = foundry(Some("2024-06-01"))
        .destination(chat(), "d", Some("preview"), None)
        .expect("a path");
    assert!(
        pinned
            .path
            .as_str()
            .ends_with("/deployments/d/chat/completions?api-version=2024-06-01")
    );
    assert!(!pinned.asks_usage, "older than stream_options");
    let preview = foundry(None)
        .destination(chat(), "d", Some("preview"), None)
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
            .destination(chat(), "d", Some("2024-10-21"), None)
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
        dialect: Dialect::OpenAi,
        path: "/x".parse().expect("a path"),
        model_in_body: true,
        asks_usage: true,
        is_dated: false,
    };
    let shown = credential::shown(&Fields::of(client)).expect("good headers");
    let id = HeaderValue::from_static("id");
    let outgoing = Outgoing {
        method: &Method::POST,
        destination,
        client,
        shown: shown.first(),
        bearer: None,
        request_id: &id,
        length: 4,
        body: &|| None,
        goes_once: false,
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
fn a_second_deployment_is_one_of_the_backends() {
    let declared = Backend {
        endpoint: "https://f.example".into(),
        deployments: vec![test_util::deployment("pictures", "gpt-image-2")],
        ..test_util::backend("b")
    };
    let origin = Origin::of(&declared, ROWS, None, |name| Arc::new(Peer::new(name)));
    let origin = origin.expect("a good backend");
    for (name, goes) in [("pictures", true), ("dear", false)] {
        let mut client = HeaderMap::new();
        client.insert(super::IMAGES, HeaderValue::from_static(name));
        assert_eq!(sent(&origin, &client).contains_key(super::IMAGES), goes);
    }
}

#[test]
fn no_more_headers_leave_than_foundry_takes() {
    let mut client = HeaderMap::new();
    client.insert("content-type", HeaderValue::from_static("text/plain"));
    for number in 0..30 {
        let name = format!("aoai-{number}").parse::<http::HeaderName>();
        client.insert(name.expect("a name"), HeaderValue::from_static("on"));
    }
    let left = sent(&foundry(None), &client);
    assert!(left.contains_key("content-type"));
    let own = left.keys().filter(|name| name.as_str().contains("aoai-"));
    assert_eq!(own.count(), 9);
    assert!(left.contains_key("x-ms-client-request-id"), "the tenth");
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

#[test]
fn each_family_has_its_own_paths() {
    let compatible = backend(
        BackendKind::OpenAiCompatible,
        "http://vllm:8000/v1",
        None,
        BackendAuth::None,
    );
    let foundry = foundry(None);
    for (operation, dated, undated, at_others) in [
        (
            Operation::Embeddings,
            "/openai/deployments/d/embeddings?api-version=2025-04-01-preview",
            "/openai/v1/embeddings",
            "/v1/embeddings",
        ),
        (
            Operation::Responses,
            "/openai/responses?api-version=2025-04-01-preview",
            "/openai/v1/responses",
            "/v1/responses",
        ),
        // Anthropic's API has no dates.
        (
            Operation::Messages,
            "/anthropic/v1/messages",
            "/anthropic/v1/messages",
            "/v1/messages",
        ),
    ] {
        let call = call(operation);
        let path = |origin: &Origin, version| {
            let destination = origin
                .destination(call, "d", version, None)
                .expect("a path");
            let in_body = destination.model_in_body;
            assert_eq!(in_body, !destination.path.path().contains("/deployments/"));
            destination.path
        };
        assert_eq!(path(&foundry, Some("2025-04-01-preview")), dated);
        assert_eq!(path(&foundry, None), undated);
        assert_eq!(path(&compatible, None), at_others);
    }
}

#[test]
fn each_dialect_has_its_own_header_for_the_key() {
    let key = || BackendAuth::ApiKey(Secret::new("s3cret"));
    let line = |kind, operation| {
        let origin = backend(kind, "https://f.example", None, key());
        let destination = origin.destination(call(operation), "d", None, None);
        let outgoing = Outgoing {
            method: &Method::POST,
            destination: destination.expect("a path"),
            client: &HeaderMap::new(),
            shown: None,
            bearer: None,
            request_id: &HeaderValue::from_static("id"),
            length: 2,
            body: &|| None,
            goes_once: false,
        };
        let request = origin.request(&outgoing, ());
        let mut head = Vec::new();
        origin.write_head(&outgoing, &mut head);
        let head = String::from_utf8(head).expect("text");
        let mut lines = head.lines().filter(|line| line.contains("s3cret"));
        let line = lines.next().expect("the key").to_owned();
        let (name, value) = line.split_once(": ").expect("a header");
        assert_eq!(lines.next(), None);
        assert_eq!(
            request.headers().get(name).map(HeaderValue::as_bytes),
            Some(value.as_bytes())
        );
        line
    };
    let foundry = BackendKind::Foundry;
    assert_eq!(line(foundry, Operation::Responses), "api-key: s3cret");
    assert_eq!(line(foundry, Operation::Messages), "x-api-key: s3cret");
    let other = BackendKind::OpenAiCompatible;
    let bearer = "authorization: Bearer s3cret";
    assert_eq!(line(other, Operation::Messages), bearer);
}

#[test]
fn a_token_is_shown_on_both_protocols_and_never_by_debug() {
    let identity = Identity {
        principal: Principal::Managed { client_id: None },
        scope: "https://ai.azure.com/.default".into(),
    };
    let metrics = proxy_identity::Metrics::register(&mut Registry::default());
    let identities = Identities::new(no_identity(), metrics);
    let credential = identities.credential(&identity, None);
    let declared = Backend {
        auth: BackendAuth::Identity(identity),
        endpoint: "https://f.example".into(),
        ..test_util::backend("b")
    };
    let without = Origin::of(&declared, ROWS, None, |name| Arc::new(Peer::new(name)));
    assert!(matches!(without, Err(InvalidBackend::Identity)));
    let peer = |name| Arc::new(Peer::new(name));
    let origin = Origin::of(&declared, ROWS, Some(&credential), peer).expect("a good backend");
    let token = Secret::new("eyJ.s3cret");
    let bearer = Bearer::new(&token, clock::instant()).expect("text");
    for operation in [Operation::ChatCompletions, Operation::Messages] {
        let destination = origin.destination(call(operation), "d", None, None);
        let outgoing = Outgoing {
            method: &Method::POST,
            destination: destination.expect("a path"),
            client: &HeaderMap::new(),
            shown: None,
            bearer: Some(Arc::new(bearer.clone())),
            request_id: &HeaderValue::from_static("id"),
            length: 2,
            body: &|| None,
            goes_once: false,
        };
        let request = origin.request(&outgoing, ());
        let value = &request.headers()["authorization"];
        assert_eq!(value, "Bearer eyJ.s3cret");
        assert!(value.is_sensitive());
        let mut head = Vec::new();
        origin.write_head(&outgoing, &mut head);
        let head = String::from_utf8(head).expect("only text was given");
        let lines = head.matches("authorization: Bearer eyJ.s3cret\r\n");
        assert_eq!(lines.count(), 1, "{head}");
        assert!(!head.contains("api-key"), "{head}");
    }
    assert!(!format!("{origin:?}{bearer:?}").contains("s3cret"));
}
