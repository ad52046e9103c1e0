//! What Foundry's Agent Service asks of a gateway that serves its models, by a `ModelGateway` connection: the
//! checks of the validator in Microsoft's foundry-samples (`01-connections/model-gateway`), for each of the
//! configurations in its folder `samples` and for the one that connections to API Management have by default.

use ::http::Method;
use anyhow::{Context, Result, ensure};
use proxy_core::table::Backend;
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::Sim;
use tests_support::http;

use crate::bench::{Bench, at, routed};

/// The deployment that agents are given.
const NAME: &str = "gpt-5";

/// A connection. URLs are below the gateway's.
struct Connection {
    target: &'static str,
    header: [&'static str; 2],
    custom: &'static [(&'static str, &'static str)],
    discovery: Discovery,
    deployment_in_path: bool,
    inference_version: &'static str,
}

/// How the models are found.
enum Discovery {
    /// They stand in the connection.
    Static,
    /// By `OpenAI`'s lists.
    OpenAi([&'static str; 2]),
    /// By lists of the shape that Azure's resource manager has.
    AzureOpenAi([&'static str; 2]),
}

const API_KEY: [&str; 2] = ["api-key", "ann-key"];
const BEARER: [&str; 2] = ["authorization", "Bearer ann-key"];

async fn get(url: &str, headers: &[(&str, &str)]) -> Result<Value> {
    let answer = http::request(Method::GET, url, headers, String::new()).await?;
    ensure!(answer.status == 200, "{url}: {}", answer.text());
    answer.json()
}

fn text<'a>(object: &'a Value, member: &str) -> Option<&'a str> {
    object.get(member)?.as_str()
}

/// A member of each object in a list.
fn names<'a>(all: &'a Value, list: &str, member: &str) -> Vec<&'a str> {
    let list = all.get(list).and_then(Value::as_array);
    let each = list.into_iter().flatten();
    each.filter_map(|one| text(one, member)).collect()
}

/// What the validator checks.
async fn check(connection: Connection) -> Result<()> {
    let sim = Sim::start(&tests_foundry::Config::default())?;
    let backend = Backend {
        deployments: vec![
            deployment(NAME, "gpt-5-2025-08-07"),
            deployment("claude-sonnet-5-5", "claude-sonnet-5-5"),
        ],
        ..at(&sim.url())
    };
    let mut contents = routed(vec![backend], Vec::new());
    let route = std::sync::Arc::make_mut(contents.routes.first_mut().context("a route")?);
    let rule = std::sync::Arc::make_mut(route.rules.first_mut().context("a rule")?);
    rule.targets.first_mut().context("a target")?.deployment = None;
    let bench = Bench::of(vec![sim], contents)?;

    let [name, value] = connection.header;
    let mut headers = vec![(name, value), ("content-type", "application/json")];
    headers.extend(connection.custom);
    let base = format!("{}{}", bench.url, connection.target);
    let base = base.trim_end_matches('/');
    let url = |endpoint: &str| {
        let endpoint = endpoint.replace("{deploymentName}", NAME);
        match endpoint.strip_prefix("https://gateway.example") {
            Some(absolute) => format!("{}{absolute}", bench.url),
            None => format!("{base}{endpoint}"),
        }
    };
    match connection.discovery {
        Discovery::Static => {}
        Discovery::OpenAi([list, one]) => {
            let all = get(&url(list), &headers).await?;
            ensure!(names(&all, "data", "id").contains(&NAME), "{all}");
            let one = get(&url(one), &headers).await?;
            ensure!(text(&one, "id") == Some(NAME), "{one}");
            ensure!(one.get("properties").is_none(), "{one}");
        }
        Discovery::AzureOpenAi([list, one]) => {
            let all = get(&url(list), &headers).await?;
            ensure!(names(&all, "value", "name").contains(&NAME), "{all}");
            let one = get(&url(one), &headers).await?;
            let model = one.pointer("/properties/model");
            let expect = json!({"format": "OpenAI", "name": "gpt-5", "version": "2025-08-07"});
            ensure!(text(&one, "name") == Some(NAME), "{one}");
            ensure!(model == Some(&expect), "{one}");
        }
    }

    let messages = json!([{"role": "user", "content": "Hello! This is a test"}]);
    let (mut chat, body) = if connection.deployment_in_path {
        let chat = format!("{base}/deployments/{NAME}/chat/completions");
        (chat, json!({"messages": messages}))
    } else {
        let chat = format!("{base}/chat/completions");
        (chat, json!({"model": NAME, "messages": messages}))
    };
    if !connection.inference_version.is_empty() {
        chat = format!("{chat}?api-version={}", connection.inference_version);
    }
    let answer = http::request(Method::POST, &chat, &headers, body.to_string()).await?;
    ensure!(answer.status == 200, "{chat}: {}", answer.text());
    let content = answer.json::<Value>()?;
    let content = content.pointer("/choices/0/message/content");
    ensure!(content.is_some_and(Value::is_string), "{}", answer.text());
    Ok(())
}

/// `parameters-static.json`
#[tokio::test]
async fn a_connection_with_static_models() -> Result<()> {
    check(Connection {
        target: "/openai/v1",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    })
    .await
}

/// `parameters-openai.json`
#[tokio::test]
async fn a_connection_as_to_openai() -> Result<()> {
    check(Connection {
        target: "/v1",
        header: BEARER,
        custom: &[],
        discovery: Discovery::OpenAi(["/models", "/models/{deploymentName}"]),
        deployment_in_path: false,
        inference_version: "",
    })
    .await
}

/// `parameters-gemini.json`: with a slash at the end of the target.
#[tokio::test]
async fn a_connection_whose_target_ends_in_a_slash() -> Result<()> {
    check(Connection {
        target: "/openai/v1/",
        header: BEARER,
        custom: &[],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    })
    .await
}

/// `parameters-custom-auth-config.json`
#[tokio::test]
async fn a_connection_with_headers_of_its_own() -> Result<()> {
    check(Connection {
        target: "/openai/v1",
        header: BEARER,
        custom: &[
            ("x-custom-policy", "production"),
            ("x-client-id", "foundry-agents"),
        ],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    })
    .await
}

/// `parameters-dynamic-absolute.json`
#[tokio::test]
async fn a_connection_with_absolute_discovery() -> Result<()> {
    check(Connection {
        target: "/openai/v1",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::AzureOpenAi([
            "https://gateway.example/openai/deployments?api-version=2022-12-01",
            "https://gateway.example/openai/deployments/{deploymentName}?api-version=2022-12-01",
        ]),
        deployment_in_path: false,
        inference_version: "",
    })
    .await
}

#[tokio::test]
async fn a_connection_as_to_api_management() -> Result<()> {
    check(Connection {
        target: "/openai",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::AzureOpenAi([
            "/deployments?api-version=2024-10-21",
            "/deployments/{deploymentName}?api-version=2024-10-21",
        ]),
        deployment_in_path: true,
        inference_version: "2024-10-21",
    })
    .await
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
