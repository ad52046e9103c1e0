//! The events of a message (Messages API reference, streaming): named, without `[DONE]`.

use serde_json::{Value, json};

use super::message::{Message, SIGNATURE, THOUGHT};
use crate::{
    errors,
    record::Usage,
    script::{Script, Step},
    sse,
};

/// All events of a message. The usage at its end is what came to be over the whole stream.
pub(crate) fn script(message: &Message) -> Script {
    let mut steps = vec![event(
        "message_start",
        json!({"message": message.started()}),
    )];
    let mut blocks = 0_u64;
    if message.size.reasoning > 0 {
        thinking(message, &mut steps);
        blocks += 1;
    }
    if message.size.visible > 0 {
        block(message, blocks, &mut steps);
    }
    let delta = json!({"stop_reason": message.stop_reason(), "stop_sequence": null});
    let usage = message.running_usage(message.usage.completion_tokens);
    steps.push(event(
        "message_delta",
        json!({"delta": delta, "usage": usage}),
    ));
    steps.push(event("message_stop", json!({})));
    Script::new(steps, failed)
}

/// A model that fails: only the event's name tells.
fn failed(_number: u64) -> String {
    let data = errors::anthropic("overloaded_error", "Overloaded", None);
    sse::named("error", &data)
}

fn event(name: &str, data: Value) -> Step {
    Step::event(text(name, data))
}

fn text(name: &str, mut data: Value) -> String {
    if let Some(fields) = data.as_object_mut() {
        fields.insert("type".to_owned(), json!(name));
    }
    sse::named(name, &data)
}

fn delta(index: u64, delta: &Value) -> String {
    text(
        "content_block_delta",
        json!({"index": index, "delta": delta}),
    )
}

/// The block of thinking; its tokens are produced when it is signed.
fn thinking(message: &Message, steps: &mut Vec<Step>) {
    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
    steps.push(event(
        "content_block_start",
        json!({"index": 0, "content_block": block}),
    ));
    let thought = json!({"type": "thinking_delta", "thinking": THOUGHT});
    steps.push(Step::event(delta(0, &thought)));
    let signature = json!({"type": "signature_delta", "signature": SIGNATURE});
    let tokens = message.size.reasoning;
    steps.push(Step::event(delta(0, &signature)).made(Usage {
        completion_tokens: tokens,
        reasoning_tokens: tokens,
        ..Usage::default()
    }));
    steps.push(event("content_block_stop", json!({"index": 0})));
}

/// The block of text, or of a tool's input, one delta per token.
fn block(message: &Message, index: u64, steps: &mut Vec<Step>) {
    let block = match &message.tool {
        Some(tool) => {
            json!({"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}})
        }
        None => json!({"type": "text", "text": ""}),
    };
    steps.push(event(
        "content_block_start",
        json!({"index": index, "content_block": block}),
    ));
    steps.push(event("ping", json!({})));
    for (token, text) in (0..).zip(message.pieces()) {
        let piece = if message.tool.is_some() {
            json!({"type": "input_json_delta", "partial_json": text})
        } else {
            json!({"type": "text_delta", "text": text})
        };
        steps.push(Step::token(
            delta(index, &piece),
            token < message.usage.audio_tokens,
        ));
    }
    steps.push(event("content_block_stop", json!({"index": index})));
}
