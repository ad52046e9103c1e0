//! The CustomResourceDefinitions, made from the types.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::ai_backend::AiBackend;
use crate::ai_quota::AiQuota;
use crate::ai_route::AiRoute;
use crate::condition::{ConditionStatus, ConditionType, Reason};

/// The definitions of all three kinds, in the order in which their file names sort.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [AiBackend::crd(), AiQuota::crd(), AiRoute::crd()].map(|mut definition| {
        let schemas = definition
            .spec
            .versions
            .iter_mut()
            .filter_map(|v| v.schema.as_mut());
        schemas
            .filter_map(|schema| schema.open_api_v3_schema.as_mut())
            .for_each(|schema| {
                polish(schema);
                await_operator(schema);
            });
        definition
    })
}

/// Gives objects a status before an operator sees them, as Gateway API does: tools that wait for `Ready` take
/// an object without any status for one that has none, and go on.
fn await_operator(schema: &mut JSONSchemaProps) {
    let properties = schema.properties.as_mut();
    if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(json!({"conditions": [{
            "type": ConditionType::Ready.as_str(),
            "status": ConditionStatus::Unknown.as_str(),
            "reason": Reason::Pending.as_str(),
            "message": "waits for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }]})));
    }
}

/// The committed form of [`definitions`]: file name to YAML. The same types give the same bytes.
///
/// # Errors
/// Fails only when a definition can't be written as YAML, which the tests rule out.
pub fn manifests() -> Result<BTreeMap<String, String>, serde_saphyr::SerializeError> {
    definitions()
        .into_iter()
        .map(|definition| {
            let file = format!("{}.yaml", definition.spec.names.plural);
            let yaml = serde_saphyr::to_string(&definition)?;
            Ok((
                file,
                format!("# Made by crdgen from the types in crds/src. Do not edit.\n{yaml}"),
            ))
        })
        .collect()
}

/// Removes traces of Rust: line breaks of doc comments (`kubectl explain` wraps lines itself),
/// names of types, and the null that the derive allows for a status.
fn polish(schema: &mut JSONSchemaProps) {
    schema.title = None;
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect();
        *description = paragraphs.join("\n\n");
    }
    schema
        .properties
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
        .for_each(polish);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => polish(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(polish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        polish(value);
    }
}
