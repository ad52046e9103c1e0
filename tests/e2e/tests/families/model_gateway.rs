//! What Foundry's Agent Service asks of a gateway that serves its models, by a `ModelGateway` connection: the
//! checks of the validator in Microsoft's foundry-samples (`01-connections/model-gateway`), for each of the
//! configurations in its folder `samples` and for the one that connections to API Management have by default.

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, http};

use super::{MANIFESTS, SIM};

/// The deployment that agents are given.
const NAME: &str = "gpt-5";

/// A connection. URLs are below the gateway's.
struct Connection {
    name: &'static str,
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

const API_KEY: [&str; 2] = ["api-key", "key-of-search"];
const BEARER: [&str; 2] = ["authorization", "Bearer key-of-search"];

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
async fn check(gateway: &str, connection: &Connection) -> Result<()> {
    let [name, value] = connection.header;
    let mut headers = vec![(name, value), ("content-type", "application/json")];
    headers.extend(connection.custom);
    let base = format!("{}{}", gateway, connection.target);
    let base = base.trim_end_matches('/');
    let url = |endpoint: &str| {
        let endpoint = endpoint.replace("{deploymentName}", NAME);
        match endpoint.strip_prefix("https://gateway.example") {
            Some(absolute) => format!("{}{absolute}", gateway),
            None => format!("{base}{endpoint}"),
        }
    };
    match &connection.discovery {
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
            let expect = json!({"format": "OpenAI", "name": "gpt-5", "version": ""});
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

/// As its samples have them, and last as for API Management.
const CONNECTIONS: [Connection; 6] = [
    Connection {
        name: "parameters-static.json",
        target: "/openai/v1",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    },
    Connection {
        name: "parameters-openai.json",
        target: "/v1",
        header: BEARER,
        custom: &[],
        discovery: Discovery::OpenAi(["/models", "/models/{deploymentName}"]),
        deployment_in_path: false,
        inference_version: "",
    },
    Connection {
        name: "parameters-gemini.json",
        target: "/openai/v1/",
        header: BEARER,
        custom: &[],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    },
    Connection {
        name: "parameters-custom-auth-config.json",
        target: "/openai/v1",
        header: BEARER,
        custom: &[
            ("x-custom-policy", "production"),
            ("x-client-id", "foundry-agents"),
        ],
        discovery: Discovery::Static,
        deployment_in_path: false,
        inference_version: "",
    },
    Connection {
        name: "parameters-dynamic-absolute.json",
        target: "/openai/v1",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::AzureOpenAi([
            "https://gateway.example/openai/deployments?api-version=2022-12-01",
            "https://gateway.example/openai/deployments/{deploymentName}?api-version=2022-12-01",
        ]),
        deployment_in_path: false,
        inference_version: "",
    },
    Connection {
        name: "as to api management",
        target: "/openai",
        header: API_KEY,
        custom: &[],
        discovery: Discovery::AzureOpenAi([
            "/deployments?api-version=2024-10-21",
            "/deployments/{deploymentName}?api-version=2024-10-21",
        ]),
        deployment_in_path: true,
        inference_version: "2024-10-21",
    },
];

#[tokio::test]
async fn every_configuration_of_the_validator_is_served() -> Result<()> {
    let quickstart = Quickstart::with_manifests(MANIFESTS, SIM).await?;
    for connection in &CONNECTIONS {
        let checked = check(&quickstart.gateway, connection).await;
        checked.with_context(|| connection.name)?;
    }
    Ok(())
}
