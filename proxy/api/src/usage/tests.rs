use proptest::prelude::*;
use proxy_core::names::Usage;
use serde_json::{Value, json};

use super::{answered_model, generation, without_output};

/// Input, cached input, output.
fn check(body: &str, expect: Option<(u64, u64, u64)>) {
    let expect = expect.map(|(input_tokens, cached_input_tokens, output_tokens)| Usage {
        input_tokens,
        cached_input_tokens,
        output_tokens,
        ..Usage::default()
    });
    assert_eq!(generation(body.as_bytes(), None), expect, "{body}");
}

fn of(usage: &Value) -> Option<Usage> {
    generation(json!({ "usage": usage }).to_string().as_bytes(), None)
}

#[test]
fn reads_every_shape_of_usage() {
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        Some((9, 0, 2)),
    );
    check(
        r#"{"usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":7},"output_tokens":9}}"#,
        Some((30, 7, 9)),
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"audio_tokens":null}}}"#,
        Some((9, 0, 2)),
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}"#,
        Some((9, 0, 2)),
    );
}

#[test]
fn of_two_spellings_the_larger_counts() {
    check(
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":500,"total_tokens":510,"input_tokens":10,"output_tokens":500}}"#,
        Some((10, 0, 500)),
    );
    check(
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":0,"input_tokens":0,"output_tokens":500,
            "prompt_tokens_details":{"cached_tokens":3},"input_tokens_details":{"cached_tokens":4}}}"#,
        Some((10, 4, 500)),
    );
}

#[test]
fn decimals_are_rounded_up_and_junk_spoils_nothing_else() {
    for (written, read) in [
        ("500.0", 500),
        ("5e2", 500),
        ("499.2", 500),
        ("0.0", 0),
        ("1E-3", 1),
        ("18446744073709551615", u64::MAX),
    ] {
        let body = format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":{written}}}}}"#);
        check(&body, Some((1, 0, read)));
    }
    for junk in [
        "-1",
        "-0.5",
        "1e40",
        "1e999",
        "\"7\"",
        "true",
        "[7]",
        "{\"a\":7}",
        "null",
    ] {
        let body = format!(
            r#"{{"usage":{{"prompt_tokens":9,"completion_tokens":2,"input_tokens":{junk},"total_tokens":{junk},
                "prompt_tokens_details":{{"cached_tokens":{junk},"audio_tokens":{junk}}},"completion_tokens_details":{junk}}}}}"#
        );
        check(&body, Some((9, 0, 2)));
    }
}

#[test]
fn every_class_is_told_apart() {
    let usage = json!({
        "prompt_tokens": 100, "completion_tokens": 90, "total_tokens": 190,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2, "audio_tokens": 3, "image_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 6, "image_tokens": 7},
    });
    let expect = Usage {
        input_tokens: 100,
        cached_input_tokens: 1,
        cache_write_tokens: 2,
        audio_input_tokens: 3,
        image_input_tokens: 4,
        output_tokens: 90,
        reasoning_tokens: 5,
        audio_output_tokens: 6,
        image_output_tokens: 7,
        sound_ms: 0,
    };
    assert_eq!(of(&usage), Some(expect));
    let renamed = usage.to_string().replace("prompt_", "input_");
    let renamed = renamed.replace("completion_", "output_");
    assert_eq!(of(&renamed.parse().expect("JSON")), Some(expect));
}

#[test]
fn a_cache_beside_the_input_is_added_to_it() {
    let anthropic = json!({
        "input_tokens": 12, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 18,
        "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4},
    });
    let expect = Usage {
        input_tokens: 35,
        cached_input_tokens: 18,
        cache_write_tokens: 5,
        output_tokens: 9,
        reasoning_tokens: 4,
        ..Usage::default()
    };
    assert_eq!(of(&anthropic), Some(expect));
    // `prompt_tokens` contains it.
    let both = json!({
        "prompt_tokens": 35, "completion_tokens": 9, "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 18, "output_tokens_details": {"thinking_tokens": 4},
    });
    assert_eq!(of(&both), Some(expect));
}

#[test]
fn the_total_is_charged_even_if_the_parts_are_less() {
    let grok = json!({
        "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 1041,
        "completion_tokens_details": {"reasoning_tokens": 1000},
    });
    let expect = Usage {
        input_tokens: 32,
        output_tokens: 1009,
        reasoning_tokens: 1000,
        ..Usage::default()
    };
    assert_eq!(of(&grok), Some(expect));
    let without_total = json!({
        "prompt_tokens": 32, "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 1000},
    });
    assert_eq!(of(&without_total), Some(expect));
    check(
        r#"{"usage":{"prompt_tokens":32,"completion_tokens":500,"total_tokens":632}}"#,
        Some((32, 0, 600)),
    );
    check(
        r#"{"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":5}}"#,
        Some((32, 0, 9)),
    );
}

