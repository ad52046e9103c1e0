use proptest::prelude::*;
use proxy_core::names::Usage;
use proxy_core::tokens::Thoughts;
use serde_json::{Value, json};

use super::GRAMMAR;
use crate::stream::{Ending, Stream};
use crate::text::Text;
use crate::usage;

fn bytes(text: &str) -> Option<u64> {
    u64::try_from(text.len()).ok()
}

fn stream(events: &[Value]) -> Stream {
    let mut stream = Stream::new(&GRAMMAR, usage::message, false);
    for event in events {
        let kind = event["type"].as_str().expect("a type");
        stream.push(format!("event: {kind}\ndata: {event}\n\n").into());
    }
    stream
}

fn begun() -> Vec<Value> {
    let usage = json!({"input_tokens": 12, "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 18, "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": usage});
    vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "why"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "long"}}),
        json!({"type": "content_block_start", "index": 2,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
    ]
}

/// Cache reads and writes are input, too: Anthropic counts them apart.
const INPUT: Usage = Usage {
    input_tokens: 35,
    cached_input_tokens: 18,
    cache_write_tokens: 5,
    ..zero()
};

const fn zero() -> Usage {
    Usage {
        input_tokens: 0,
        cached_input_tokens: 0,
        cache_write_tokens: 0,
        audio_input_tokens: 0,
        image_input_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
        audio_output_tokens: 0,
        image_output_tokens: 0,
        sound_ms: 0,
    }
}

#[test]
fn a_cut_stream_has_told_its_input_and_shown_its_output() {
    let cut = stream(&begun());
    assert_eq!(cut.usage(), None, "the first event knows no output");
    let told = Usage {
        output_tokens: 1,
        ..INPUT
    };
    assert_eq!(cut.input(), Some(told));
    assert_eq!(cut.ending(), Ending::Unended);
    // Hello, why, find, the empty input of the tool and its arguments.
    assert_eq!(cut.counted_output(bytes), 5 + 3 + 4 + 2 + 7);
}

#[test]
fn the_last_delta_has_the_output_of_the_whole_answer() {
    let delta = |usage: Value| {
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        json!({"type": "message_delta", "delta": delta, "usage": usage})
    };
    let mut events = begun();
    events.push(delta(json!({"output_tokens": 4})));
    events.push(delta(
        json!({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}),
    ));
    events.push(json!({"type": "message_stop"}));
    let whole = stream(&events);
    assert_eq!(whole.ending(), Ending::Complete);
    let expect = Usage {
        output_tokens: 9,
        reasoning_tokens: 4,
        ..INPUT
    };
    assert_eq!(whole.usage(), Some(expect));
    // The last input that is reported counts.
    let mut events = begun();
    let again = json!({"input_tokens": 40, "cache_read_input_tokens": 0, "output_tokens": 9});
    events.push(delta(again));
    let told = stream(&events).usage().expect("it is there");
    assert_eq!((told.input_tokens, told.cached_input_tokens), (40, 0));
}

#[test]
fn an_error_within_a_stream_is_one() {
    let mut events = begun();
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    events.push(json!({"type": "error", "error": error}));
    assert_eq!(stream(&events).ending(), Ending::Error);
}

#[test]
fn a_json_answer_is_counted_by_its_blocks() {
    let answer = json!({"type": "message", "content": [
        {"type": "thinking", "thinking": "why", "signature": "long"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"query": "x"}},
    ]});
    let mut text = Text::default();
    let read = GRAMMAR.answer.expect("it has words");
    read(answer.to_string().as_bytes(), &mut text);
    assert_eq!(text.tokens(bytes), 3 + 5 + 4 + 13);
}

proptest! {
    /// However the bytes of a stream are cut, and whatever its numbers are, its last delta counts.
    #[test]
    fn the_output_is_cumulative_however_the_stream_is_cut(
        outputs in proptest::collection::vec(1_u64..1_000_000, 1..5),
        piece in 1_usize..200,
    ) {
        let mut text = String::new();
        let mut events = begun();
        for output_tokens in &outputs {
            let usage = json!({"output_tokens": output_tokens});
            events.push(json!({"type": "message_delta", "delta": {}, "usage": usage}));
        }
        for event in events {
            text.push_str(&format!("event: {}\r\ndata: {event}\r\n\r\n", event["type"].as_str().unwrap_or("")));
        }
        let mut stream = Stream::new(&GRAMMAR, usage::message, false);
        let mut shown = Vec::new();
        for part in text.as_bytes().chunks(piece) {
            shown.extend_from_slice(&stream.push(part.to_vec().into()));
        }
        shown.extend_from_slice(&stream.finish());
        prop_assert_eq!(shown, text.into_bytes());
        let told = stream.usage().map(|usage| usage.output_tokens);
        prop_assert_eq!(told, outputs.last().copied());
    }
}

#[test]
fn a_stream_tells_whether_the_model_thinks() {
    let block = |kind: &str| {
        let block = json!({"type": kind, "thinking": "", "signature": ""});
        json!({"type": "content_block_start", "index": 0, "content_block": block})
    };
    let check = |events: &[Value], expect| assert_eq!(stream(events).thoughts(), expect);
    let all = begun();
    check(&all[..1], Thoughts::Absent);
    check(&all[..4], Thoughts::Absent);
    check(&all[..5], Thoughts::Begun);
    check(&[all[0].clone(), block("thinking")], Thoughts::Begun);
    check(
        &[all[0].clone(), block("redacted_thinking")],
        Thoughts::Begun,
    );
    // A tool that is called so, and a text that says so.
    check(&[block("tool_use")], Thoughts::Absent);
    let text = json!({"type": "text_delta", "text": "{\"type\":\"thinking\"}"});
    let text = json!({"type": "content_block_delta", "index": 0, "delta": text});
    check(&[text], Thoughts::Absent);
}
