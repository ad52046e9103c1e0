use serde_json::{Value, json};

use super::client::{V1, body, last, post, run, sim_with};
use crate::Usage;

/// A prompt of 8 tokens, and 5 + 16 tokens of answer.
const CLASSES: &str = "d=gpt-5,cached=6,cache_write=9,reasoning=5,audio=3";

fn request(more: &Value) -> Value {
    let mut request = body(more);
    request["model"] = json!("d");
    request
}

#[test]
fn usage_reports_and_the_bill_counts_every_class() {
    run(async {
        let sim = sim_with(CLASSES);
        let answer = post(&sim, V1, &request(&json!({}))).await.json();
        let usage = &answer["usage"];
        assert_eq!(
            usage["prompt_tokens_details"],
            json!({"audio_tokens": 0, "cached_tokens": 6, "cache_write_tokens": 2}),
            "as far as the prompt has room"
        );
        assert_eq!(usage["completion_tokens"], 21);
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 5);
        assert_eq!(usage["completion_tokens_details"]["audio_tokens"], 3);
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(text.split_whitespace().count(), 16, "reasoning is not seen");
        let expect = Usage {
            prompt_tokens: 8,
            completion_tokens: 21,
            cached_tokens: 6,
            cache_write_tokens: 2,
            reasoning_tokens: 5,
            audio_tokens: 3,
            ..Usage::default()
        };
        assert_eq!(last(&sim).await.usage, expect);
        let streamed = request(&json!({"stream": true}));
        post(&sim, V1, &streamed).await;
        assert_eq!(last(&sim).await.usage, expect, "a stream comes to the same");
        let billed = sim.billed().deployments["d"];
        assert_eq!((billed.requests, billed.completion_tokens), (2, 42));
        assert_eq!((billed.cached_tokens, billed.cache_write_tokens), (12, 4));
        assert_eq!((billed.reasoning_tokens, billed.audio_tokens), (10, 6));
    });
}

#[test]
fn a_cap_counts_reasoning_first() {
    run(async {
        let sim = sim_with(CLASSES);
        for (cap, text) in [(4, ""), (5, ""), (7, "A tundish")] {
            for stream in [false, true] {
                let caps = json!({"max_completion_tokens": cap, "n": 2, "stream": stream});
                let answer = post(&sim, V1, &request(&caps)).await;
                let record = last(&sim).await;
                assert_eq!(record.usage.completion_tokens, cap * 2);
                assert_eq!(record.usage.reasoning_tokens, cap.min(5) * 2);
                if !stream {
                    let choice = &answer.json()["choices"][1];
                    assert_eq!(choice["message"]["content"], text);
                    assert_eq!(choice["finish_reason"], "length");
                }
            }
        }
    });
}
