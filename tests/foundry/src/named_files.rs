//! Files that a prompt names by their ids. Only those can be named that the resource keeps, in the same project
//! (API reference, "Responses" and "Chat", content parts; tools).

use serde_json::Value;

use crate::{call::Call, errors::Failure};

/// Lists of messages or items, by the operation.
const PROMPTS: [&str; 3] = ["/messages", "/input", "/items"];
/// The lists of parts that one of them has.
const PARTS: [&str; 2] = ["/content", "/output"];

/// Refuses a body that names a file which is not here.
pub(crate) fn check(call: &Call<'_>) -> Result<(), Failure> {
    // The name of a member may be written with escapes.
    let may_name = |word: &[u8]| call.body.windows(word.len()).any(|one| one == word);
    if !may_name(b"file") && !may_name(b"\\u") {
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
    let files = call.foundry.files.lock();
    let mut unknown = ids.into_iter().flatten().filter_map(Value::as_str);
    let unknown = unknown.find(|id| files.get(id, call.place.project).is_none());
    unknown.map_or(Ok(()), |id| {
        let message = format!("Files ['{id}'] were not found.");
        Err(Failure::invalid(&message, None, Some("file_not_found")))
    })
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
