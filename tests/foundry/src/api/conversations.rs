//! Conversations: items that responses read, and to which they add theirs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::responses::{input, page};
use crate::{
    body::{Object, missing},
    call::{Call, Job, Reply},
    errors::Failure,
    state::conversation::Conversation,
};

/// `POST conversations`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let body = if call.body.is_empty() {
        Object::default()
    } else {
        Object::read(call.body)?
    };
    let conversation = Conversation {
        id: call.foundry.object_id("conv"),
        created: call.created(),
        metadata: body.or("metadata", json!({})),
        items: input::items(call, body.get("items"))?,
        project: call.place.project.map(str::to_owned),
    };
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = conversation.object();
        let id = conversation.id.clone();
        foundry.conversations.lock().insert(&id, conversation);
        Reply::json(object.to_string())
    }))
}

/// `GET conversations/{}`
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    let object = with(call, |conversation| Ok(conversation.object()))?;
    Ok(Job::free(move || Reply::json(object.to_string())))
}

/// `POST conversations/{}`: other metadata.
pub(crate) fn update(call: &Call<'_>) -> Result<Job, Failure> {
    with(call, |_| Ok(()))?;
    let metadata = Object::read(call.body)?
        .get("metadata")
        .cloned()
        .ok_or_else(|| missing("metadata"))?;
    Ok(change(call, |conversation| {
        conversation.metadata = metadata;
        conversation.object()
    }))
}

/// `DELETE conversations/{}`
pub(crate) fn delete(call: &Call<'_>) -> Result<Job, Failure> {
    let id = with(call, |conversation| Ok(conversation.id.clone()))?;
    let (foundry, project) = (Arc::clone(call.foundry), project(call));
    Ok(Job::free(move || {
        let mut conversations = foundry.conversations.lock();
        conversations.remove(&id, project.as_deref());
        let deleted = json!({"id": id, "object": "conversation.deleted", "deleted": true});
        Reply::json(deleted.to_string())
    }))
}

/// `GET conversations/{}/items`
pub(crate) fn list_items(call: &Call<'_>) -> Result<Job, Failure> {
    let items = with(call, |conversation| Ok(conversation.items.clone()))?;
    let page = page(call, items)?;
    Ok(Job::free(move || Reply::json(page.to_string())))
}

/// `POST conversations/{}/items`
pub(crate) fn create_items(call: &Call<'_>) -> Result<Job, Failure> {
    with(call, |_| Ok(()))?;
    let body = Object::read(call.body)?;
    body.array("items")?.ok_or_else(|| missing("items"))?;
    let items = input::items(call, body.get("items"))?;
    let id = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned();
    let list = json!({
        "object": "list", "data": items, "has_more": false,
        "first_id": id(items.first()), "last_id": id(items.last()),
    });
    Ok(change(call, |conversation| {
        conversation.items.extend(items);
        list
    }))
}

/// `GET conversations/{}/items/{}`
pub(crate) fn get_item(call: &Call<'_>) -> Result<Job, Failure> {
    let item = with(call, |conversation| item(call, conversation))?;
    Ok(Job::free(move || Reply::json(item.to_string())))
}

/// `DELETE conversations/{}/items/{}`
pub(crate) fn delete_item(call: &Call<'_>) -> Result<Job, Failure> {
    with(call, |conversation| item(call, conversation))?;
    let [_, id] = call.ids;
    let id = json!(id);
    Ok(change(call, move |conversation| {
        let is_kept = |item: &Value| item.get("id") != Some(&id);
        conversation.items.retain(is_kept);
        conversation.object()
    }))
}

fn item(call: &Call<'_>, conversation: &Conversation) -> Result<Value, Failure> {
    let [_, id] = call.ids;
    let has_id = |item: &&Value| item.get("id").and_then(Value::as_str) == Some(id);
    let found = conversation.items.iter().find(has_id).cloned();
    found.ok_or_else(|| Failure::unknown_id("Item", id))
}

fn project(call: &Call<'_>) -> Option<String> {
    call.place.project.map(str::to_owned)
}

/// Looks at the conversation that the path names.
fn with<T>(
    call: &Call<'_>,
    look: impl FnOnce(&Conversation) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let [id, _] = call.ids;
    let conversations = call.foundry.conversations.lock();
    let conversation = conversations.get(id, call.place.project);
    look(conversation.ok_or_else(|| Failure::unknown_id("Conversation", id))?)
}

/// Changes it, once nothing is in the way any more. What was deleted meanwhile answers null.
fn change(
    call: &Call<'_>,
    change: impl FnOnce(&mut Conversation) -> Value + Send + 'static,
) -> Job {
    let [id, _] = call.ids;
    let (id, project) = (id.to_owned(), project(call));
    let foundry = Arc::clone(call.foundry);
    Job::free(move || {
        let mut conversations = foundry.conversations.lock();
        let changed = conversations.get_mut(&id, project.as_deref()).map(change);
        Reply::json(changed.unwrap_or_default().to_string())
    })
}
