use http::{Request, StatusCode, request::Parts};

use super::*;
use crate::surface::Surface;

fn parts(method: &str, uri: &str) -> Parts {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .unwrap()
        .into_parts()
        .0
}

/// The surface, the operation and the first id.
type Found<'a> = (Surface<'a>, &'static str, &'a str);

fn check(method: &str, uri: &str, expect: Result<Found<'_>, StatusCode>) {
    let parts = parts(method, uri);
    let query = parts.uri.query().unwrap_or_default();
    let found = Place::of(parts.uri.path(), query).and_then(|place| {
        let (route, [id, _]) = find(&parts.method, &place)?;
        Ok((place.surface, route.operation, id))
    });
    let found = found.map_err(|failure| failure.status);
    assert_eq!(found, expect, "{method} {uri}");
}

const DATED: Surface<'_> = Surface::Dated {
    version: "2024-10-21",
};

#[test]
fn finds_every_surface() {
    let chat = "ChatCompletions_Create";
    let named = Surface::Deployment {
        name: "d",
        version: "2024-10-21",
    };
    let dated = "/openai/deployments/d/chat/completions?x=1&api-version=2024-10-21";
    check("POST", dated, Ok((named, chat, "")));
    check(
        "POST",
        "/openai/v1/chat/completions",
        Ok((Surface::V1, chat, "")),
    );
    let preview = "/openai/v1/chat/completions?api-version=preview";
    check("POST", preview, Ok((Surface::V1, chat, "")));
    check(
        "GET",
        "/openai/v1/models",
        Ok((Surface::V1, "Models_List", "")),
    );
    check(
        "GET",
        "/openai/v1/models/m",
        Ok((Surface::V1, "Models_Get", "m")),
    );
    let models = "/openai/models?api-version=2024-10-21";
    check("GET", models, Ok((DATED, "Models_List", "")));
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
    let takes = |version| Surface::Dated { version }.has_stream_options();
    assert!(!takes("2024-06-01"));
    assert!(!takes("2024-08-01-preview"));
    assert!(takes("2024-09-01-preview"));
    assert!(takes("2024-10-21"));
    assert!(Surface::V1.has_stream_options());
}
