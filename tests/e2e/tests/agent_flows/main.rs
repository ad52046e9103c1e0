//! What coding agents send, written down by hand from the wire of each: probes at the start, one credential, the turns
//! of a long session, what they send again, and what they read out of a refusal. The agents themselves run in
//! `real_agents`.

use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::http::Answer;
use tests_support::{Quickstart, eventually, http};

mod claude_code;
mod codex;
mod copilot;

const KEY: &str = "search-team-key";
const BEARER: (&str, &str) = ("authorization", "Bearer search-team-key");

/// A person who may ask once a day, behind the same route.
const POOR: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: poor, labels: {tundish.dev/keys: chat}}
stringData: {key: poor-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: poor}
spec:
  targetRefs: [{name: chat}]
  match: {consumers: {names: [poor]}}
  limits: [{name: day, unit: Requests, limit: 1, window: Day}]
";

async fn stage() -> Result<Quickstart> {
    Quickstart::start(&[("poor.yaml", POOR)]).await
}

/// A stage on which that person has asked.
async fn spent() -> Result<Quickstart> {
    let stage = stage().await?;
    let body = r#"{"model":"gpt-5","messages":[{"role":"user","content":"Hello"}]}"#;
    good(&http::post_json(&stage.chat_url(), &[("api-key", "poor-key")], body).await?)?;
    Ok(stage)
}

/// The calls that reached the resource after that one.
async fn none_arrived(stage: &Quickstart) -> Result<()> {
    let calls = arrived(stage).await?;
    ensure!(
        calls.len() == 1,
        "a refused call reached the model: {calls:?}"
    );
    Ok(())
}

/// Posts one call of an agent. The refusal of a wrong status shows the answer.
async fn post(
    url: &str,
    headers: &[(&str, &str)],
    credential: (&str, &str),
    body: &Value,
) -> Result<Answer> {
    let mut all = headers.to_vec();
    all.push(credential);
    http::request(Method::POST, url, &all, body.to_string()).await
}

fn good(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    Ok(())
}

/// The objects of a stream of events, without `[DONE]`.
fn events(answer: &Answer) -> Result<Vec<Value>> {
    good(answer)?;
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = data.filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).context("an event"))
        .collect()
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The calls that reached the resource, in order.
async fn arrived(stage: &Quickstart) -> Result<Vec<Value>> {
    let requests = http::get(&format!("{}/_sim/requests", stage.sim)).await?;
    requests.json()
}

/// A header of such a call.
fn header<'a>(call: &'a Value, name: &str) -> &'a str {
    let headers = call.get("headers").and_then(Value::as_array);
    let mut headers = headers.into_iter().flatten();
    let named = headers.find(|one| text_of(one, "/0") == name);
    named.map_or("", |one| text_of(one, "/1"))
}

/// The body of such a call, which shows the caller's key nowhere.
fn body(call: &Value) -> Result<Value> {
    ensure!(!call.to_string().contains(KEY), "the caller's key went on");
    Ok(serde_json::from_str(text_of(call, "/body"))?)
}

/// The input and the output that the resource billed are those that the gateway counted.
async fn all_is_counted(stage: &Quickstart) -> Result<()> {
    let bill = http::get(&format!("{}/_sim/billed", stage.sim)).await?;
    let bill: Value = bill.json()?;
    let keys = bill.get("keys").and_then(Value::as_object);
    let keys: Vec<&Value> = keys.into_iter().flat_map(|all| all.values()).collect();
    let billed = ["prompt_tokens", "completion_tokens"].map(|name| {
        let of_keys = keys.iter().filter_map(|key| key.get(name)?.as_u64());
        of_keys.sum::<u64>()
    });
    ensure!(billed.iter().all(|tokens| *tokens > 0), "{bill}");
    let what = format!("the gateway counts what was billed: {billed:?}");
    eventually(&what, Duration::from_secs(10), async || {
        let page = http::get(&format!("{}/metrics", stage.admin)).await.ok()?;
        let text = page.text();
        let counted = ["input", "output"].map(|class| {
            let label = format!("token_type=\"{class}\"");
            let samples = text
                .lines()
                .filter(|line| line.starts_with("tundish_tokens_total{") && line.contains(&label));
            let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
            values.sum::<u64>()
        });
        (counted == billed).then_some(())
    })
    .await
}
