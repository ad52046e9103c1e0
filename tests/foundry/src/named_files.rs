//! Files, vector stores, containers and sound that a prompt names by their ids. Only those can be named that the resource
//! keeps, in the same project (API reference, "Responses" and "Chat", content parts; tools).

use serde_json::Value;

use crate::{call::Call, errors::Failure};

/// Lists of messages or items, by the operation.
const PROMPTS: [&str; 3] = ["/messages", "/input", "/items"];
/// The lists of parts that one of them has.
const PARTS: [&str; 2] = ["/content", "/output"];

/// Refuses a body that names what is not here.
pub(crate) fn check(call: &Call<'_>) -> Result<(), Failure> {
    // The name of a member may be written with escapes.
    let may_name = |word: &[u8]| call.body.windows(word.len()).any(|one| one == word);
    let words = ["file", "container", "audio"];
    if !words.iter().any(|word| may_name(word.as_bytes())) && !may_name(b"\\u") {
        return Ok(());
    }
    let Ok(body) = serde_json::from_slice::<Value>(call.body) else {
        return Ok(());
    };
    let mut ids = Vec::new();
    for item in PROMPTS.iter().flat_map(|name| list(body.pointer(name))) {
        for part in PARTS.iter().flat_map(|name| list(item.pointer(name))) {
            ids.extend([part.pointer("/file_id"), part.pointer("/file/file_id")]);
        }
    }
    for tool in list(body.get("tools")) {
        ids.push(tool.pointer("/input_image_mask/file_id"));
        ids.extend(list(tool.pointer("/container/file_ids")).iter().map(Some));
    }
    tools(call, list(body.get("tools")))?;
    spoken(call, list(body.get("messages")))?;
    let files = call.foundry.files.lock();
    let mut unknown = ids.into_iter().flatten().filter_map(Value::as_str);
    let unknown = unknown.find(|id| files.get(id, call.place.project).is_none());
    unknown.map_or(Ok(()), |id| {
        let message = format!("Files ['{id}'] were not found.");
        Err(Failure::invalid(&message, None, Some("file_not_found")))
    })
}

/// Refuses messages with sound that was not spoken here (the words are from a report in OpenAI's forum).
fn spoken(call: &Call<'_>, messages: &[Value]) -> Result<(), Failure> {
    let spoken = call.foundry.spoken.lock();
    for (place, message) in messages.iter().enumerate() {
        let id = message.pointer("/audio/id").and_then(Value::as_str);
        if let Some(id) = id.filter(|id| spoken.get(id, call.place.project).is_none()) {
            let message = format!("Assistant audio {id} not found.");
            let place = format!("messages[{place}].audio.id");
            return Err(Failure::invalid(
                &message,
                Some(&place),
                Some("audio_not_found"),
            ));
        }
    }
    Ok(())
}

/// Refuses tools with a vector store or a container that is not here.
fn tools(call: &Call<'_>, tools: &[Value]) -> Result<(), Failure> {
    let stores = call.foundry.vector_stores.lock();
    let ids = tools
        .iter()
        .flat_map(|tool| list(tool.get("vector_store_ids")));
    let mut unknown = ids.filter_map(Value::as_str);
    if let Some(id) = unknown.find(|id| stores.get(id, call.place.project).is_none()) {
        return Err(Failure::unknown_id("Vector store", id));
    }
    let containers = call.foundry.containers.lock();
    let ids = tools
        .iter()
        .filter_map(|tool| tool.get("container")?.as_str());
    let mut unknown = ids.filter(|id| containers.get(id, call.place.project).is_none());
    unknown
        .next()
        .map_or(Ok(()), |id| Err(Failure::unknown_id("Container", id)))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
