//! Responses that are kept: read, streamed again, cancelled, deleted.

use serde_json::{Value, json};

use super::{create::replay, page};
use crate::{
    call::{Call, Job, Reply},
    errors::Failure,
    state::{draft::Status, response::Stored},
};

/// `GET responses/{}`, with `stream=true` its events from the first one, or from the one that follows
/// `starting_after`.
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    if call.parameter("stream") == Some("true") {
        return events(call);
    }
    let now = call.received;
    let object = with(call, |stored| Ok(stored.object(now)))?;
    Ok(Job::free(move || Reply::json(object.to_string())))
}

fn events(call: &Call<'_>) -> Result<Job, Failure> {
    let refusal = |what: &str| {
        let message = format!(
            "This response cannot be streamed because it was not created with {what}=true."
        );
        Failure::invalid(&message, Some("stream"), None)
    };
    let obfuscate = call.parameter("include_obfuscation") != Some("false");
    let script = with(call, |stored| {
        let background = stored.background().ok_or_else(|| refusal("background"))?;
        if !background.streamed {
            return Err(refusal("stream"));
        }
        Ok(replay(call.foundry, stored, background.schedule, obfuscate))
    })?;
    let after = match call.parameter("starting_after").map(str::parse) {
        None => None,
        Some(Ok(number)) => Some(number),
        Some(Err(_)) => {
            let message = "Invalid 'starting_after': expected an integer.";
            let param = Some("starting_after");
            return Err(Failure::invalid(message, param, Some("invalid_type")));
        }
    };
    Ok(Job::free(move || {
        Reply::Events(Box::new(script.after(after)))
    }))
}

/// `POST responses/{}/cancel`
pub(crate) fn cancel(call: &Call<'_>) -> Result<Job, Failure> {
    let now = call.received;
    let (id, project) = (id(call), call.place.project.map(str::to_owned));
    let refusal = |what: &str| {
        let message = format!("Cannot cancel a {what} response.");
        Failure::invalid(&message, None, None)
    };
    with(call, |stored| {
        if stored.background().is_none() {
            return Err(refusal("synchronous"));
        }
        match stored.status(now) {
            // Cancelling twice changes nothing.
            Status::Queued | Status::InProgress | Status::Cancelled => Ok(()),
            ended @ (Status::Completed | Status::Incomplete | Status::Failed) => {
                Err(refusal(ended.name()))
            }
        }
    })?;
    let foundry = std::sync::Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let mut responses = foundry.responses.lock();
        let object = responses.get_mut(&id, project.as_deref()).map(|stored| {
            stored.cancel(now);
            stored.object(now)
        });
        Reply::json(object.unwrap_or_default().to_string())
    }))
}

/// `DELETE responses/{}`
pub(crate) fn delete(call: &Call<'_>) -> Result<Job, Failure> {
    let now = call.received;
    with(call, |stored| {
        if stored.status(now).is_final() {
            return Ok(());
        }
        let message = "Cannot delete an in-flight response.";
        Err(Failure::invalid(message, None, None))
    })?;
    let (id, project) = (id(call), call.place.project.map(str::to_owned));
    let foundry = std::sync::Arc::clone(call.foundry);
    Ok(Job::free(move || {
        foundry.responses.lock().remove(&id, project.as_deref());
        Reply::json(json!({"id": id, "object": "response", "deleted": true}).to_string())
    }))
}

/// `GET responses/{}/input_items`
pub(crate) fn input_items(call: &Call<'_>) -> Result<Job, Failure> {
    let items: Vec<Value> = with(call, |stored| Ok(stored.input.clone()))?;
    let page = page(call, items)?;
    Ok(Job::free(move || Reply::json(page.to_string())))
}

fn id(call: &Call<'_>) -> String {
    let [id, _] = call.ids;
    id.to_owned()
}

/// Looks at the response that the path names.
fn with<T>(
    call: &Call<'_>,
    look: impl FnOnce(&Stored) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let [id, _] = call.ids;
    let responses = call.foundry.responses.lock();
    let stored = responses.get(id, call.place.project);
    let stored = stored.ok_or_else(|| Failure::unknown_id("Response", id))?;
    call.concerns(&stored.deployment);
    look(stored)
}
