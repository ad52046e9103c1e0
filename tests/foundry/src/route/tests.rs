use http::{Request, StatusCode};

use super::*;

fn parts(method: &str, uri: &str) -> Parts {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn check(method: &str, uri: &str, expect: Result<(Dialect<'_>, Target<'_>), StatusCode>) {
    let parts = parts(method, uri);
    let found = route(&parts).map_err(|failure| failure.status);
    assert_eq!(found, expect, "{method} {uri}");
}

const DATED: Dialect<'_> = Dialect::Dated {
    version: "2024-10-21",
};

#[test]
fn finds_every_surface() {
    let chat = |deployment| Target::Chat { deployment };
    let dated = "/openai/deployments/d/chat/completions?x=1&api-version=2024-10-21";
    check("POST", dated, Ok((DATED, chat(Some("d")))));
    check(
        "POST",
        "/openai/v1/chat/completions",
        Ok((Dialect::V1, chat(None))),
    );
    let preview = "/openai/v1/chat/completions?api-version=preview";
    check("POST", preview, Ok((Dialect::V1, chat(None))));
    check(
        "GET",
        "/openai/v1/models",
        Ok((Dialect::V1, Target::Models)),
    );
    check(
        "GET",
        "/openai/v1/models/m",
        Ok((Dialect::V1, Target::Model { name: "m" })),
    );
    check(
        "GET",
        "/openai/models?api-version=2024-10-21",
        Ok((DATED, Target::Models)),
    );
}

#[test]
fn knows_nothing_else() {
    let missing = Err(StatusCode::NOT_FOUND);
    check("POST", "/openai/deployments/d/chat/completions", missing);
    check(
        "POST",
        "/openai/deployments/d/chat/completions?api-version=v1",
        missing,
    );
    check(
        "GET",
        "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        missing,
    );
    check(
        "POST",
        "/openai/deployments/d/nothing?api-version=2024-10-21",
        missing,
    );
    check("GET", "/openai/models", missing);
    check("POST", "/openai/v1/models", missing);
    check("POST", "/v1/chat/completions", missing);
    let unknown = "/openai/v1/chat/completions?api-version=2024-10-21";
    check("POST", unknown, Err(StatusCode::BAD_REQUEST));
}

#[test]
fn takes_stream_options_from_september_2024_on() {
    let takes = |version| Dialect::Dated { version }.has_stream_options();
    assert!(!takes("2024-06-01"));
    assert!(!takes("2024-08-01-preview"));
    assert!(takes("2024-09-01-preview"));
    assert!(takes("2024-10-21"));
    assert!(Dialect::V1.has_stream_options());
}