#[test]
fn an_output_that_is_not_told_is_unknown_unless_the_total_tells_it() {
    for told in ["null", "null,\"total_tokens\":9", "-3", "\"2\""] {
        check(
            &format!(r#"{{"usage":{{"prompt_tokens":9,"completion_tokens":{told}}}}}"#),
            None,
        );
    }
    check(r#"{"usage":{"prompt_tokens":9}}"#, None);
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":null,"total_tokens":11}}"#,
        Some((9, 0, 2)),
    );
    check(
        r#"{"usage":{"completion_tokens":2,"total_tokens":11}}"#,
        Some((9, 0, 2)),
    );
    check(r#"{"usage":{"completion_tokens":2}}"#, None);
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":0}}"#,
        Some((9, 0, 0)),
    );
}

#[test]
fn an_operation_without_output_has_none() {
    let read = |usage: &str| {
        let body = format!("{{\"data\":[],\"usage\" : {usage}, \"z\": 1}}");
        without_output(body.as_bytes(), None).map(|usage| (usage.input_tokens, usage.output_tokens))
    };
    assert_eq!(
        read(r#"{"prompt_tokens": 9, "total_tokens": 9}"#),
        Some((9, 0))
    );
    assert_eq!(
        read(r#"{"prompt_tokens":9,"completion_tokens":null}"#),
        Some((9, 0))
    );
    assert_eq!(
        read(r#"{"prompt_tokens":9,"total_tokens":12}"#),
        Some((12, 0))
    );
    assert_eq!(read(r#"{"total_tokens":9}"#), Some((9, 0)));
    assert_eq!(
        read(r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}"#),
        Some((9, 2))
    );
    assert_eq!(read("{}"), None);
}

#[test]
fn sound_is_told_by_its_length() {
    let expect = Some(Usage {
        sound_ms: 4_201,
        input_tokens: 43,
        ..Usage::default()
    });
    assert_eq!(of(&json!({"type": "duration", "seconds": 4.2003})), expect);
    let body = r#"{"text":"la","usage":{"seconds":4.2003,"type":"duration"}}"#;
    assert_eq!(without_output(body.as_bytes(), None), expect);
    let tokens = json!({
        "type": "tokens", "input_tokens": 14, "output_tokens": 45, "seconds": 9,
        "input_token_details": {"audio_tokens": 13, "text_tokens": 1},
    });
    let expect = Usage {
        input_tokens: 14,
        audio_input_tokens: 13,
        output_tokens: 45,
        ..Usage::default()
    };
    assert_eq!(of(&tokens), Some(expect));
}

#[test]
fn missing_usage_is_unknown() {
    for body in [
        "",
        "{}",
        r#"{"usage":null}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":{"prompt_tokens":"9"}}"#,
        r#"{"usage":[]}"#,
        "\"usage\"",
        r#"{"response":{"usage":{"prompt_tokens":9,"completion_tokens":2}}}"#,
    ] {
        check(body, None);
    }
}

#[test]
fn what_a_model_says_about_usage_is_not_usage() {
    check(
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        None,
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2},"choices":[{"message":{"content":"usage"}}]}"#,
        Some((9, 0, 2)),
    );
}

#[test]
fn the_model_that_answered_is_the_top_level_one() {
    let read = |body: &'static str| answered_model(body.as_bytes());
    assert_eq!(
        read(r#"{"model":"gpt-5","choices":[]}"#).as_deref(),
        Some("gpt-5")
    );
    assert_eq!(
        read(r#"{"a":{"model":"x"},"model":"gp\u0074-5"}"#).as_deref(),
        Some("gpt-5")
    );
    for body in [
        r#"{"model":""}"#,
        r#"{"model":null}"#,
        r#"{"model":{"name":"x"}}"#,
        r#"{"choices":[{"model":"x"}]}"#,
        r#"{"model":"x"#,
    ] {
        assert_eq!(read(body), None, "{body}");
    }
    let long = format!(r#"{{"model":"{}"}}"#, "x".repeat(257));
    assert_eq!(answered_model(long.as_bytes()), None);
}

proptest! {
    #[test]
    fn agrees_with_a_reader_of_everything(
        before in answer(), after in answer(), input: u32, output: u32, blank in prop::sample::select(vec!["", " ", "\r\n"]),
    ) {
        let usage = json!({"prompt_tokens": input, "completion_tokens": output});
        let body = format!("{{{blank}\"a\":{before},{blank}\"usage\"{blank}:{blank}{usage}{blank},\"b\":{after}}}");
        let parsed: Value = serde_json::from_str(&body).expect("JSON");
        let read = |name: &str| parsed["usage"][name].as_u64();
        let found = generation(body.as_bytes(), None);
        prop_assert_eq!(found.map(|usage| usage.input_tokens), read("prompt_tokens"));
        prop_assert_eq!(found.map(|usage| usage.output_tokens), read("completion_tokens"));
        let nested = format!("{{\"a\":{body}}}");
        prop_assert_eq!(generation(nested.as_bytes(), None), None);
    }

    #[test]
    fn never_below_what_is_told(
        prompt: Option<u32>, input: Option<u32>, completion: Option<u32>, output: Option<u32>, total: Option<u32>,
        reasoning: Option<u32>, cached: Option<u32>,
    ) {
        let usage = json!({
            "prompt_tokens": prompt, "input_tokens": input, "completion_tokens": completion, "output_tokens": output,
            "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": reasoning},
            "input_tokens_details": {"cached_tokens": cached},
        });
        if let Some(found) = of(&usage) {
            prop_assert!(found.input_tokens >= u64::from(prompt.max(input).unwrap_or(0)));
            prop_assert!(found.output_tokens >= u64::from(completion.max(output).max(reasoning).unwrap_or(0)));
            prop_assert!(found.total_tokens() >= u64::from(total.unwrap_or(0)));
            prop_assert!(found.cached_input_tokens <= found.input_tokens);
            prop_assert!(found.reasoning_tokens <= found.output_tokens);
        } else {
            prop_assert!(prompt.max(input).is_none() || completion.max(output).is_none());
        }
    }
}

/// A part of an answer, with nested usage and text about it.
fn answer() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#""usage""#,
        r#""\"usage\":{\"prompt_tokens\":1}""#,
        r#"{"delta":{"content":"}]{[\\"}}"#,
        "[0.125,-1e-7]",
        "null",
    ]);
    prop::collection::vec(part, 0..8).prop_map(|parts| format!("[{}]", parts.join(", ")))
}
