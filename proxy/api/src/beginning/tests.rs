use bytes::Bytes;
use proptest::prelude::*;
use proxy_core::balance::Key;
use serde_json::{Value, json};

use super::conversation;
use crate::api::Answer;
use crate::body::Body;
use crate::rows::ROWS;

/// A body for the first row with this path, as it is scanned.
fn scanned(path: &str, body: &Value) -> (Bytes, Body) {
    let row = ROWS.iter().find(|row| row.paths.contains(&path)).unwrap();
    let Answer::Backend(call) = &row.answer else {
        panic!("{path} goes to no backend")
    };
    let bytes = Bytes::from(serde_json::to_vec(body).unwrap());
    let body = call.scan(None, &bytes, false).unwrap();
    (bytes, body)
}

fn key(path: &str, body: &Value) -> Option<Key> {
    let (bytes, body) = scanned(path, body);
    conversation(&bytes, &body, || Key::new().with(b"team/app"))
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn long(word: &str) -> String {
    format!("{word} ").repeat(5_000 / (word.len() + 1))
}

fn chat(messages: Value) -> Option<Key> {
    let mut body = json!({"model": "m"});
    body["messages"] = messages;
    key(CHAT, &body)
}

#[test]
fn the_turns_of_a_conversation_have_one_key_and_others_have_others() {
    let first = |question: &str| {
        vec![
            json!({"role": "system", "content": long("rule")}),
            json!({"role": "user", "content": question}),
        ]
    };
    let mut turns = first("Who?");
    let before = chat(json!(turns));
    turns.push(json!({"role": "assistant", "content": "Me.", "tool_calls": []}));
    turns.push(json!({"role": "tool", "tool_call_id": "a", "content": long("result")}));
    turns.push(json!({"role": "user", "content": "And?"}));
    assert!(before.is_some());
    assert_eq!(chat(json!(turns)), before);
    assert_ne!(chat(json!(first("What?"))), before);
    let developer = json!([
        {"content": long("rule"), "role": "developer"},
        {"content": "Who?", "role": "user"},
    ]);
    assert_eq!(chat(developer), before);
}

#[test]
fn marks_of_the_cache_and_the_form_of_a_text_change_nothing() {
    let body = |system: Value, first: Value, more: &[Value]| {
        let mut messages = vec![json!({"role": "user", "content": first})];
        messages.extend(more.iter().cloned());
        key(
            MESSAGES,
            &json!({"model": "m", "max_tokens": 9, "system": system, "messages": messages}),
        )
    };
    let mark = json!({"type": "ephemeral"});
    let marked = json!([{"type": "text", "text": "Who?", "cache_control": mark}]);
    let system = json!([{"type": "text", "text": long("rule"), "cache_control": mark}]);
    let before = body(system, marked, &[]);
    let more = [json!({"role": "assistant", "content": "Me."})];
    assert!(before.is_some());
    assert_eq!(body(json!(long("rule")), json!("Who?"), &more), before);
    assert_ne!(body(json!(long("rule")), json!("What?"), &more), before);
    assert_ne!(body(json!(long("role")), json!("Who?"), &more), before);
}

#[test]
fn responses_begin_with_instructions_and_the_first_item() {
    let body = |input: Value| {
        key(
            RESPONSES,
            &json!({"model": "m", "instructions": long("rule"), "input": input}),
        )
    };
    let text = body(json!("Who?"));
    assert!(text.is_some());
    assert_ne!(body(json!("What?")), text);
    let first = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Who?"}]});
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    assert_eq!(body(json!([first])), body(json!([first, call])));
    // An item without content is its own.
    assert_ne!(body(json!([call, first])), body(json!([first, call])));
}

#[test]
fn a_long_prompt_is_told_from_others_at_both_ends_of_its_first_message() {
    let body = |text: String| chat(json!([{"role": "user", "content": text}]));
    let document = long("word");
    let before = body(format!("{document} Who?"));
    assert_ne!(body(format!("{document} What")), before);
    assert_ne!(body(format!("A {document} Who?")), before);
    // The parts behind the first one count, too.
    let parts = |last: &str| {
        let parts = [document.as_str(), last].map(|text| json!({"type": "text", "text": text}));
        chat(json!([{"role": "user", "content": parts}]))
    };
    assert_ne!(parts("Who?"), parts("What?"));
}

#[test]
fn the_end_of_instructions_may_change_with_the_time() {
    let body = |time: &str| {
        let system = format!("{} It is {time}.", long("rule"));
        chat(json!([{"role": "system", "content": system}, {"role": "user", "content": "Who?"}]))
    };
    assert_eq!(body("noon"), body("midnight"));
}

#[test]
fn a_key_of_the_client_counts_at_any_size_and_alone() {
    let body = |cache_key: Value, content: &str| {
        let messages = json!([{"role": "user", "content": content}]);
        key(
            CHAT,
            &json!({"model": "m", "messages": messages, "prompt_cache_key": cache_key}),
        )
    };
    let before = body(json!("thread-1"), "Who?");
    assert!(before.is_some());
    assert_eq!(body(json!("thread-1"), &long("word")), before);
    assert_ne!(body(json!("thread-2"), "Who?"), before);
    // What is no key leaves it to the prompt.
    for none in [json!(null), json!(""), json!(7)] {
        assert_eq!(body(none.clone(), "Who?"), None);
        assert_eq!(body(none, &long("word")), body(json!(null), &long("word")));
    }
}

#[test]
fn small_prompts_and_operations_without_a_cache_have_none() {
    assert_eq!(chat(json!([{"role": "user", "content": "Who?"}])), None);
    assert_eq!(
        key(CHAT, &json!({"model": "m", "user": long("word")})),
        None
    );
    for path in [
        "/v1/embeddings",
        "/v1/completions",
        "/v1/images/generations",
    ] {
        let text = long("word");
        let body = json!({"model": "m", "input": text, "prompt": text, "prompt_cache_key": "a"});
        assert_eq!(key(path, &body), None, "{path}");
    }
}

#[test]
fn a_beginning_that_is_too_long_to_read_ends_where_reading_ends() {
    let body = |system: &str, question: &str| {
        let system = system.repeat(300 << 10);
        chat(json!([{"content": system, "role": "system"}, {"role": "user", "content": question}]))
    };
    assert!(body("a", "Who?").is_some());
    assert_eq!(body("a", "Who?"), body("a", "What?"));
    assert_ne!(body("a", "Who?"), body("b", "Who?"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\é]{0,12}".prop_map(Value::from),
        Just(json!("system")),
        Just(json!("user")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let name = prop_oneof![
            Just("role".to_owned()),
            Just("content".to_owned()),
            Just("type".to_owned()),
            Just("text".to_owned()),
            Just("cache_control".to_owned()),
            "[a-z]{1,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a client calls messages: what follows the first one with a role does not count.
    #[test]
    fn what_follows_the_first_message_never_counts(
        system in any_json(), first in any_json(), later in any_json(), more in any_json(),
    ) {
        let body = |rest: &[&Value]| {
            let mut messages = vec![json!({"role": "user", "content": first})];
            messages.extend(rest.iter().map(|one| (*one).clone()));
            key(MESSAGES, &json!({
                "model": "m", "system": system, "messages": messages, "padding": "x".repeat(4_096),
            }))
        };
        let before = body(&[]);
        prop_assert!(before.is_some());
        prop_assert_eq!(body(&[&later]), before);
        prop_assert_eq!(body(&[&later, &more]), before);
    }

    #[test]
    fn any_prompt_has_a_key(input in any_json()) {
        let body = json!({"model": "m", "input": input, "padding": "x".repeat(4_096)});
        prop_assert!(key(RESPONSES, &body).is_some());
    }
}
