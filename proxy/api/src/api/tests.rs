use http::Method;
use proptest::prelude::*;
use proxy_core::names::Operation;

use super::{Answer, Api, Found, Named, Other, Unserved, Upstream, find, is_dated, lacking};
use crate::error::Dialect;
use crate::path::encode;
use crate::rows::ROWS;

fn post(path: &str) -> Result<Found, Unserved> {
    find(ROWS, &Method::POST, path)
}

fn check(found: Result<Found, Unserved>, operation: Operation, model: Option<&str>) {
    let found = found.expect("it is served");
    assert_eq!(found.api.operation, operation);
    assert_eq!(found.model.as_deref(), model);
}

#[test]
fn knows_the_paths_that_clients_build() {
    for (path, model) in [
        (
            "/openai/deployments/gpt-4o/chat/completions",
            Some("gpt-4o"),
        ),
        (
            "/openai/deployments/a%2Fb%3F/chat/completions",
            Some("a/b?"),
        ),
        ("/openai/v1/chat/completions", None),
        ("/v1/chat/completions", None),
        ("/openai/v1/deployments/m/chat/completions", Some("m")),
        ("/v1/deployments/m/chat/completions", Some("m")),
    ] {
        check(post(path), Operation::ChatCompletions, model);
    }
    for (path, model) in [
        ("/v1/models", None),
        ("/openai/models", None),
        ("/openai/v1/models", None),
        ("/v1/models/gpt-4o", Some("gpt-4o")),
    ] {
        let found = find(ROWS, &Method::GET, path);
        check(found, Operation::Models, model);
    }
}

#[test]
fn knows_the_paths_of_every_family() {
    for (paths, operation) in [
        (
            &[
                "/openai/deployments/m/completions",
                "/openai/v1/completions",
                "/v1/deployments/m/completions",
            ][..],
            Operation::Completions,
        ),
        (
            &[
                "/openai/deployments/m/embeddings",
                "/openai/v1/deployments/m/embeddings",
                "/v1/embeddings",
            ],
            Operation::Embeddings,
        ),
        (
            &["/openai/v1/images/generations", "/v1/images/generations"],
            Operation::Images,
        ),
        (
            &[
                "/openai/deployments/m/moderations",
                "/openai/moderations",
                "/openai/v1/moderations",
                "/v1/moderations",
            ],
            Operation::Moderations,
        ),
        (
            &[
                "/openai/responses",
                "/openai/v1/responses",
                "/v1/responses",
                "/v1/responses/compact",
                "/openai/v1/responses/input_tokens",
            ],
            Operation::Responses,
        ),
        (
            &[
                "/anthropic/v1/messages",
                "/v1/messages",
                "/v1/messages/count_tokens",
            ],
            Operation::Messages,
        ),
    ] {
        for path in paths {
            let model = path.contains("/m/").then_some("m");
            check(post(path), operation, model);
        }
    }
    let found = find(ROWS, &Method::GET, "/anthropic/v1/models");
    let found = found.expect("it is served");
    assert_eq!(found.api.dialect, Dialect::Anthropic);
}

#[test]
fn a_version_lacks_an_operation_if_it_has_none_of_its_rows() {
    // Of responses, compaction is in no version.
    assert_eq!(lacking(ROWS, "2025-04-01-preview"), [Operation::Containers]);
    assert_eq!(lacking(ROWS, "2025-03-01-preview"), [Operation::Containers]);
    assert_eq!(
        lacking(ROWS, "2024-10-21"),
        [Operation::Responses, Operation::Containers]
    );
    let compact = |row: &Api| row.paths.contains(&"/v1/responses/compact");
    let compact = ROWS.iter().position(compact).expect("it is served");
    let compact = &ROWS[compact..=compact];
    assert_eq!(
        lacking(compact, "2025-04-01-preview"),
        [Operation::Responses]
    );
    assert!(is_dated("2024-10-21") && is_dated("2025-04-01-preview"));
    assert!(!is_dated("v1") && !is_dated("preview") && !is_dated(""));
}

#[test]
fn a_version_has_what_came_with_it_and_nothing_later() {
    for (upstream, first, before) in [
        (
            Upstream::Resource("responses/{id}/cancel"),
            "2025-03-01-preview",
            "2025-02-01-preview",
        ),
        (
            Upstream::OpenAi("images/edits"),
            "2025-04-01-preview",
            "2025-03-01-preview",
        ),
        (
            Upstream::Resource("uploads/{id}/parts"),
            "2024-08-01-preview",
            "2024-07-01-preview",
        ),
        (
            Upstream::OpenAi("audio/speech"),
            "2024-02-15-preview",
            "2024-02-01",
        ),
        (
            Upstream::OpenAi("audio/translations"),
            "2023-09-01-preview",
            "2023-08-01-preview",
        ),
        (
            Upstream::OpenAi("chat/completions"),
            "2022-12-01",
            "2022-06-01-preview",
        ),
    ] {
        assert_eq!(upstream.first_version(), Some(first), "{upstream:?}");
        assert!(
            upstream.is_in(first) && !upstream.is_in(before),
            "{upstream:?}"
        );
        let path = |version| upstream.dated("", "d", version, &Named::default());
        assert!(path(first).is_some() && path(before).is_none());
    }
    // Claude's servers know no versions, and the last dated one has no conversations.
    assert!(Upstream::Anthropic("messages").is_in("2022-12-01"));
    assert!(!Upstream::Undated("conversations").is_in("2025-04-01-preview"));
}

