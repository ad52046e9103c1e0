use serde_json::{Value, json};

use super::GRAMMAR;
use crate::stream::{Ending, Stream};
use crate::text::Text;
use crate::usage;

fn bytes(text: &str) -> Option<u64> {
    u64::try_from(text.len()).ok()
}

fn stream(events: &[Value]) -> Stream {
    let mut stream = Stream::new(&GRAMMAR, usage::response, false);
    for event in events {
        let kind = event["type"].as_str().expect("a type");
        let whole = format!("event: {kind}\ndata: {event}\n\n");
        let shown = stream.push(whole.clone().into());
        assert_eq!(shown, whole, "every byte goes on");
    }
    stream
}

fn begun() -> Vec<Value> {
    let response = json!({"id": "resp_1", "status": "in_progress", "error": null, "usage": null, "output": []});
    vec![
        json!({"type": "response.created", "sequence_number": 0, "response": response}),
        json!({"type": "response.output_item.added", "item": {"type": "message", "content": []}}),
        json!({"type": "response.output_text.delta", "delta": "Hello", "logprobs": []}),
        json!({"type": "response.reasoning_summary_text.delta", "delta": "why"}),
        json!({"type": "response.function_call_arguments.delta", "delta": "{\"a\":1}"}),
        json!({"type": "response.output_text.done", "text": "Hello"}),
    ]
}

#[test]
fn a_cut_stream_is_counted_by_its_deltas_and_not_by_what_repeats_them() {
    let cut = stream(&begun());
    assert_eq!(cut.usage(), None);
    assert_eq!(cut.ending(), Ending::Unended);
    assert_eq!(cut.counted_output(bytes), 5 + 3 + 7);
}

#[test]
fn the_last_event_has_the_usage() {
    let usage = json!({"input_tokens": 30, "input_tokens_details": {"cached_tokens": 7},
        "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 39});
    for kind in ["completed", "incomplete"] {
        let mut events = begun();
        let response = json!({"id": "resp_1", "status": kind, "error": null, "usage": usage});
        events.push(json!({"type": format!("response.{kind}"), "response": response}));
        let whole = stream(&events);
        assert_eq!(whole.ending(), Ending::Complete);
        let told = whole.usage().expect("it is there");
        assert_eq!((told.input_tokens, told.cached_input_tokens), (30, 7));
        assert_eq!((told.output_tokens, told.reasoning_tokens), (9, 4));
    }
    let answer = json!({"object": "response", "output": [], "usage": usage}).to_string();
    let told = usage::response(answer.as_bytes(), None).expect("it is there");
    assert_eq!((told.input_tokens, told.output_tokens), (30, 9));
}

#[test]
fn failures_in_every_form_are_errors() {
    let failed = json!({"status": "failed", "error": {"code": "server_error", "message": "m"}, "usage": null});
    for event in [
        json!({"type": "response.failed", "response": failed}),
        json!({"type": "error", "error": {"code": "c", "message": "m"}}),
        json!({"type": "error", "code": "c", "message": "m", "param": null}),
    ] {
        let mut events = begun();
        events.push(event.clone());
        assert_eq!(stream(&events).ending(), Ending::Error, "{event}");
    }
}

#[test]
fn a_json_answer_is_counted_by_its_items() {
    let answer = json!({"object": "response", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "why"}]},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "find", "arguments": "{}"},
    ]});
    let mut text = Text::default();
    let read = GRAMMAR.answer.expect("it has words");
    read(answer.to_string().as_bytes(), &mut text);
    assert_eq!(text.tokens(bytes), 3 + 5 + 4 + 2);
}
