//! Batches (Azure, "Getting started with Azure OpenAI batch deployments": input format, batch object, error codes;
//! API reference, "Batch"). What is wrong with the file is found after the batch is made.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    chat, completions, embeddings,
    responses::{create as responses, page},
};
use crate::{
    body::{Object, missing, unsupported},
    call::{Call, Handler, Job, Reply},
    deployment::Deployment,
    errors::Failure,
    state::batch::{Batch, Line},
    surface::{Place, Surface},
};

/// The only window that is taken.
const WINDOW: &str = "24h";
/// The most requests of a file ("Batch limits").
const MOST_LINES: usize = 100_000;

/// `POST batches`
pub(crate) fn create(call: &Call<'_>) -> Result<Job, Failure> {
    let body = Object::read(call.body)?;
    let endpoint = body.text("endpoint")?.ok_or_else(|| missing("endpoint"))?;
    if handler(endpoint).is_none() {
        let known = "'/chat/completions', '/completions', '/embeddings' and '/responses'";
        return Err(unsupported("endpoint", endpoint, known));
    }
    let window = body.text("completion_window")?;
    let window = window.ok_or_else(|| missing("completion_window"))?;
    if window != WINDOW {
        return Err(unsupported("completion_window", window, "'24h'"));
    }
    let input = body.text("input_file_id")?;
    let input = input.ok_or_else(|| missing("input_file_id"))?;
    let file = call
        .foundry
        .files
        .lock()
        .get(input, call.place.project)
        .cloned();
    let file = file.ok_or_else(|| Failure::unknown_id("File", input))?;
    if file.purpose != "batch" {
        let message = format!(
            "File '{input}' has the purpose '{}', not 'batch'.",
            file.purpose
        );
        return Err(Failure::invalid(&message, Some("input_file_id"), None));
    }
    let id = |prefix: &str| {
        let (a, b) = (call.foundry.fresh_id(), call.foundry.fresh_id());
        format!("{prefix}{a:016x}{b:016x}")
    };
    let mut batch = Batch {
        id: id("batch_"),
        created: call.created(),
        start: call.received,
        length: call.foundry.background_time,
        endpoint: endpoint.to_owned(),
        input: input.to_owned(),
        window: window.to_owned(),
        metadata: body.or("metadata", Value::Null),
        project: call.place.project.map(str::to_owned),
        key: Arc::clone(&call.key),
        deployment: None,
        lines: Vec::new(),
        errors: Vec::new(),
        cancelled: None,
        files: [id("file-"), id("file-")],
        is_settled: false,
    };
    match run(call, endpoint, &file.data) {
        Ok((deployment, lines)) => {
            (batch.deployment, batch.lines) = (Some(deployment), lines);
        }
        Err(error) => batch.errors.push(error),
    }
    let foundry = Arc::clone(call.foundry);
    Ok(Job::free(move || {
        let object = batch.object(batch.start);
        foundry.keep_batch(batch);
        Reply::json(object.to_string())
    }))
}

/// `GET batches/{}`
pub(crate) fn get(call: &Call<'_>) -> Result<Job, Failure> {
    let object = found(call)?.object(call.received);
    Ok(Job::free(move || Reply::json(object.to_string())))
}

/// `GET batches`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let batches = call.foundry.batches.lock();
    let project = call.place.project;
    let mut all: Vec<&Batch> = batches
        .values()
        .filter(|batch| batch.project.as_deref() == project)
        .collect();
    all.sort_unstable_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
    let objects = all.into_iter().map(|batch| batch.object(call.received));
    let page = match call.surface() {
        // Azure's own shape.
        Surface::Dated { .. } => json!({"value": objects.rev().collect::<Vec<_>>()}),
        Surface::V1 | Surface::Deployment { .. } | Surface::Anthropic => {
            page(call, objects.collect())?
        }
    };
    Ok(Job::free(move || Reply::json(page.to_string())))
}

/// `POST batches/{}/cancel`
pub(crate) fn cancel(call: &Call<'_>) -> Result<Job, Failure> {
    let batch = found(call)?;
    let (foundry, now) = (Arc::clone(call.foundry), call.received);
    Ok(Job::free(move || {
        let mut batches = foundry.batches.lock();
        let kept = batches.get_mut(&batch.id, batch.project.as_deref());
        let object = kept.map(|kept| {
            kept.cancel(now);
            kept.object(now)
        });
        Reply::json(object.unwrap_or_default().to_string())
    }))
}

/// The batch that the path names.
fn found(call: &Call<'_>) -> Result<Batch, Failure> {
    let [id, _] = call.ids;
    let batches = call.foundry.batches.lock();
    let batch = batches.get(id, call.place.project).cloned();
    batch.ok_or_else(|| Failure::unknown_id("Batch", id))
}

