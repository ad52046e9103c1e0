//! The content filter, in the words of each API; and other ways to write a stream.

use serde_json::{Value, json};

use super::client::{Answer, V1, body, build, last, post, run, send, sim};
use crate::Sim;

const RESPONSES: &str = "/openai/v1/responses";

fn chat(word: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": format!("Hello {word}")}]);
    body(&json!({"messages": messages, "stream": stream}))
}

async fn ask_claude(sim: &Sim, word: &str) -> Answer {
    let messages = json!([{"role": "user", "content": word}]);
    let body = json!({"model": "claude-haiku-5-5", "max_tokens": 50, "messages": messages});
    let headers = [("api-key", "sim-key"), ("anthropic-version", "2023-06-01")];
    let path = "/anthropic/v1/messages";
    send(sim, build("POST", path, &headers, &body.to_string())).await
}

#[test]
fn refuses_and_bills_a_filtered_prompt() {
    run(async {
        let sim = sim();
        let refused = post(&sim, V1, &chat("filter:prompt", false)).await;
        assert_eq!(refused.status, 400);
        let error = &refused.json()["error"];
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("content_filter"), &json!("prompt"))
        );
        assert_eq!(error["innererror"]["code"], "ResponsibleAIPolicyViolation");
        assert_eq!(
            error["innererror"]["content_filter_result"]["hate"]["filtered"],
            true
        );
        let billed = sim.billed().deployments["gpt-4o-mini"];
        assert_eq!((billed.prompt_tokens, billed.completion_tokens), (8, 0));
        let response = json!({"model": "gpt-5", "input": "filter:prompt"});
        let refused = post(&sim, RESPONSES, &response).await;
        assert_eq!(refused.json()["error"]["code"], "content_filter");
        let message = ask_claude(&sim, "filter:prompt").await;
        assert_eq!(
            (message.status.as_u16(), &message.json()["content"]),
            (200, &json!([]))
        );
        assert_eq!(message.json()["stop_reason"], "refusal");
    });
}

#[test]
fn ends_a_filtered_answer_halfway() {
    run(async {
        let sim = sim();
        let whole = post(&sim, V1, &chat("filter:completion", false))
            .await
            .json();
        let choice = &whole["choices"][0];
        assert_eq!(choice["finish_reason"], "content_filter");
        assert_eq!(choice["content_filter_results"]["hate"]["severity"], "high");
        assert_eq!(whole["usage"]["completion_tokens"], 8);
        let chunks = post(&sim, V1, &chat("filter:completion", true))
            .await
            .chunks();
        let last_chunk = &chunks.last().unwrap()["choices"][0];
        assert_eq!(last_chunk["finish_reason"], "content_filter");
        assert_eq!(
            last_chunk["content_filter_results"]["hate"]["filtered"],
            true
        );
        assert_eq!(last(&sim).await.usage.completion_tokens, 8);
        let response = json!({"model": "gpt-5", "input": "filter:completion"});
        let json = post(&sim, RESPONSES, &response).await.json();
        assert_eq!(
            json["incomplete_details"],
            json!({"reason": "content_filter"})
        );
        assert_eq!(json["content_filters"][1]["blocked"], true);
        assert_eq!(json["usage"]["output_tokens"], 8);
        let message = ask_claude(&sim, "filter:completion").await.json();
        assert_eq!(
            (&message["stop_reason"], &message["usage"]["output_tokens"]),
            (&json!("refusal"), &json!(8))
        );
    });
}

#[test]
fn writes_the_same_stream_in_other_ways() {
    run(async {
        let sim = sim();
        let response = json!({"model": "gpt-5", "input": "x", "stream": true});
        let plain = post(&sim, V1, &chat("x", true)).await.events().len();
        let stream = async |spacing: &str, path: &str, body: &Value| {
            let fault = json!([{"spacing": spacing}]);
            sim.faults(serde_json::from_value(fault).unwrap()).unwrap();
            post(&sim, path, body).await.text
        };
        let tight = stream("tight", V1, &chat("x", true)).await;
        assert_eq!(tight.matches("data:{").count() + 1, plain, "{tight}");
        assert!(tight.ends_with("data:[DONE]\n\n") && !tight.contains("data: "));
        let tight = stream("tight", RESPONSES, &response).await;
        assert!(
            tight.starts_with("event:response.created\ndata:{"),
            "{tight}"
        );
        let crlf = stream("crlf", V1, &chat("x", true)).await;
        assert_eq!(crlf.matches("\r\n\r\n").count(), plain);
        assert_eq!(crlf.matches('\n').count(), 2 * plain);
        let comments = stream("comments", V1, &chat("x", true)).await;
        assert_eq!(comments.matches(": keep-alive\n\ndata: ").count(), plain);
        let speech = json!({"model": "gpt-4o-mini-tts", "input": "Hi", "voice": "alloy"});
        let request = super::client::request("/openai/v1/audio/speech", &speech);
        let sound = super::client::open(&sim, request).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(sound)
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(bytes.len(), 480, "sound is left as it is");
    });
}
