//! Reads one object from JSON, as files and the API server write it.

use std::fmt;

use crds::{AiRoute, GROUP, ParentRef, RouteMatch, VERSION};
use proxy_core::names::ObjectName;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bounds::{is_label, is_subdomain};
use crate::grant::Grant;
use crate::namespace;
use crate::object::{Kind, Object, ObjectRef};

/// The group of ReferenceGrants.
const GRANT_GROUP: &str = "gateway.networking.k8s.io";

/// Why an object of one of our kinds could not be read. Never quotes what a Secret holds.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeProblem {
    /// The object; `None` if it has no usable name.
    pub object: Option<ObjectRef>,
    /// Its generation; 0 if unknown.
    pub generation: i64,
    /// The place, for example `spec.rules[0].retry.attempts`; empty for the whole object.
    pub field: String,
    /// The problem and its fix, in one sentence without a full stop.
    pub message: String,
    /// What can be read of an AIRoute: its hosts, rules and matches.
    pub remains: Option<Box<AiRoute>>,
}

/// Reads an object. Returns `None` for a kind that is not compiled. A missing namespace is
/// `default`; nulls count as absent, as on the API server.
///
/// # Errors
/// The object is of one of our kinds and can't be read. [`DecodeProblem::into_object`] makes it an
/// object of the index, which fails closed.
pub fn decode(
    kind: &str,
    api_version: &str,
    mut value: Value,
) -> Result<Option<Object>, DecodeProblem> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = match (group, kind) {
        (GROUP, "AIBackend") => Kind::AiBackend,
        (GROUP, "AIRoute") => Kind::AiRoute,
        (GROUP, "AIQuota") => Kind::AiQuota,
        ("", "Secret") => Kind::Secret,
        (GRANT_GROUP, "ReferenceGrant") => Kind::ReferenceGrant,
        _ => return Ok(None),
    };
    let object = identify(kind, &mut value)?;
    let generation = value.pointer("/metadata/generation");
    let generation = generation.and_then(Value::as_i64).unwrap_or(0);
    drop_nulls(&mut value);
    let remains = |value: &Value| {
        let remains = (kind == Kind::AiRoute).then(|| remains(value));
        remains.flatten().map(Box::new)
    };
    let decoded = if group == GROUP && version != VERSION {
        Err(PathError {
            field: "apiVersion".to_owned(),
            message: format!("version {version:?} is not known here; write {GROUP}/{VERSION}"),
        })
    } else {
        decode_kind(kind, &value)
    };
    let problem = |PathError { field, message }| DecodeProblem {
        object: Some(object),
        generation,
        field,
        message,
        remains: remains(&value),
    };
    decoded.map(Some).map_err(problem)
}

fn decode_kind(kind: Kind, value: &Value) -> Result<Object, PathError> {
    match kind {
        Kind::AiBackend => read(value).map(Object::Backend),
        Kind::AiRoute => read(value).map(Object::Route),
        Kind::AiQuota => read(value).map(Object::Quota),
        // serde's message may quote the value.
        Kind::Secret => read(value).map(Object::Secret).map_err(|error| PathError {
            message: "is not as in a Secret; data holds base64 text, stringData plain text"
                .to_owned(),
            ..error
        }),
        Kind::ReferenceGrant => {
            let grant = Grant::from_json(value).map(Object::Grant);
            grant.ok_or_else(|| PathError {
                field: "spec".to_owned(),
                message: "from needs entries with group, kind and namespace, and to needs entries \
                          with group and kind"
                    .to_owned(),
            })
        }
    }
}

struct PathError {
    field: String,
    message: String,
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, PathError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        PathError {
            field: if path == "." { String::new() } else { path },
            message: error.inner().to_string(),
        }
    })
}

/// The name of the object; writes the default namespace into it.
fn identify(kind: Kind, value: &mut Value) -> Result<ObjectRef, DecodeProblem> {
    let nameless = |field: &str, message: &str| DecodeProblem {
        object: None,
        generation: 0,
        field: field.to_owned(),
        message: message.to_owned(),
        remains: None,
    };
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else {
        return Err(nameless("metadata", "is missing; give the object a name"));
    };
    let namespace = metadata
        .get("namespace")
        .filter(|namespace| !namespace.is_null());
    let namespace = match namespace {
        None => namespace::DEFAULT.to_owned(),
        Some(namespace) => namespace.as_str().unwrap_or_default().to_owned(),
    };
    if !is_label(&namespace) {
        let message = "must be lower-case letters, digits and '-', at most 63 characters";
        return Err(nameless("metadata.namespace", message));
    }
    let name = metadata.get("name").and_then(Value::as_str);
    let Some(name) = name.filter(|name| is_subdomain(name)) else {
        let message = "must be lower-case letters, digits, '-' and '.', 1 to 253 characters";
        return Err(nameless("metadata.name", message));
    };
    let object = ObjectRef::new(kind, ObjectName::new(namespace.as_str(), name));
    metadata.insert("namespace".to_owned(), Value::String(namespace));
    Ok(object)
}

/// An AIRoute with nothing but its hosts, its Gateways, and the names and matches of its rules. What cannot be read of
/// these matches everything.
fn remains(route: &Value) -> Option<AiRoute> {
    let list = |value: &Value, member: &str| -> Vec<Value> {
        let list = value.get(member).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let spec = route.get("spec")?;
    let mut hostnames = list(spec, "hostnames");
    hostnames.retain(Value::is_string);
    let mut parent_refs = list(spec, "parentRefs");
    parent_refs.retain(|one| ParentRef::deserialize(one).is_ok());
    let readable = |one: &Value| RouteMatch::deserialize(one).is_ok();
    let rule = |(index, rule): (usize, Value)| {
        let name = rule.get("name").and_then(Value::as_str);
        let name = name.map_or_else(|| format!("rule-{index}"), str::to_owned);
        let mut matches = list(&rule, "matches");
        for one in matches.iter_mut().filter(|one| !readable(one)) {
            *one = json!({});
        }
        json!({"name": name, "matches": matches, "backendRefs": []})
    };
    let mut rules: Vec<Value> = list(spec, "rules")
        .into_iter()
        .enumerate()
        .map(rule)
        .collect();
    if rules.is_empty() {
        rules.push(rule((0, Value::Null)));
    }
    let route = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "AIRoute",
        "metadata": route.get("metadata")?,
        "spec": {"hostnames": hostnames, "parentRefs": parent_refs, "rules": rules},
    });
    AiRoute::deserialize(route).ok()
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

// === impl DecodeProblem ===

impl DecodeProblem {
    /// The object for the index, where it fails closed; `None` if it has no name.
    #[must_use]
    pub fn into_object(self) -> Option<Object> {
        let message = self.to_string();
        Some(Object::Undecodable {
            object: self.object?,
            generation: self.generation,
            message,
            remains: self.remains,
        })
    }
}

impl fmt::Display for DecodeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeProblem {}

#[cfg(test)]
mod tests;
