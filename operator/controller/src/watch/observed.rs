//! A watched object, split once into metadata, status and spec.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use operator_compile::{Kind, Object, ObjectRef, decode};
use proxy_core::names::ObjectName;
use serde_json::Value;

use crate::resource::resource;
use crate::stored_status::{StoredObject, StoredStatus};

#[cfg(test)]
mod tests;

/// A watched object, split.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) object: ObjectRef,
    pub(crate) stored: StoredObject,
    pub(crate) content: Object,
}

// === impl Observed ===

impl Observed {
    /// Splits an object. `None` for one without a name, which the API server never sends.
    pub(crate) fn read(kind: Kind, mut object: DynamicObject) -> Option<Self> {
        let name = object.metadata.name.clone()?;
        let namespace = object.metadata.namespace.clone()?;
        let reference = ObjectRef::new(kind, ObjectName::new(namespace, name));
        // Apart from the spec: an unreadable status must not make the object undecodable.
        let status = object
            .data
            .as_object_mut()
            .and_then(|data| data.remove("status"));
        object.metadata.managed_fields = None;
        let stored = StoredObject {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            version: object
                .resource_version()
                .and_then(|version| version.parse().ok())
                .unwrap_or(0),
            status: StoredStatus::read(status.as_ref()),
        };
        let content = content(&reference, stored.generation, object);
        Some(Self {
            object: reference,
            stored,
            content,
        })
    }
}

fn content(reference: &ObjectRef, generation: i64, object: DynamicObject) -> Object {
    let undecodable = |message: String| Object::Undecodable {
        object: reference.clone(),
        generation,
        message,
        remains: None,
    };
    let resource = resource(reference.kind);
    let value: Value = match serde_json::to_value(object) {
        Ok(value) => value,
        Err(error) => return undecodable(error.to_string()),
    };
    match decode(&resource.kind, &resource.api_version, value) {
        Ok(Some(content)) => content,
        Ok(None) => undecodable("is of a kind that is not compiled".to_owned()),
        Err(problem) => {
            let message = problem.to_string();
            let object = problem.into_object();
            object.unwrap_or_else(|| undecodable(message))
        }
    }
}
