//! GitHub Copilot CLI 1.0 with a provider of one's own: chat completions by the SDK for Node.

use ::http::Method;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::http;

use super::{BEARER, all_is_counted, arrived, events, none_arrived, post, spent, stage, text_of};

const HEADERS: [(&str, &str); 9] = [
    ("user-agent", "OpenAI/JS 5.20.1"),
    ("x-stainless-lang", "js"),
    ("x-stainless-package-version", "5.20.1"),
    ("x-stainless-runtime", "node"),
    ("accept", "application/json"),
    ("x-stainless-timeout", "600"),
    ("content-type", "application/json"),
    ("x-stainless-helper-method", "stream"),
    ("x-initiator", "agent"),
];
const FIRST: (&str, &str) = ("x-stainless-retry-count", "0");
const TURNS: usize = 12;
/// The turn whose first call fails at the resource, so that the SDK sends it again.
const FAILS: usize = 3;

fn turn(model: &str, messages: &[Value]) -> Value {
    let function = |name: &str, member: &str| {
        json!({"type": "function", "function": {"name": name, "description": "Runs.",
            "parameters": {"type": "object", "properties": {member: {"type": "string"}}, "required": [member]}}})
    };
    json!({
        "model": model, "messages": messages, "reasoning_effort": "medium", "temperature": 1,
        "tools": [function("bash", "command"), function("view", "path")],
        "stream": true, "stream_options": {"include_usage": true},
    })
}

/// The call of a tool that the pieces of an answer make up: its id and arguments.
fn call(events: &[Value]) -> Option<(String, String)> {
    let mut id = None;
    let mut arguments = String::new();
    for event in events {
        let Some(piece) = event.pointer("/choices/0/delta/tool_calls/0") else {
            continue;
        };
        let named = piece.get("id").and_then(Value::as_str);
        id = id.or_else(|| named.map(str::to_owned));
        arguments.push_str(text_of(piece, "/function/arguments"));
    }
    Some((id?, arguments))
}

#[tokio::test]
async fn a_session_of_copilot() -> Result<()> {
    let stage = stage().await?;
    let url = stage.chat_url();
    let prompt = format!(r#"call:bash*{}{{"command":"make test"}}"#, TURNS - 1);
    let mut messages = vec![
        json!({"role": "system", "content": "You are a CLI. ".repeat(500)}),
        json!({"role": "user", "content": prompt}),
    ];
    for number in 1..=TURNS {
        let mut headers = [&HEADERS[..], &[FIRST]].concat();
        if number == FAILS {
            let faults = format!("{}/_sim/faults", stage.sim);
            let fault = json!([{"status": 503, "times": 1}]).to_string();
            let put = http::request(Method::PUT, &faults, &[], fault).await?;
            assert_eq!(put.status, 204, "{}", put.text());
            let answer = post(&url, &headers, BEARER, &turn("gpt-5", &messages)).await?;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert_ne!(answer.header("x-should-retry"), Some("false"));
            headers = [&HEADERS[..], &[("x-stainless-retry-count", "1")]].concat();
        }
        let answer = post(&url, &headers, BEARER, &turn("gpt-5", &messages)).await?;
        let said = events(&answer)?;
        let usage = said.last().context("an event")?;
        ensure!(
            usage
                .pointer("/usage/total_tokens")
                .is_some_and(Value::is_u64),
            "turn {number}: {usage}"
        );
        ensure!(
            answer.text().trim_end().ends_with("data: [DONE]"),
            "turn {number}"
        );
        let called = call(&said);
        ensure!(called.is_some() == (number < TURNS), "turn {number}");
        let Some((id, arguments)) = called else { break };
        messages.push(json!({"role": "assistant", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "bash", "arguments": arguments}}]}));
        messages.push(
            json!({"role": "tool", "tool_call_id": id, "content": "ok 681 tests\n".repeat(20)}),
        );
    }
    assert_eq!(arrived(&stage).await?.len(), TURNS + 1);
    all_is_counted(&stage).await
}

#[tokio::test]
async fn refusals_of_copilot() -> Result<()> {
    let stage = spent().await?;
    let url = stage.chat_url();
    let messages = [
        json!({"role": "system", "content": "Rules. ".repeat(2_000)}),
        json!({"role": "user", "content": "Hello"}),
    ];
    for (key, model, status, part) in [
        ("Bearer guessed", "gpt-5", 401, "API key is not known"),
        ("Bearer poor-key", "gpt-5", 429, "default/poor/day"),
        ("Bearer search-team-key", "gpt-7", 404, "gpt-7"),
    ] {
        let headers = [&HEADERS[..], &[FIRST]].concat();
        let answer = post(
            &url,
            &headers,
            ("authorization", key),
            &turn(model, &messages),
        )
        .await?;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error: Value = answer.json()?;
        ensure!(text_of(&error, "/error/message").contains(part), "{error}");
    }
    none_arrived(&stage).await
}
