//! An object as an event brings it, taken apart once.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use operator_compile::{Kind, Object, ObjectRef, decode};
use proxy_core::names::ObjectName;
use serde_json::Value;

use crate::known::{Known, StoredStatus};

#[cfg(test)]
mod tests;

/// An object, with what is not its content apart.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) object: ObjectRef,
    pub(crate) known: Known,
    pub(crate) content: Object,
}

// === impl Seen ===

impl Seen {
    /// Takes an object apart. `None` for one without a name, which the API server never sends.
    pub(crate) fn read(kind: Kind, mut object: DynamicObject) -> Option<Self> {
        let name = object.metadata.name.clone()?;
        let namespace = object.metadata.namespace.clone()?;
        let reference = ObjectRef::new(kind, ObjectName::new(namespace, name));
        // Not content: a status that cannot be read must not keep the spec from being read.
        let status = object
            .data
            .as_object_mut()
            .and_then(|data| data.remove("status"));
        object.metadata.managed_fields = None;
        let known = Known {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            version: object
                .resource_version()
                .and_then(|version| version.parse().ok())
                .unwrap_or(0),
            status: StoredStatus::read(status.as_ref()),
        };
        let content = content(&reference, object);
        Some(Self {
            object: reference,
            known,
            content,
        })
    }
}

fn content(reference: &ObjectRef, object: DynamicObject) -> Object {
    let created = object.metadata.creation_timestamp.clone();
    let created_s = created.map_or(0, |time| time.0.as_second());
    let undecodable = |message: String| Object::Undecodable {
        object: reference.clone(),
        created_s,
        message,
    };
    let resource = super::resource(reference.kind);
    let value: Value = match serde_json::to_value(object) {
        Ok(value) => value,
        Err(error) => return undecodable(error.to_string()),
    };
    match decode(&resource.kind, &resource.api_version, value) {
        Ok(Some(content)) => content,
        Ok(None) => undecodable("is of a kind that takes no part".to_owned()),
        Err(problem) => undecodable(problem.to_string()),
    }
}
