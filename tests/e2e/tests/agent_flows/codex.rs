//! Codex 0.171, by the Responses API with nothing stored.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    BEARER, all_is_counted, arrived, body, events, none_arrived, post, spent, stage, text_of,
};

const SESSION: &str = "01a220a5-6804-7ef1-86e4-2db7da09795e";
const METADATA: &str = r#"{"session_id":"01a220a5-6804-7ef1-86e4-2db7da09795e","agent_name":"/root","request_kind":"turn","model":"gpt-5"}"#;
const HEADERS: [(&str, &str); 11] = [
    ("x-codex-beta-features", "remote_compaction_v2"),
    (
        "x-codex-window-id",
        "01a220a5-6804-7ef1-86e4-2db7da09795e:0",
    ),
    ("x-codex-turn-metadata", METADATA),
    ("x-client-request-id", SESSION),
    ("session-id", SESSION),
    ("thread-id", SESSION),
    ("accept", "text/event-stream"),
    ("content-type", "application/json"),
    ("originator", "codex_exec"),
    (
        "user-agent",
        "codex_exec/0.171.0 (Debian 12.0.0; x86_64) unknown (codex_exec; 0.171.0)",
    ),
    ("accept-encoding", "identity"),
];
const TURNS: usize = 12;

fn message(role: &str, text: &str) -> Value {
    json!({"type": "message", "id": "msg_e99a2faf-86ed-50d9-a758-5e6575e7d35b", "role": role,
        "content": [{"type": "input_text", "text": text}]})
}

fn turn(model: &str, input: &[Value]) -> Value {
    let function = |name: &str, member: &str| {
        json!({"type": "function", "name": name, "description": "Runs.", "strict": false,
            "parameters": {"type": "object", "properties": {member: {"type": "string"}}, "required": [member]}})
    };
    json!({
        "model": model, "stream": true, "input": input,
        "tools": [function("exec_command", "cmd"), function("write_stdin", "chars"), {"type": "web_search"}],
        "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"}, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": SESSION,
        "client_metadata": {"session_id": SESSION, "x-codex-turn-metadata": METADATA},
    })
}

#[tokio::test]
async fn a_session_of_codex() -> Result<()> {
    let stage = stage().await?;
    let url = format!("{}/v1/responses", stage.gateway);
    let prompt = format!(r#"call:exec_command*{}{{"cmd":"make test"}}"#, TURNS - 1);
    let mut input = vec![
        message("developer", &"You are a coding agent. ".repeat(300)),
        message("user", &prompt),
    ];
    for number in 1..=TURNS {
        let said = events(&post(&url, &HEADERS, BEARER, &turn("gpt-5", &input)).await?)?;
        let last = said.last().context("an event")?;
        assert_eq!(
            text_of(last, "/type"),
            "response.completed",
            "turn {number}"
        );
        let output = last.pointer("/response/output").and_then(Value::as_array);
        let output = output.context("items")?;
        input.extend(output.iter().cloned());
        let mut calls = output
            .iter()
            .filter(|one| text_of(one, "/type") == "function_call");
        let call = calls.next();
        ensure!(call.is_some() == (number < TURNS), "turn {number}: {last}");
        let Some(call) = call else { break };
        input.push(
            json!({"type": "function_call_output", "call_id": call["call_id"],
            "output": "ok 681 tests\n".repeat(20)}),
        );
    }
    let calls = arrived(&stage).await?;
    assert_eq!(calls.len(), TURNS);
    for one in &calls {
        let body = body(one)?;
        assert_eq!(text_of(&body, "/prompt_cache_key"), SESSION);
        assert_eq!(text_of(&body, "/client_metadata/session_id"), SESSION);
    }
    all_is_counted(&stage).await
}

/// It shows `error.message`, for a spent limit with the time of `error.resets_at`.
#[tokio::test]
async fn refusals_of_codex() -> Result<()> {
    let stage = spent().await?;
    let url = format!("{}/v1/responses", stage.gateway);
    let input = [
        message("developer", &"Rules. ".repeat(2_000)),
        message("user", "Hello"),
    ];
    for (key, model, status, code, part) in [
        (
            "Bearer guessed",
            "gpt-5",
            401,
            "invalid_credential",
            "API key is not known",
        ),
        (
            "Bearer poor-key",
            "gpt-5",
            429,
            "quota_exceeded",
            "default/poor/day",
        ),
        (
            "Bearer search-team-key",
            "gpt-7",
            404,
            "model_not_found",
            "gpt-7",
        ),
    ] {
        let body = turn(model, &input);
        let answer = post(&url, &HEADERS, ("authorization", key), &body).await?;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error: Value = answer.json()?;
        assert_eq!(text_of(&error, "/error/code"), code);
        ensure!(text_of(&error, "/error/message").contains(part), "{error}");
        if status == 429 {
            assert_eq!(text_of(&error, "/error/type"), "usage_limit_reached");
            ensure!(
                error.pointer("/error/resets_at").is_some_and(Value::is_u64),
                "{error}"
            );
        }
    }
    none_arrived(&stage).await
}
