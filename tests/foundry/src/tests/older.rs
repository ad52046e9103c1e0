//! Embeddings and legacy completions.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::client::{last, post, run, sim_with};

const EMBEDDINGS: &str = "/openai/v1/embeddings";
const COMPLETIONS: &str = "/openai/v1/completions";

#[test]
fn embeds_on_both_surfaces_in_both_encodings() {
    run(async {
        let sim = sim_with("d=text-embedding-3-small");
        let dated = "/openai/deployments/d/embeddings?api-version=2024-10-21";
        let body = json!({"model": "d", "input": ["one two", "three"], "dimensions": 4});
        for path in [EMBEDDINGS, dated] {
            let json = post(&sim, path, &body).await.json();
            assert_eq!(
                (&json["object"], &json["model"]),
                (&json!("list"), &json!("text-embedding-3-small"))
            );
            assert_eq!(
                json["usage"],
                json!({"prompt_tokens": 3, "total_tokens": 3})
            );
            let vector: Vec<f64> =
                serde_json::from_value(json["data"][1]["embedding"].clone()).unwrap();
            assert_eq!((vector.len(), &json["data"][1]["index"]), (4, &json!(1)));
            let length: f64 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
            assert_eq!(last(&sim).await.usage.prompt_tokens, 3);
            assert_eq!(last(&sim).await.usage.completion_tokens, 0);
        }
        let numbers = post(&sim, EMBEDDINGS, &json!({"model": "d", "input": "a"}))
            .await
            .json();
        let encoded = json!({"model": "d", "input": "a", "encoding_format": "base64"});
        let encoded = post(&sim, EMBEDDINGS, &encoded).await.json();
        let text = encoded["data"][0]["embedding"].as_str().unwrap();
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        let decoded: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
        let vector: Vec<f32> =
            serde_json::from_value(numbers["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(decoded.len(), 1536);
        assert!(
            decoded
                .iter()
                .zip(&vector)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    });
}

#[test]
fn counts_tokens_given_as_numbers_and_refuses_what_it_cannot_embed() {
    run(async {
        let sim = sim_with("d=text-embedding-ada-002");
        let tokens = json!({"model": "d", "input": [[1, 2, 3], [4]]});
        assert_eq!(
            post(&sim, EMBEDDINGS, &tokens).await.json()["usage"]["total_tokens"],
            4
        );
        let shorter = json!({"model": "d", "input": "x", "dimensions": 3});
        assert_eq!(post(&sim, EMBEDDINGS, &shorter).await.status, 400);
        assert_eq!(
            post(&sim, EMBEDDINGS, &json!({"model": "d"})).await.status,
            400
        );
        let chat = json!({"model": "d", "messages": [{"role": "user", "content": "x"}]});
        let refused = post(&sim, "/openai/v1/chat/completions", &chat).await;
        assert_eq!(refused.json()["error"]["code"], "OperationNotSupported");
    });
}

#[test]
fn charges_embeddings_for_their_characters_only() {
    run(async {
        let sim = sim_with("d=text-embedding-3-small,tpm=10");
        let body = json!({"model": "d", "input": "twelve chars"});
        let first = post(&sim, EMBEDDINGS, &body).await;
        assert_eq!(first.header("x-ratelimit-remaining-tokens"), "7");
        for _ in 0..2 {
            post(&sim, EMBEDDINGS, &body).await;
        }
        let refused = post(&sim, EMBEDDINGS, &body).await;
        assert_eq!(refused.status, 429);
        assert!(
            refused.text.contains("Embeddings_Create Operation"),
            "{}",
            refused.text
        );
    });
}

#[test]
fn completes_every_prompt_and_bills_the_best_of() {
    run(async {
        let sim = sim_with("d=gpt-3.5-turbo-instruct");
        let body = json!({
            "model": "d", "prompt": ["One ", "Two three "], "n": 2, "best_of": 3, "echo": true,
            "max_tokens": 2,
        });
        let json = post(&sim, COMPLETIONS, &body).await.json();
        let texts: Vec<_> = json["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["text"])
            .collect();
        assert_eq!(
            texts,
            [
                "One A tundish",
                "One A tundish",
                "Two three A tundish",
                "Two three A tundish"
            ]
        );
        assert_eq!(json["choices"][3]["index"], 3);
        assert_eq!(json["choices"][0]["finish_reason"], "length");
        assert_eq!(json["prompt_filter_results"][1]["prompt_index"], 1);
        assert_eq!(json["object"], "text_completion");
        let usage = &json["usage"];
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(3), &json!(12))
        );
        let few = json!({"model": "d", "prompt": "x", "n": 2, "best_of": 1});
        assert_eq!(post(&sim, COMPLETIONS, &few).await.status, 400);
    });
}

#[test]
fn streams_completions_in_azures_order() {
    run(async {
        let sim = sim_with("d=gpt-3.5-turbo-instruct");
        let body = json!({
            "prompt": "Say", "n": 2, "max_tokens": 3, "stream": true,
            "stream_options": {"include_usage": true},
        });
        let dated = "/openai/deployments/d/completions?api-version=2024-10-21";
        let chunks = post(&sim, dated, &body).await.chunks();
        assert_eq!(chunks.len(), 1 + 2 * 3 + 2 + 1);
        assert_eq!(chunks[0]["choices"], json!([]));
        assert!(chunks[0]["prompt_filter_results"].is_array());
        let texts = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == 1);
        let text: String = texts
            .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
            .collect();
        assert_eq!(text, "A tundish is");
        assert_eq!(chunks[9]["usage"]["completion_tokens"], 6);
        assert_eq!(chunks[1]["usage"], Value::Null);
        assert_eq!(last(&sim).await.usage.completion_tokens, 6);
        let old = "/openai/deployments/d/completions?api-version=2024-06-01";
        assert_eq!(post(&sim, old, &body).await.status, 400);
    });
}
