//! Lists of deployments: as Azure's resource manager has them, which agents of Foundry ask gateways for
//! too, and as the data plane had them until 2023.

use serde_json::{Value, json};

use crate::{
    call::{Call, Job, Reply},
    deployment::Deployment,
    errors::Failure,
    family::{self, Work},
};

/// Any fixed moment does: clients only read the field.
const CREATED: u64 = 1_721_172_741;

/// `GET deployments`
pub(crate) fn list(call: &Call<'_>) -> Result<Job, Failure> {
    let deployments = call.foundry.deployments.values();
    let mut deployments: Vec<&Deployment> = deployments.map(AsRef::as_ref).collect();
    deployments.sort_unstable_by_key(|one| &one.name);
    // The last version with a list of its own is 2023-03-15-preview.
    let list = if call.surface().version() < "2023-04" {
        let data: Vec<Value> = deployments.into_iter().map(of_data_plane).collect();
        json!({"object": "list", "data": data})
    } else {
        let value: Vec<Value> = deployments.into_iter().map(of_resource_manager).collect();
        json!({"value": value})
    };
    Ok(Job::free(move || Reply::json(list.to_string())))
}

/// `GET deployments/{}`
pub(crate) fn one(call: &Call<'_>) -> Result<Job, Failure> {
    let [name, _] = call.ids;
    let deployment = call.foundry.deployments.get(name);
    let deployment = deployment.ok_or_else(Failure::no_deployment)?;
    let object = if call.surface().version() < "2023-04" {
        of_data_plane(deployment)
    } else {
        of_resource_manager(deployment)
    };
    Ok(Job::free(move || Reply::json(object.to_string())))
}

fn of_data_plane(deployment: &Deployment) -> Value {
    json!({
        "id": deployment.name, "object": "deployment", "model": deployment.model,
        "owner": "organization-owner", "status": "succeeded", "created_at": CREATED,
        "updated_at": CREATED, "scale_settings": {"scale_type": "standard"},
    })
}

fn of_resource_manager(deployment: &Deployment) -> Value {
    let model = deployment.model.as_str();
    let (name, version) = split(model);
    let can = |work| {
        if family::can(model, work) {
            "true"
        } else {
            "false"
        }
    };
    json!({
        "id": format!(
            "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sim/providers/\
             Microsoft.CognitiveServices/accounts/sim/deployments/{}",
            deployment.name
        ),
        "type": "Microsoft.CognitiveServices/accounts/deployments",
        "name": deployment.name,
        "sku": {"name": "GlobalStandard", "capacity": 1},
        "properties": {
            "model": {"format": family::publisher(model), "name": name, "version": version},
            "provisioningState": "Succeeded",
            "capabilities": {
                "chatCompletion": can(Work::Chat), "responses": can(Work::Responses),
                "embeddings": can(Work::Embeddings), "imageGenerations": can(Work::Images),
            },
        },
    })
}

/// A model's name and its version: the date at its end, if there is one.
fn split(model: &str) -> (&str, &str) {
    let at = model.len().saturating_sub("-2024-11-20".len());
    let date = model.get(at + 1..).unwrap_or_default();
    let is_date = date.len() == 10
        && date.split('-').map(str::len).eq([4, 2, 2])
        && date
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_digit());
    match model.get(..at).filter(|name| is_date && !name.is_empty()) {
        Some(name) => (name, date),
        None => (model, "1"),
    }
}

#[cfg(test)]
mod tests;
