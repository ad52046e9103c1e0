//! Claude Code 2.1.

use ::http::Method;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests_support::http;

use super::{
    BEARER, all_is_counted, arrived, body, events, good, header, none_arrived, post, spent, stage,
    text_of,
};

const HEADERS: [(&str, &str); 12] = [
    ("accept", "application/json"),
    ("content-type", "application/json"),
    ("user-agent", "claude-cli/2.1.197 (external, sdk-cli)"),
    (
        "x-claude-code-session-id",
        "17d30e0a-d577-4c2c-bb7e-a1245743280e",
    ),
    ("x-stainless-lang", "js"),
    ("x-stainless-package-version", "0.94.0"),
    ("x-stainless-runtime", "node"),
    ("x-stainless-timeout", "600"),
    ("anthropic-beta", BETAS),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("anthropic-version", "2023-06-01"),
    ("x-app", "cli"),
];
const BETAS: &str = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,\
                     prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07,effort-2025-11-24";
const FIRST: (&str, &str) = ("x-stainless-retry-count", "0");
const MODEL: &str = "claude-sonnet-5-5";
/// Whose session it is, as JSON within a string.
const USER: &str = r#"{"device_id":"bf763b","account_uuid":"","session_id":"17d30e0a"}"#;
const TURNS: usize = 12;

fn system() -> Value {
    json!([
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=sdk-cli;"},
        {"type": "text", "text": "You are a Claude agent.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Rules. ".repeat(400), "cache_control": {"type": "ephemeral"}},
    ])
}

fn tools() -> Value {
    let tool = |name: &str, member: &str| {
        json!({"name": name, "description": format!("{name}. ").repeat(60), "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {member: {"type": "string"}, "description": {"type": "string"}},
            "required": [member], "additionalProperties": false}})
    };
    json!([
        tool("Bash", "command"),
        tool("Read", "file_path"),
        tool("Edit", "file_path")
    ])
}

/// The main call of a session with these messages.
fn turn(messages: &[Value]) -> Value {
    json!({
        "model": MODEL, "messages": messages, "system": system(), "tools": tools(),
        "metadata": {"user_id": USER}, "max_tokens": 64_000, "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"}, "stream": true,
    })
}

/// What it sends beside the session, for the title.
fn title(prompt: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
        "additionalProperties": false});
    json!({
        "model": MODEL, "system": system(), "tools": [], "metadata": {"user_id": USER}, "max_tokens": 64_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": format!("<session>\n{prompt}\n</session>")}]}],
        "thinking": {"type": "disabled"}, "stream": true,
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": schema}},
    })
}

/// The call of a tool in an answer: its id, or none.
fn call(events: &[Value]) -> Option<String> {
    let mut starts = events
        .iter()
        .filter(|event| text_of(event, "/type") == "content_block_start");
    let block = starts.find(|event| text_of(event, "/content_block/type") == "tool_use")?;
    Some(text_of(block, "/content_block/id").to_owned())
}

#[tokio::test]
async fn a_session_of_claude_code() -> Result<()> {
    let stage = stage().await?;
    let base = format!("{}/anthropic", stage.gateway);
    let probe = http::request(Method::HEAD, &base, &[("user-agent", "Bun/1.4")], "").await?;
    good(&probe)?;
    let models = format!("{base}/v1/models?limit=1000");
    let models = http::request(
        Method::GET,
        &models,
        &[BEARER, ("anthropic-version", "2023-06-01")],
        "",
    )
    .await?;
    good(&models)?;
    let models: Value = models.json()?;
    ensure!(models.get("has_more") == Some(&json!(false)), "{models}");

    let url = format!("{base}/v1/messages?beta=true");
    let headers = [&HEADERS[..], &[FIRST]].concat();
    let prompt = format!(
        r#"call:Bash*{}{{"command":"make test","description":"tests"}}"#,
        TURNS - 1
    );
    let said = events(&post(&url, &headers, BEARER, &title("Mend it")).await?)?;
    ensure!(
        said.last()
            .is_some_and(|last| text_of(last, "/type") == "message_stop")
    );

    let mut messages = vec![
        json!({"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nToday.\n</system-reminder>"},
            {"type": "text", "text": prompt, "cache_control": {"type": "ephemeral"}}]}),
        json!({"role": "system", "content": "Available agent types for the Agent tool: none."}),
    ];
    for number in 1..=TURNS {
        let count =
            json!({"model": MODEL, "messages": messages, "system": system(), "tools": tools()});
        let counted = format!("{base}/v1/messages/count_tokens?beta=true");
        let counted = post(&counted, &headers, BEARER, &count).await?;
        good(&counted)?;
        ensure!(
            counted.json::<Value>()?["input_tokens"].is_u64(),
            "{}",
            counted.text()
        );

        let said = events(&post(&url, &headers, BEARER, &turn(&messages)).await?)?;
        let id = call(&said);
        ensure!(id.is_some() == (number < TURNS), "turn {number}");
        let Some(id) = id else { break };
        let input = json!({"command": "make test", "description": "tests"});
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": id, "name": "Bash", "input": input}]}));
        messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "is_error": false,
            "content": "ok 681 tests\n".repeat(20), "cache_control": {"type": "ephemeral"}}]}));
    }

    let calls = arrived(&stage).await?;
    let mains = calls
        .iter()
        .filter(|one| text_of(one, "/path") == "/anthropic/v1/messages");
    let mains: Vec<&Value> = mains.collect();
    assert_eq!(mains.len(), 1 + TURNS);
    for one in mains {
        assert_eq!(header(one, "anthropic-beta"), BETAS);
        assert_eq!(header(one, "anthropic-version"), "2023-06-01");
        assert_eq!(text_of(&body(one)?, "/metadata/user_id"), USER);
    }
    all_is_counted(&stage).await
}

/// It shows the sentence, and tries again unless the answer says not to.
#[tokio::test]
async fn refusals_of_claude_code() -> Result<()> {
    let stage = spent().await?;
    let url = format!("{}/anthropic/v1/messages?beta=true", stage.gateway);
    let body = turn(&[json!({"role": "user", "content": "Hello"})]);
    let mut unknown = body.clone();
    unknown["model"] = json!("claude-7");
    for (key, body, status, kind, part) in [
        (
            "Bearer guessed",
            &body,
            401,
            "authentication_error",
            "API key is not known",
        ),
        (
            "Bearer poor-key",
            &body,
            429,
            "rate_limit_error",
            "default/poor/day",
        ),
        (
            "Bearer search-team-key",
            &unknown,
            404,
            "not_found_error",
            "claude-7",
        ),
    ] {
        let headers = [&HEADERS[..], &[FIRST]].concat();
        let answer = post(&url, &headers, ("authorization", key), body).await?;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error: Value = answer.json()?;
        assert_eq!(text_of(&error, "/type"), "error");
        assert_eq!(text_of(&error, "/error/type"), kind);
        ensure!(text_of(&error, "/error/message").contains(part), "{error}");
        // The limit has more tomorrow.
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{error}");
    }
    none_arrived(&stage).await
}