/// What answers the lines with this `url`.
fn handler(url: &str) -> Option<Handler> {
    match url.strip_prefix("/v1").unwrap_or(url) {
        "/chat/completions" => Some(chat::create),
        "/completions" => Some(completions::create),
        "/embeddings" => Some(embeddings::create),
        "/responses" => Some(responses::create),
        _ => None,
    }
}

/// Why a file is refused: one of Azure's codes, and the line.
fn refused(code: &str, message: &str, line: Option<usize>) -> Value {
    json!({"code": code, "message": message, "line": line, "param": null})
}

/// Runs all lines of a file, if all of them are in order.
fn run(
    call: &Call<'_>,
    endpoint: &str,
    file: &[u8],
) -> Result<(Arc<Deployment>, Vec<Line>), Value> {
    let lines = file.split(|byte| *byte == b'\n');
    let lines = (1..)
        .zip(lines)
        .filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut requests = Vec::new();
    let mut ids = std::collections::HashSet::new();
    let mut named: Option<String> = None;
    for (number, line) in lines {
        let wrong = |code: &str, message: &str| refused(code, message, Some(number));
        let request: Value = serde_json::from_slice(line)
            .map_err(|error| wrong("invalid_json_line", &format!("A line is no JSON: {error}.")))?;
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        let (Some(id), Some("POST"), Some(url), Some(body)) = (
            text("custom_id"),
            text("method"),
            text("url"),
            request.get("body"),
        ) else {
            return Err(wrong(
                "invalid_request",
                "The schema of the line is invalid.",
            ));
        };
        let bare = |url: &str| url.strip_prefix("/v1").unwrap_or(url).to_owned();
        if bare(url) != bare(endpoint) {
            return Err(wrong("url_mismatch", "The URL differs from the endpoint."));
        }
        if !ids.insert(id.to_owned()) {
            return Err(wrong(
                "duplicate_custom_id",
                "The custom ID is a duplicate.",
            ));
        }
        let model = body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if named.as_deref().is_some_and(|named| named != model) {
            return Err(wrong(
                "model_mismatch",
                "The deployment differs from that of other lines.",
            ));
        }
        if !call.foundry.deployments.contains_key(model) {
            let message = format!("The deployment '{model}' was not found.");
            return Err(wrong("model_not_found", &message));
        }
        named = Some(model.to_owned());
        requests.push((id.to_owned(), url.to_owned(), Bytes::from(body.to_string())));
    }
    if requests.len() > MOST_LINES {
        return Err(refused(
            "too_many_tasks",
            "There are more than 100,000 requests.",
            None,
        ));
    }
    let deployment = named.and_then(|name| call.foundry.deployments.get(&name));
    let Some(deployment) = deployment else {
        return Err(refused("empty_file", "The input file is empty.", None));
    };
    let lines = requests
        .into_iter()
        .map(|(id, url, body)| line(call, &id, &url, &body));
    Ok((Arc::clone(deployment), lines.collect()))
}

/// Runs one line.
fn line(call: &Call<'_>, id: &str, url: &str, body: &Bytes) -> Line {
    let request = Call {
        foundry: call.foundry,
        place: Place {
            surface: Surface::V1,
            project: call.place.project,
            rest: url,
        },
        ids: [""; 2],
        headers: call.headers,
        body,
        query: "",
        key: Arc::clone(&call.key),
        received: call.received,
        found: RefCell::default(),
    };
    let no_stream = || Failure::invalid("Streaming is not supported in batches.", None, None);
    let answer = handler(url).ok_or_else(Failure::no_resource);
    let answer = answer.and_then(|handler| handler(&request));
    let answer = answer.and_then(|job| match (job.reply)() {
        Reply::Whole(whole) if !job.deferred => Ok(whole),
        Reply::Whole(_) | Reply::Events(_) | Reply::Stream { .. } => Err(no_stream()),
    });
    let (status, body, usage) = match answer {
        Ok(whole) => {
            let body = serde_json::from_slice(&whole.body).unwrap_or_default();
            (whole.status.as_u16(), body, Some(whole.usage))
        }
        Err(failure) => {
            let billed = failure.billed.as_deref().copied();
            (failure.status.as_u16(), failure.body, billed)
        }
    };
    let request_id = format!("{:016x}", call.foundry.fresh_id());
    let written: Value = json!({
        "id": format!("batch_req_{request_id}"), "custom_id": id,
        "response": {"status_code": status, "request_id": request_id, "body": body},
        "error": null,
    });
    Line {
        written: written.to_string(),
        is_error: status != 200,
        usage,
    }
}
