//! `GET .../models`: the base models of the resource, not its deployments, as Foundry has it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    call::{Call, Job, Reply},
    errors::Failure,
    family::{Work, can},
    surface::Surface,
};

/// Any fixed moment does: clients only read the field.
const CREATED: u64 = 1_721_172_741;

/// `GET models`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let entry = form(call);
    let data: Vec<Value> = names(call).into_iter().map(entry).collect();
    let list = json!({"object": "list", "data": data}).to_string();
    Ok(Job::free(|| Reply::json(list)))
}

/// `GET models/{}`
pub(crate) fn one(call: &Call<'_>) -> Result<Job, Failure> {
    let [name, _] = call.ids;
    if !names(call).contains(name) {
        return Err(Failure::no_resource());
    }
    let model = form(call)(name).to_string();
    Ok(Job::free(|| Reply::json(model)))
}

fn names<'a>(call: &Call<'a>) -> BTreeSet<&'a str> {
    let deployments = call.foundry.deployments.values();
    deployments.map(|one| one.model.as_str()).collect()
}

/// The shape of an entry on this surface.
fn form(call: &Call<'_>) -> fn(&str) -> Value {
    match call.surface() {
        Surface::V1 | Surface::Anthropic => v1,
        Surface::Dated { .. } | Surface::Deployment { .. } => dated,
    }
}

fn v1(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "Azure OpenAI"})
}

fn dated(name: &str) -> Value {
    json!({
        "id": name, "object": "model", "created_at": CREATED, "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "chat_completion": can(name, Work::Chat), "completion": can(name, Work::Completions),
            "embeddings": can(name, Work::Embeddings), "fine_tune": false, "inference": true,
        },
    })
}
