use serde_json::{Value, json};

use super::client::{Answer, build, last, run, send, sim_with};
use crate::{Sim, Usage, fingerprint};

const PATH: &str = "/anthropic/v1/messages";

fn sim() -> Sim {
    sim_with("d=claude-sonnet-5-5,cached=4,cache_write=1,reasoning=3")
}

fn ask(more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    let mut body = json!({"model": "d", "max_tokens": 100, "messages": messages});
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    body
}

async fn post(sim: &Sim, body: &Value) -> Answer {
    let headers = [
        ("x-api-key", "sim-key"),
        ("anthropic-version", "2023-06-01"),
    ];
    send(sim, build("POST", PATH, &headers, &body.to_string())).await
}

/// The named events of a stream.
fn events(answer: &Answer) -> Vec<(&str, Value)> {
    let events = answer.text.trim_end().split("\n\n");
    events
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (name.strip_prefix("event: ").unwrap(), data)
        })
        .collect()
}

#[test]
fn answers_in_anthropics_shape_and_bills_every_class() {
    run(async {
        let sim = sim();
        let long = json!({"type": "ephemeral", "ttl": "1h"});
        let block = json!({"type": "text", "text": "Hello there", "cache_control": long});
        let messages = json!([{"role": "user", "content": [block]}]);
        for (more, short, hour) in [(json!({}), 1, 0), (json!({"messages": messages}), 0, 1)] {
            let answer = post(&sim, &ask(&more)).await;
            let json = answer.json();
            assert_eq!(
                (&json["type"], &json["role"]),
                (&json!("message"), &json!("assistant"))
            );
            assert_eq!(json["model"], "claude-sonnet-5-5");
            let usage = json!({
                "input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour,
                },
                "output_tokens": 19, "output_tokens_details": {"thinking_tokens": 3},
                "service_tier": "standard",
            });
            assert_eq!(json["usage"], usage, "input leaves out the cache");
            assert!(answer.header("request-id").starts_with("req_"));
            assert_eq!(answer.header("apim-request-id").len(), 36);
            assert!(!answer.headers.contains_key("x-request-id"));
        }
        let billed = sim.billed().deployments["d"];
        assert_eq!((billed.prompt_tokens, billed.cached_tokens), (16, 8));
        assert_eq!((billed.cache_write_tokens, billed.reasoning_tokens), (2, 6));
        assert_eq!(billed.completion_tokens, 38);
    });
}

#[test]
fn streams_cumulative_usage() {
    run(async {
        let sim = sim();
        let answer = post(&sim, &ask(&json!({"stream": true}))).await;
        let events = events(&answer);
        let (name, start) = &events[0];
        assert_eq!(*name, "message_start");
        assert_eq!(start["message"]["usage"]["output_tokens"], 1);
        assert_eq!(start["message"]["usage"]["cache_read_input_tokens"], 4);
        assert!(events.iter().any(|(name, _)| *name == "ping"));
        let texts = events
            .iter()
            .filter(|(_, data)| data["delta"]["type"] == "text_delta");
        assert_eq!(texts.count(), 16);
        let (_, end) = &events[events.len() - 2];
        assert_eq!(end["delta"]["stop_reason"], "end_turn");
        assert_eq!(end["usage"]["output_tokens"], 19);
        assert_eq!(end["usage"]["input_tokens"], 3);
        assert_eq!(events.last().unwrap().0, "message_stop");
        assert!(!answer.text.contains("[DONE]"));
        let expect = Usage {
            prompt_tokens: 8,
            completion_tokens: 19,
            cached_tokens: 4,
            cache_write_tokens: 1,
            reasoning_tokens: 3,
            audio_tokens: 0,
            ..Usage::default()
        };
        assert_eq!(last(&sim).await.usage, expect);
    });
}

#[test]
fn takes_three_forms_of_credentials_and_a_version() {
    run(async {
        let sim = sim();
        let text = ask(&json!({})).to_string();
        let status = async |name: &str, value: &str| {
            let headers = [(name, value), ("anthropic-version", "2023-06-01")];
            let answer = send(&sim, build("POST", PATH, &headers, &text)).await;
            answer.status.as_u16()
        };
        assert_eq!(status("x-api-key", "sim-key").await, 200);
        assert_eq!(status("api-key", "sim-key").await, 200);
        assert_eq!(status("authorization", "Bearer sim-key").await, 200);
        assert_eq!(status("x-api-key", "wrong").await, 401);
        assert_eq!(last(&sim).await.key, Some(fingerprint("wrong")));
        let headers = [("x-api-key", "sim-key")];
        let answer = send(&sim, build("POST", PATH, &headers, &text)).await;
        assert_eq!(answer.status, 400);
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("anthropic-version"), "{message}");
    });
}

#[test]
fn refuses_in_anthropics_shape_behind_the_door_and_in_azures_before_it() {
    run(async {
        let sim = sim();
        let answer = post(&sim, &ask(&json!({"max_tokens": null}))).await;
        assert_eq!(answer.status, 400);
        let json = answer.json();
        assert_eq!(json["type"], "error");
        assert_eq!(json["error"]["type"], "invalid_request_error");
        assert_eq!(json["error"]["message"], "max_tokens: Field required");
        assert_eq!(json["request_id"], answer.header("request-id"));
        let unknown = post(&sim, &ask(&json!({"model": "none"}))).await;
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.json()["error"]["code"], "DeploymentNotFound");
        let headers = [
            ("x-api-key", "sim-key"),
            ("anthropic-version", "2023-06-01"),
        ];
        let list = send(&sim, build("GET", "/anthropic/v1/models", &headers, "")).await;
        assert_eq!(list.status, 404, "Foundry has no list of models here");
        let search = json!({"tools": [{"type": "web_search_20260209", "name": "web_search"}]});
        assert_eq!(post(&sim, &ask(&search)).await.status, 400);
        let body = json!({"model": "d", "messages": [{"role": "user", "content": "x"}]});
        let chat = "/openai/v1/chat/completions";
        let chat = super::client::post(&sim, chat, &body).await;
        assert_eq!(chat.json()["error"]["code"], "api_not_supported");
    });
}

#[test]
fn faults_and_limits_speak_as_anthropic_does() {
    run(async {
        let sim = sim();
        let faults = json!([
            {"status": 529, "times": 1},
            {"status": 429, "times": 1},
            {"stream_error": true, "cut_after_chunks": 2},
        ]);
        sim.faults(serde_json::from_value(faults).unwrap()).unwrap();
        let overloaded = post(&sim, &ask(&json!({}))).await;
        assert_eq!(overloaded.status, 529);
        assert_eq!(overloaded.json()["error"]["type"], "overloaded_error");
        let busy = post(&sim, &ask(&json!({}))).await;
        assert_eq!(busy.json()["error"]["type"], "rate_limit_error");
        let broken = post(&sim, &ask(&json!({"stream": true}))).await;
        let (name, data) = &events(&broken)[2];
        assert_eq!(
            (*name, &data["error"]["type"]),
            ("error", &json!("overloaded_error"))
        );
        let limited = sim_with("d=claude-opus-5-5,tpm=10");
        let refused = post(&limited, &ask(&json!({}))).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        assert_eq!(refused.header("retry-after"), "60");
        let told = refused
            .headers
            .keys()
            .any(|name| name.as_str().contains("ratelimit"));
        assert!(!told, "Foundry sends no rate limit headers for Claude");
    });
}
