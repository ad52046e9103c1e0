use serde_json::json;

use super::GRAMMAR;
use crate::stream::{Ending, Stream};
use crate::text::Text;
use crate::usage;

/// Of a vocabulary where a token is one byte.
fn bytes(text: &str) -> Option<u64> {
    u64::try_from(text.len()).ok()
}

#[test]
fn the_text_of_every_choice_is_counted() {
    let mut stream = Stream::new(&GRAMMAR, usage::generation, true);
    for (index, text) in [(0, "Hel"), (1, "x"), (0, "lo")] {
        let event = json!({"id": "c", "object": "text_completion", "choices": [
            {"text": text, "index": index, "logprobs": null, "finish_reason": null},
        ], "usage": null});
        stream.push(format!("data: {event}\n\n").into());
    }
    assert_eq!(stream.ending(), Ending::Unended);
    assert_eq!(stream.counted_output(bytes), 6);
    let last = json!({"choices": [{"text": "", "index": 0, "finish_reason": "length"}]});
    stream.push(format!("data: {last}\n\n").into());
    assert_eq!(stream.ending(), Ending::Complete);
    // Of the event with the usage the client sees nothing: the gateway asked for it.
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6}});
    let shown = stream.push(format!("data: {usage}\n\ndata: [DONE]\n\n").into());
    assert_eq!(shown, "data: [DONE]\n\n");
    let usage = stream.usage().expect("it is there");
    assert_eq!((usage.input_tokens, usage.output_tokens), (4, 6));
}

#[test]
fn a_json_answer_is_counted_by_its_texts() {
    let answer = json!({"object": "text_completion", "choices": [
        {"text": "one", "finish_reason": "stop", "content_filter_results": {"hate": {"filtered": false}}},
        {"text": "three"},
    ]});
    let mut text = Text::default();
    let read = GRAMMAR.answer.expect("it has words");
    read(answer.to_string().as_bytes(), &mut text);
    assert_eq!(text.tokens(bytes), 8);
}
