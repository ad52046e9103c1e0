use serde_json::{Value, json};

use super::{MAX_KEPT, Text};
use crate::chat::GRAMMAR;

/// The text of events, their tokens by a vocabulary of letters, and those without one.
fn deltas(chunks: &[Value]) -> (String, u64, u64) {
    let mut text = Text::default();
    for chunk in chunks {
        (GRAMMAR.event)(chunk.to_string().as_bytes(), &mut text);
    }
    measured(&text)
}

fn measured(text: &Text) -> (String, u64, u64) {
    let mut shown = String::new();
    let by_letter = text.tokens(|text| {
        text.clone_into(&mut shown);
        u64::try_from(text.chars().count()).ok()
    });
    (shown, by_letter, text.tokens(|_| None))
}

fn delta(delta: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn check(value: &Value, expect: &str) {
    let chunk = delta(value);
    let (text, by_letter, _) = deltas(std::slice::from_ref(&chunk));
    assert_eq!(text, expect, "{chunk}");
    assert_eq!(
        u64::try_from(expect.chars().count()),
        Ok(by_letter),
        "{chunk}"
    );
}

#[test]
fn every_kind_of_text_counts() {
    check(
        &json!({"role": "assistant", "content": "a\n\"b\"é"}),
        "a\n\"b\"é",
    );
    check(&json!({"content": null, "refusal": "no"}), "no");
    check(&json!({"reasoning_content": "hm"}), "hm");
    check(&json!({"reasoning": "hm", "content": "so"}), "sohm");
    check(&json!({"thinking": [{"type": "text", "text": "hm"}]}), "hm");
    check(
        &json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "a"}]}),
        "aa",
    );
    check(&json!({"content": ["a", "b"]}), "ab");
    check(
        &json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "f", "arguments": "{\"a\":1}"}}]}),
        "{\"a\":1}f",
    );
    check(
        &json!({"function_call": {"arguments": "{", "name": "f"}}),
        "{f",
    );
    check(&json!({"audio": {"id": "x", "transcript": "la"}}), "la");
}

#[test]
fn what_the_model_did_not_write_counts_nothing() {
    for nothing in [
        json!({}),
        json!({"role": "assistant", "content": ""}),
        json!({"role": "assistant", "content": null, "tool_calls": [], "reasoning": null, "logprobs": {}}),
        json!({"context": {"citations": [{"content": "a long document"}]}}),
        json!({"annotations": [{"url": "u", "title": "t"}]}),
    ] {
        let chunk = delta(&nothing);
        assert_eq!(
            deltas(std::slice::from_ref(&chunk)),
            (String::new(), 0, 0),
            "{chunk}"
        );
    }
    let beside = json!({"choices": [{"text": "x", "content_filter_results": {"content": "x"}}], "obfuscation": "x"});
    assert_eq!(deltas(&[beside]), (String::new(), 0, 0));
}

#[test]
fn one_thought_under_two_names_counts_once() {
    check(
        &json!({"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
        "hm",
    );
    check(
        &json!({"reasoning": "hm", "reasoning_content": "hmm"}),
        "hmhmm",
    );
}

#[test]
fn sound_is_one_token_at_least() {
    let sound = delta(&json!({"audio": {"data": "UklGRiQAAABXQVZF"}}));
    let both = delta(&json!({"audio": {"data": "UklG", "transcript": "la"}}));
    let image = delta(&json!({"images": [{"image_url": {"url": "data:"}}]}));
    assert_eq!(
        deltas(&[sound, both, image]),
        ("la".to_owned(), 2 + 3, 1 + 3)
    );
}

#[test]
fn every_choice_counts_in_any_spacing() {
    let chunk = b"{\"choices\" : [ {\"delta\" : { \"content\" : \"one\" } }, {\"index\":1,\n\"delta\":{\"content\":\"two\"}} ]}";
    let mut text = Text::default();
    (GRAMMAR.event)(chunk, &mut text);
    assert_eq!(measured(&text), ("onetwo".to_owned(), 6, 2));
}

#[test]
fn half_a_surrogate_and_a_broken_chunk_count() {
    let mut text = Text::default();
    (GRAMMAR.event)(br#"{"delta":{"content":"\ud83d"}}"#, &mut text);
    (GRAMMAR.event)(b"{\"delta\":{\"content\":\"\xff\"}}", &mut text);
    (GRAMMAR.event)(br#"{"delta":{"content":"brok"#, &mut text);
    let (shown, ..) = measured(&text);
    assert!(shown.starts_with("\\ud83d\u{fffd}"), "{shown}");
    assert_eq!(text.deltas + text.opaque, 3);
}

#[test]
fn without_a_vocabulary_a_token_is_four_bytes_and_a_delta_one_at_least() {
    let long = delta(&json!({"content": format!("\n\n{}", "x".repeat(4_000))}));
    assert_eq!(deltas(&[long]).2, 1_001);
    let short = vec![delta(&json!({"content": "a"})); 12];
    assert_eq!(deltas(&short).2, 12);
    // A vocabulary is exact: letters that come one by one are no tokens of their own.
    assert_eq!(Text::default().tokens(|_| Some(7)), 0);
}

#[test]
fn a_long_text_is_counted_by_the_ratio_of_its_beginning() {
    let chunk = delta(&json!({"content": "abcd ".repeat(100)}));
    let chunks = vec![chunk; 1_000];
    let (kept, by_letter, without) = deltas(&chunks);
    assert_eq!(kept.len(), MAX_KEPT);
    assert_eq!((by_letter, without), (500_000, 125_000));
}

#[test]
fn the_messages_of_an_answer_count_likewise() {
    let answer = json!({
        "id": "x", "delta": {"content": "not this"},
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "one", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}},
            {"index": 1, "message": {"content": "two", "reasoning_content": "hm", "audio": {"data": "UklG", "transcript": "la"}}},
            {"index": 2},
            7,
        ],
        "message": {"content": "nor this"},
    });
    let mut text = Text::default();
    let read = GRAMMAR.answer.expect("it has words");
    read(answer.to_string().as_bytes(), &mut text);
    let (shown, by_letter, _) = measured(&text);
    assert_eq!(shown, "one{}flatwohm");
    assert_eq!(by_letter, 13 + 1);
    let mut none = Text::default();
    for answer in ["", "{}", "[]", r#"{"choices":null}"#, r#"{"choices":{}}"#] {
        read(answer.as_bytes(), &mut none);
    }
    assert_eq!(measured(&none), (String::new(), 0, 0));
}
