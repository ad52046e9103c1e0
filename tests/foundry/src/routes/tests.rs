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
fn finds_what_has_ids_in_its_path() {
    let item = "/openai/v1/conversations/conv_1/items/msg_2";
    let parts = parts("GET", item);
    let place = Place::of(parts.uri.path(), "").unwrap();
    let (route, ids) = find(&parts.method, &place).unwrap();
    assert_eq!(
        (route.operation, ids),
        ("Conversations_GetItem", ["conv_1", "msg_2"])
    );
    let version = "2025-04-01-preview";
    let cancel = "/openai/responses/resp_1/cancel?api-version=2025-04-01-preview";
    let dated = Surface::Dated { version };
    check("POST", cancel, Ok((dated, "Responses_Cancel", "resp_1")));
    check(
        "POST",
        "/openai/v1/responses//cancel",
        Err(StatusCode::NOT_FOUND),
    );
    let deployment = "/openai/deployments/d?api-version=2024-10-21";
    check("GET", deployment, Ok((DATED, "Deployments_Get", "d")));
}

#[test]
fn finds_projects_and_anthropic() {
    let create = "Responses_Create";
    check(
        "POST",
        "/api/projects/p/openai/v1/responses",
        Ok((Surface::V1, create, "")),
    );
    let v1 = Surface::Dated { version: "v1" };
    let dated = "/api/projects/p/openai/responses?api-version=v1";
    check("POST", dated, Ok((v1, create, "")));
    let place = Place::of("/api/projects/p/openai/v1/responses", "").unwrap();
    assert_eq!(place.project, Some("p"));
    let beta = "/anthropic/v1/messages?beta=true";
    check(
        "POST",
        beta,
        Ok((Surface::Anthropic, "Messages_Create", "")),
    );
    for missing in [
        "/api/projects/p",
        "/api/projects/p/responses",
        "/anthropic/v1/complete",
    ] {
        check("POST", missing, Err(StatusCode::NOT_FOUND));
    }
}

#[test]
fn no_row_hides_another() {
    for route in ROUTES {
        let path = route.path.replace("{}", "x");
        let found = ROUTES.iter().find(|other| {
            other.method == route.method
                && other.on.iter().any(|kind| route.on.contains(kind))
                && ids(other.path, &path).is_some()
        });
        assert_eq!(found.unwrap().operation, route.operation, "{path}");
    }
    let mut names: Vec<&str> = ROUTES.iter().map(|route| route.operation).collect();
    names.sort_unstable();
    assert!(
        names.array_windows().all(|[a, b]| a != b),
        "faults choose by name"
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
fn a_version_lacks_what_came_after_it() {
    let missing = StatusCode::NOT_FOUND;
    for (path, first, last_without, status) in [
        (
            "responses",
            "2025-03-01-preview",
            "2024-10-21",
            StatusCode::BAD_REQUEST,
        ),
        (
            "responses/resp_1/cancel",
            "2025-03-01-preview",
            "2025-02-01-preview",
            StatusCode::BAD_REQUEST,
        ),
        (
            "deployments/d/images/edits",
            "2025-04-01-preview",
            "2025-03-01-preview",
            missing,
        ),
        (
            "uploads",
            "2024-08-01-preview",
            "2024-07-01-preview",
            missing,
        ),
        (
            "deployments/d/audio/speech",
            "2024-02-15-preview",
            "2024-02-01",
            missing,
        ),
        (
            "deployments/d/images/generations",
            "2023-12-01-preview",
            "2023-05-15",
            missing,
        ),
        (
            "deployments/d/audio/transcriptions",
            "2023-09-01-preview",
            "2023-05-15",
            missing,
        ),
    ] {
        let found = |version: &str| {
            let parts = parts("POST", &format!("/openai/{path}?api-version={version}"));
            let query = parts.uri.query().unwrap_or_default();
            let place = Place::of(parts.uri.path(), query)?;
            find(&parts.method, &place).map(|(route, _)| route.operation)
        };
        assert!(found(first).is_ok(), "{path} {first}");
        let refused = found(last_without).map_err(|failure| failure.status);
        assert_eq!(refused, Err(status), "{path} {last_without}");
    }
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
