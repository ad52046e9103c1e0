//! Images, moderations, speech; and the lists of what there is.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::client::{Answer, build, last, post, run, send, sim, sim_with};
use crate::Sim;

const IMAGES: &str = "/openai/v1/images/generations";
const SPEECH: &str = "/openai/v1/audio/speech";

async fn get(sim: &Sim, path: &str) -> Answer {
    send(sim, build("GET", path, &[("api-key", "sim-key")], "")).await
}

#[test]
fn draws_as_gpt_image_does() {
    run(async {
        let sim = sim_with("d=gpt-image-2");
        let body = json!({"model": "d", "prompt": "a small vessel", "n": 2, "quality": "low"});
        let json = post(&sim, IMAGES, &body).await.json();
        let image = json["data"][1]["b64_json"].as_str().unwrap();
        assert!(
            BASE64_STANDARD
                .decode(image)
                .unwrap()
                .starts_with(b"\x89PNG")
        );
        let usage = json!({
            "input_tokens": 3, "input_tokens_details": {"image_tokens": 0, "text_tokens": 3},
            "output_tokens": 544, "output_tokens_details": {"image_tokens": 544, "text_tokens": 0},
            "total_tokens": 547,
        });
        assert_eq!(json["usage"], usage);
        let billed = sim.billed().deployments["d"];
        assert_eq!((billed.images, billed.completion_tokens), (2, 544));
        let habit = json!({"model": "d", "prompt": "x", "response_format": "b64_json"});
        let refused = post(&sim, IMAGES, &habit).await;
        assert_eq!(refused.json()["error"]["code"], "unknown_parameter");
        let partial = json!({"model": "d", "prompt": "x", "stream": true, "partial_images": 2, "quality": "low"});
        let stream = post(&sim, IMAGES, &partial).await;
        assert_eq!(
            stream
                .text
                .matches("event: image_generation.partial_image\n")
                .count(),
            2
        );
        assert_eq!(
            stream
                .text
                .matches("event: image_generation.completed\n")
                .count(),
            1
        );
        assert!(
            stream.text.contains(r#""output_tokens":472"#),
            "{}",
            stream.text
        );
        assert_eq!(last(&sim).await.usage.completion_tokens, 472);
    });
}

#[test]
fn draws_as_dall_e_did() {
    run(async {
        let sim = sim_with("d=dall-e-3");
        let dated = "/openai/deployments/d/images/generations?api-version=2024-10-21";
        let json = post(&sim, dated, &json!({"prompt": "a vessel"}))
            .await
            .json();
        assert!(
            json["data"][0]["url"]
                .as_str()
                .unwrap()
                .starts_with("https://")
        );
        assert_eq!(json["data"][0]["revised_prompt"], "a vessel");
        assert_eq!(
            json["data"][0]["content_filter_results"]["hate"]["severity"],
            "safe"
        );
        assert!(json.get("usage").is_none());
        let billed = sim.billed().deployments["d"];
        assert_eq!((billed.images, billed.completion_tokens), (1, 0));
        let inline = json!({"prompt": "x", "response_format": "b64_json"});
        assert!(post(&sim, dated, &inline).await.json()["data"][0]["b64_json"].is_string());
    });
}

#[test]
fn judges_texts() {
    run(async {
        let sim = sim();
        let body = json!({"input": ["peace", "they kill"]});
        let json = post(&sim, "/openai/v1/moderations", &body).await.json();
        assert_eq!(json["results"][0]["flagged"], false);
        assert_eq!(json["results"][1]["categories"]["violence"], true);
        let billed = sim.billed().deployments["omni-moderation-latest"];
        assert_eq!((billed.requests, billed.prompt_tokens), (1, 0));
    });
}

#[test]
fn speaks_in_the_body_or_in_events() {
    run(async {
        let sim = sim();
        let body = json!({"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"});
        let request = super::client::request(SPEECH, &body);
        let response = super::client::open(&sim, request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "audio/mpeg");
        assert!(
            !response.headers().contains_key("content-length"),
            "it is streamed"
        );
        let bytes = http_body_util::BodyExt::collect(response)
            .await
            .unwrap()
            .to_bytes();
        assert_eq!((bytes.len(), bytes[0]), (960, 0xff));
        let record = last(&sim).await;
        assert_eq!(
            (record.usage.characters, record.usage.audio_tokens),
            (11, 20)
        );
        let mut events = body.clone();
        events["stream_format"] = json!("sse");
        let answer = post(&sim, SPEECH, &events).await;
        assert_eq!(
            answer.header("content-type"),
            "text/event-stream; charset=utf-8"
        );
        let done: Value = serde_json::from_str(answer.events()[2]).unwrap();
        assert_eq!(
            done["usage"],
            json!({"input_tokens": 2, "output_tokens": 20, "total_tokens": 22})
        );
        let silent = json!({"model": "gpt-4o-mini-tts", "input": "x"});
        assert_eq!(post(&sim, SPEECH, &silent).await.status, 400);
    });
}

#[test]
fn lists_deployments_as_the_resource_manager_does() {
    run(async {
        let sim = sim();
        let list = get(&sim, "/openai/deployments?api-version=2025-06-01")
            .await
            .json();
        let names: Vec<_> = list["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| &d["name"])
            .collect();
        assert!(names.contains(&&json!("gpt-5")), "{names:?}");
        let one = get(&sim, "/openai/deployments/gpt-4o?api-version=2025-06-01")
            .await
            .json();
        let model = json!({"format": "OpenAI", "name": "gpt-4o", "version": "2024-11-20"});
        assert_eq!(one["properties"]["model"], model);
        assert_eq!(one["properties"]["provisioningState"], "Succeeded");
        let claude = get(
            &sim,
            "/openai/deployments/claude-haiku-5-5?api-version=2025-06-01",
        )
        .await;
        assert_eq!(claude.json()["properties"]["model"]["format"], "Anthropic");
        let none = get(&sim, "/openai/deployments/none?api-version=2025-06-01").await;
        assert_eq!(none.json()["error"]["code"], "DeploymentNotFound");
        let old = get(&sim, "/openai/deployments?api-version=2023-03-15-preview")
            .await
            .json();
        assert_eq!(old["data"][0]["object"], "deployment");
        let models = get(&sim, "/openai/models?api-version=2024-10-21")
            .await
            .json();
        let embeddings = models["data"].as_array().unwrap().iter();
        let found = embeddings
            .filter(|m| m["capabilities"]["embeddings"] == true)
            .count();
        assert_eq!(found, 2);
    });
}
