//! Paths and methods beside the operations: what load balancers, browsers and clients of other operations
//! see.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use proxy_core::table::{Backend, Cors};
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http::{self, Answer};

use crate::bench::{Bench, at, chat, contents, routed};

const KEY: &[(&str, &str)] = &[("api-key", "ann-key")];

impl Bench {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.url);
        http::request(method.parse()?, &url, headers, String::new()).await
    }
}

#[tokio::test]
async fn a_load_balancer_is_answered_without_a_key() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    for method in ["GET", "HEAD"] {
        let answer = bench.send(method, "/healthz", &[]).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some("3"));
    }
    assert_eq!(bench.send("POST", "/healthz", &[]).await?.status, 405);
    for base in ["/", "/anthropic"] {
        let answer = bench.send("HEAD", base, &[]).await?;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{base}");
        assert_eq!(bench.send("GET", base, &[]).await?.status, 404);
    }
    for path in ["/v1/", "/v1"] {
        for method in ["GET", "HEAD"] {
            let answer = bench.send(method, path, &[]).await?;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn head_is_served_where_get_is() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let get = bench.send("GET", "/v1/models", KEY).await?;
    assert!(get.header("x-request-id").is_some(), "it stands in the log");
    let head = bench.send("HEAD", "/v1/models", KEY).await?;
    assert_eq!((get.status, head.status), (200, 200));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    ensure!(head.body.is_empty(), "{}", head.text());
    for (method, path, allow) in [
        ("POST", "/v1/models", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
    ] {
        let answer = bench.send(method, path, KEY).await?;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)));
    }
    Ok(())
}

#[tokio::test]
async fn an_operation_that_is_not_served_is_named_in_its_dialect() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    for path in [
        "/v1/fine_tuning/jobs",
        "/openai/fine_tuning/jobs?api-version=2024-10-21",
    ] {
        let answer = bench.post(path, KEY, "{}").await?;
        let error = answer.json::<Value>()?;
        assert_eq!(answer.status, 404);
        assert_eq!(
            error.pointer("/error/code"),
            Some(&json!("operation_not_served"))
        );
        let message = "FineTuning is not served by this gateway; it serves ChatCompletions, Completions, \
                       Embeddings, Images, Audio, Moderations, Responses, Files, VectorStores, Containers, \
                       Batches, Messages, Models";
        assert_eq!(error.pointer("/error/message"), Some(&json!(message)));
    }
    let path = "/anthropic/v1/messages/batches";
    let answer = bench.post(path, KEY, "{}").await?;
    let error = answer.json::<Value>()?;
    assert_eq!(answer.status, 404);
    assert_eq!(error.pointer("/type"), Some(&json!("error")));
    let id = error.pointer("/request_id").and_then(Value::as_str);
    assert_eq!(id, answer.header("request-id"), "{error}");
    assert_eq!(
        error.pointer("/error/type"),
        Some(&json!("not_found_error"))
    );
    assert_eq!(
        error.pointer("/error/code"),
        Some(&json!("operation_not_served"))
    );
    let answer = bench.post("//v1/chat/completions", KEY, "{}").await?;
    ensure!(
        answer.status == 400 && answer.text().contains("double slash"),
        "{}",
        answer.text()
    );
    Ok(())
}

#[tokio::test]
async fn a_client_of_anthropic_is_answered_in_its_dialect_wherever_it_asks() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let version = ("anthropic-version", "2023-06-01");
    for (path, key, status) in [
        ("/v1/models", "ann-key", 200),
        ("/v1/models/none", "ann-key", 404),
        ("/v1/models", "guessed", 401),
        ("/v2/messages", "ann-key", 404),
        ("/anthropic/v1/models", "ann-key", 200),
    ] {
        let answer = bench
            .send("GET", path, &[("x-api-key", key), version])
            .await?;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.header("request-id"),
            answer.header("x-request-id"),
            "{path}"
        );
        let kind = answer.json::<Value>()?.pointer("/type").cloned();
        let expect = (status != 200).then(|| json!("error"));
        assert_eq!(kind, expect, "{path}: {}", answer.text());
        let answer = bench.send("GET", path, &[("x-api-key", key)]).await?;
        let is_anthropics = path.starts_with("/anthropic");
        assert_eq!(
            answer.header("request-id").is_some(),
            is_anthropics,
            "{path}"
        );
    }
    // A row of a backend says it itself.
    let answer = bench
        .post("/v1/chat/completions", &[version, KEY[0]], "{}")
        .await?;
    assert_eq!((answer.status, answer.header("request-id")), (400, None));
    Ok(())
}

#[tokio::test]
async fn a_page_may_call_where_a_route_says_so() -> Result<()> {
    const APP: &str = "https://app.example.com";
    let sim = Sim::start(&tests_foundry::Config::default())?;
    let mut contents = contents(std::slice::from_ref(&sim), Vec::new());
    for route in &mut contents.routes {
        Arc::make_mut(route).cors = Some(Cors {
            allow_origins: vec![APP.into()],
        });
    }
    let bench = Bench::of(vec![sim], contents)?;
    let path = "/v1/chat/completions";
    let ask = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ]
    };
    let answer = bench.send("OPTIONS", path, &ask(APP)).await?;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    let headers = answer.header("access-control-allow-headers");
    assert_eq!(headers, Some("authorization,content-type"));
    ensure!(
        answer
            .header("access-control-allow-methods")
            .is_some_and(|all| all.contains("POST")),
        "no method"
    );
    let answer = bench
        .send("OPTIONS", path, &ask("https://evil.example"))
        .await?;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);

    // Answers and errors alike, with a key and without one.
    for (key, status) in [("ann-key", 200), ("wrong", 401)] {
        for (origin, allowed) in [(APP, Some(APP)), ("https://evil.example", None)] {
            let headers = [("api-key", key), ("origin", origin)];
            let answer = bench.post(path, &headers, &chat(false).to_string()).await?;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
            assert_eq!(answer.header("vary").is_some(), allowed.is_some());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_deployment_that_the_caller_cannot_reach_is_not_there() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let key = [("api-key", "ann-key")];
    let answer = bench.send("GET", "/openai/deployments/none", &key).await?;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json::<Value>()?["error"]["code"],
        json!("model_not_found")
    );
    let wrong = [("api-key", "wrong")];
    let answer = bench.send("GET", "/openai/deployments", &wrong).await?;
    assert_eq!(answer.status, 401);
    let head = bench.send("HEAD", "/openai/deployments", &key).await?;
    assert_eq!((head.status, head.body.len()), (200, 0));
    Ok(())
}

/// Azure's shape has the model's version in a member of its own.
#[tokio::test]
async fn a_deployment_has_the_version_that_stands_in_its_models_name() -> Result<()> {
    let sim = Sim::start(&tests_foundry::Config::default())?;
    let backend = Backend {
        deployments: vec![deployment("gpt-5", "gpt-5-2025-08-07")],
        ..at(&sim.url())
    };
    let mut contents = routed(vec![backend], Vec::new());
    let route = Arc::make_mut(contents.routes.first_mut().context("a route")?);
    let rule = Arc::make_mut(route.rules.first_mut().context("a rule")?);
    rule.targets.first_mut().context("a target")?.deployment = None;
    let bench = Bench::of(vec![sim], contents)?;
    let answer = bench.send("GET", "/openai/deployments/gpt-5", KEY).await?;
    let model = answer.json::<Value>()?;
    assert_eq!(
        model.pointer("/properties/model"),
        Some(&json!({"format": "OpenAI", "name": "gpt-5", "version": "2025-08-07"}))
    );
    Ok(())
}
