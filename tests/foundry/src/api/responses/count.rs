//! What is done with an input without answering it: counted, compacted.

use serde_json::{Value, json};

use super::{create::deployment, input::Input};
use crate::{
    body::Object,
    call::{Call, Job, Reply},
    errors::Failure,
    record::Usage,
    state::draft,
};

/// `POST responses/input_tokens`
pub(crate) fn input_tokens(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    deployment(call, &body)?;
    let input = Input::read(call, &body)?;
    let count = json!({"object": "response.input_tokens", "input_tokens": input.tokens});
    Ok(Job::free(move || Reply::json(count.to_string())))
}

/// `POST responses/compact`: messages of the user stay, the rest becomes one sealed item. Its usage is
/// that of a response with one token of output.
pub(crate) fn compact(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    let deployment = deployment(call, &body)?;
    let input = Input::read(call, &body)?;
    let read = deployment.input(input.tokens);
    let usage = Usage {
        completion_tokens: 1,
        ..read
    };
    let cost = deployment.cost(input.measure.estimate(), 1, Some(1), 1);
    let is_user = |item: &Value| item.get("role").and_then(Value::as_str) == Some("user");
    let mut output: Vec<Value> = input.items.into_iter().filter(is_user).collect();
    output.push(json!({
        "id": call.foundry.object_id("cmp"), "type": "compaction",
        "encrypted_content": call.foundry.sealed(),
    }));
    let compaction = json!({
        "id": call.foundry.object_id("resp"), "object": "response.compaction",
        "created_at": call.created(), "output": output, "usage": draft::usage(usage),
    });
    Ok(Job {
        cost: Some(cost),
        input: Some(read),
        deferred: false,
        members: body.members(),
        reply: Box::new(move || Reply::produced(compaction.to_string(), usage)),
    })
}