#[test]
fn refuses_paths_that_servers_read_differently() {
    for path in [
        "/v1/./chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/chat/completions",
        "/v1/chat;x/completions",
        "/v1/chat\\completions",
        "/openai/deployments/%5c/chat/completions",
        "/openai/deployments/%00/chat/completions",
        "/openai/deployments/%zz/chat/completions",
    ] {
        assert_eq!(post(path).map(|_| ()), Err(Unserved::Ambiguous), "{path}");
    }
    for path in ["//v1/chat/completions", "/v1//chat/completions", "//"] {
        let refused = post(path).map(|_| ());
        assert_eq!(refused, Err(Unserved::DoubleSlash), "{path}");
    }
    for path in [
        "/",
        "/v1/",
        "/v2/chat/completions",
        "/v1/chat",
        "/v1/nothing",
    ] {
        assert_eq!(post(path).map(|_| ()), Err(Unserved::Unknown), "{path}");
    }
    let jobs = Other {
        operation: "FineTuning",
        dialect: Dialect::OpenAi,
    };
    assert_eq!(
        post("/v1/fine_tuning/jobs").map(|_| ()),
        Err(Unserved::Operation(jobs))
    );
}

#[test]
fn names_the_method_that_would_be_served() {
    let found = find(ROWS, &Method::GET, "/v1/chat/completions");
    let expect = Unserved::Method(vec![Method::POST]);
    assert_eq!(found.map(|_| ()), Err(expect));
    let found = post("/v1/models");
    let expect = Unserved::Method(vec![Method::GET, Method::HEAD]);
    assert_eq!(found.map(|_| ()), Err(expect));
    let found = find(ROWS, &Method::HEAD, "/v1/models");
    check(found, Operation::Models, None);
}

#[test]
fn a_kept_thing_is_asked_for_by_names_that_mean_nothing_elsewhere() {
    let get = |path: &str| find(ROWS, &Method::GET, path).map(|found| found.named);
    let named = get("/v1/responses/resp_1").expect("a row").expect("an id");
    assert_eq!(named.id.as_deref(), Some("resp_1"));
    for bad in [
        "/v1/responses/a%2Fb",
        "/v1/responses/a%2f..",
        "/v1/responses/a;b",
        "/v1/conversations/c/items/%6d",
        "/api/projects/%2e%2e/openai/v1/responses/r",
    ] {
        assert_eq!(get(bad), Err(Unserved::Ambiguous), "{bad}");
    }
    let head = find(ROWS, &Method::HEAD, "/v1/responses/resp_1").map(|_| ());
    assert_eq!(
        head,
        Err(Unserved::Method(vec![Method::GET, Method::DELETE]))
    );
}

#[test]
fn a_request_has_one_row() {
    for (place, row) in ROWS.iter().enumerate() {
        assert!(!row.paths.is_empty());
        for path in row.paths {
            let names = ["model", "project", "id", "item"];
            let path = names.iter().fold((*path).to_owned(), |path, name| {
                path.replace(&format!("{{{name}}}"), &format!("a-{name}"))
            });
            assert!(!path.contains('{'), "{path}");
            let found = find(ROWS, &row.method, &path).expect("its own row");
            let named = found.named.unwrap_or_default();
            for (name, text) in [
                ("a-project", named.project),
                ("a-id", named.id),
                ("a-item", named.item),
            ] {
                assert_eq!(
                    text.as_deref(),
                    path.contains(name).then_some(name),
                    "{path}"
                );
            }
            assert!(
                std::ptr::eq(found.api, row),
                "row {place} hides behind another"
            );
        }
        if let Answer::Backend(call) = &row.answer {
            let mut names: Vec<_> = call.members.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), call.members.len(), "row {place}");
            assert!(names.len() < 64, "the scanner has a bit for each");
        }
    }
}

proptest! {
    #[test]
    fn any_path_is_read_or_refused(path in "/.{0,60}") {
        drop(post(&path));
    }

    #[test]
    fn an_encoded_model_is_read_back(model in "[^\\\\\\pC]{1,30}") {
        prop_assume!(model != "." && model != "..");
        let path = format!("/openai/deployments/{}/chat/completions", encode(&model));
        let found = post(&path).map(|found| found.model);
        prop_assert_eq!(found, Ok(Some(model.as_str().into())));
    }
}
