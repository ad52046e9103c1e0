use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::client::{DATED, SOON, V1, body, call, last, open, post, request, run, sim};
use crate::{Config, Outcome, Sim, Usage};

fn streamed(more: &Value) -> Value {
    let mut body = body(&json!({"stream": true}));
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// The text of one choice.
fn content(chunks: &[Value], choice: u64) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    let choices = choices.filter(|c| c["index"] == choice);
    choices
        .filter_map(|c| c["delta"]["content"].as_str())
        .collect()
}

#[test]
fn streams_azures_chunks_in_order() {
    run(async {
        let sim = sim();
        let answer = post(&sim, DATED, &streamed(&json!({"max_tokens": 2}))).await;
        assert_eq!(
            answer.header("content-type"),
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(answer.header("x-ms-deployment-name"), "gpt-4o-mini");
        let chunks = answer.chunks();
        let [filter, role, first, second, asynchronous, finish] = chunks.as_slice() else {
            panic!("six chunks expected: {chunks:#?}");
        };
        assert_eq!(filter["choices"], json!([]));
        assert_eq!((&filter["id"], &filter["object"]), (&json!(""), &json!("")));
        assert_eq!(filter["prompt_filter_results"][0]["prompt_index"], 0);
        assert_eq!(role["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(role["object"], "chat.completion.chunk");
        assert_eq!(first["choices"][0]["delta"], json!({"content": "A"}));
        assert_eq!(
            second["choices"][0]["delta"],
            json!({"content": " tundish"})
        );
        assert_eq!(first["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(first["id"], finish["id"]);
        assert_eq!(first["model"], "gpt-4o-mini-2024-07-18");
        assert!(asynchronous["choices"][0].get("delta").is_none());
        assert_eq!(
            asynchronous["choices"][0]["content_filter_offsets"]["end_offset"],
            9
        );
        assert_eq!(finish["choices"][0]["finish_reason"], "length");
        assert_eq!(finish["choices"][0]["delta"], json!({}));
        assert!(
            chunks.iter().all(|chunk| chunk.get("usage").is_none()),
            "the request did not ask"
        );
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.get("obfuscation").is_none()),
            "dated: none"
        );
    });
}

#[test]
fn sends_usage_last_and_null_before_if_asked() {
    run(async {
        let options = json!({"stream_options": {"include_usage": true}, "max_tokens": 2});
        let chunks = post(&sim(), V1, &streamed(&options)).await.chunks();
        let (usage, before) = chunks.split_last().unwrap();
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["prompt_tokens"], 8);
        assert_eq!(usage["usage"]["completion_tokens"], 2);
        assert_eq!(
            usage["usage"]["completion_tokens_details"]["reasoning_tokens"],
            0
        );
        assert!(
            before[0].get("usage").is_none(),
            "the prompt filter's chunk has none"
        );
        assert!(
            before[1..]
                .iter()
                .all(|chunk| chunk.get("usage") == Some(&Value::Null))
        );
    });
}

#[test]
fn hides_token_lengths_on_v1_unless_told_not_to() {
    run(async {
        let sim = sim();
        let chunks = post(&sim, V1, &streamed(&json!({}))).await.chunks();
        assert!(chunks[2]["obfuscation"].is_string());
        let options = json!({"stream_options": {"include_obfuscation": false}});
        let chunks = post(&sim, V1, &streamed(&options)).await.chunks();
        assert!(chunks[2].get("obfuscation").is_none());
    });
}

#[test]
fn streams_every_choice_as_the_whole_answer_has_it() {
    run(async {
        let sim = sim();
        let whole = post(&sim, V1, &body(&json!({}))).await.json();
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
        let chunks = post(&sim, V1, &streamed(&json!({"n": 2}))).await.chunks();
        assert_eq!(content(&chunks, 0), text);
        assert_eq!(content(&chunks, 1), text);
        let finished = |chunk: &&Value| chunk["choices"][0]["finish_reason"] == "stop";
        assert_eq!(chunks.iter().filter(finished).count(), 2);
        let record = last(&sim).await;
        assert_eq!(
            record.usage,
            Usage {
                prompt_tokens: 8,
                completion_tokens: 32,
                ..Usage::default()
            }
        );
        assert_eq!(record.chunks, 1 + 2 + 32 + 2 + 2 + 1);
    });
}

#[test]
fn waits_for_latency_and_between_tokens() {
    run(async {
        let config = Config {
            latency: Duration::from_millis(30),
            token_interval: Duration::from_millis(5),
            ..Config::default()
        };
        let sim = Sim::start(&config).unwrap();
        let chunks = post(&sim, V1, &streamed(&json!({"max_tokens": 5})))
            .await
            .chunks();
        assert_eq!(content(&chunks, 0).split_whitespace().count(), 5);
        let record = last(&sim).await;
        assert!(
            record.duration_ms >= 30 + 4 * 5,
            "{} ms",
            record.duration_ms
        );
    });
}

#[test]
fn records_a_caller_who_hangs_up_in_a_stream_and_bills_what_was_made() {
    run(async {
        let token_interval = Duration::from_millis(50);
        let config = Config {
            token_interval,
            completion_tokens: 10_000,
            ..Config::default()
        };
        let sim = Sim::start(&config).unwrap();
        let mut response = open(&sim, request(V1, &streamed(&json!({}))))
            .await
            .unwrap();
        let mut seen = 0;
        while seen < 4 {
            let frame = response.frame().await.unwrap().unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            seen += text.matches("data: ").count();
        }
        drop(response);
        let record = last(&sim).await;
        assert_eq!(record.outcome, Outcome::AbortedByClient);
        let seen = u64::try_from(seen).unwrap();
        // The filter's and the role's chunk are no tokens.
        assert_eq!(record.usage.completion_tokens, record.chunks - 2);
        assert!(
            record.chunks >= seen && record.chunks < seen + 20,
            "{record:?} after {seen}"
        );
        let billed = sim.billed().deployments["gpt-4o-mini"];
        assert_eq!(billed.completion_tokens, record.usage.completion_tokens);
        assert_eq!(billed.prompt_tokens, 8);
    });
}

#[test]
fn records_a_caller_who_hangs_up_before_the_answer() {
    run(async {
        let config = Config {
            latency: Duration::from_secs(3600),
            ..Config::default()
        };
        let sim = Sim::start(&config).unwrap();
        let call = call(&sim, &body(&json!({})));
        assert!(sim.wait_until(SOON, |sim| !sim.requests().is_empty()).await);
        assert_eq!(sim.requests()[0].outcome, Outcome::InProgress);
        call.abort();
        let record = last(&sim).await;
        assert_eq!(record.outcome, Outcome::AbortedByClient);
        assert_eq!((record.status, record.chunks), (None, 0));
        assert_eq!(
            record.usage,
            Usage {
                prompt_tokens: 8,
                completion_tokens: 0,
                ..Usage::default()
            }
        );
    });
}
