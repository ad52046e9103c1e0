//! Secrets that are made outside the folder, as by External Secrets, Sealed Secrets or `kubectl create`.

use std::collections::BTreeMap;

use crds::Reason;
use operator_compile::{Compiled, Index, ObjectRef, Severity, decode};
use serde_json::{Map, Value, json};

/// The entry of a backend's Secret that is read if the object names none.
const API_KEY: &str = "api-key";
/// The field of a reference to certificates. Nothing stands in for those, so the reference goes.
const CERTIFICATE: &str = "caCertificateRef";

/// A reference to a Secret that the folder lacks.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) object: ObjectRef,
    pub(super) field: String,
    pub(super) message: String,
}

/// Puts a stand-in for each Secret that `compiled` lacks into the index, so that only what depends on
/// its content is unknown. `source` is the object as the folder has it.
pub(super) fn assume(
    compiled: &Compiled,
    source: impl Fn(&ObjectRef) -> Option<Value>,
    index: &mut Index,
) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut entries: BTreeMap<(String, String), Map<String, Value>> = BTreeMap::new();
    let diagnostics = compiled.verdicts.values();
    for diagnostic in diagnostics.flat_map(|verdict| &verdict.diagnostics) {
        let is_missing =
            diagnostic.reason == Reason::SecretNotFound && diagnostic.severity == Severity::Error;
        let object = source(&diagnostic.object);
        let (true, Some(mut object), Some(reference)) =
            (is_missing, object, diagnostic.field.strip_suffix(".name"))
        else {
            continue;
        };
        let pointer = format!("/{}", reference.replace('.', "/"));
        let text = |field: &str| {
            let value = object.pointer(&format!("{pointer}/{field}"));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let Some(secret) = text("name") else {
            continue;
        };
        let name = &diagnostic.object.name;
        missing.push(Missing {
            object: diagnostic.object.clone(),
            field: diagnostic.field.clone(),
            message: format!(
                "Secret {secret} is not in the folder; it must be in namespace {} of the cluster",
                name.namespace()
            ),
        });
        if reference.ends_with(CERTIFICATE) {
            let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
            parent.and_then(|parent| parent.remove(CERTIFICATE));
            apply(index, &object);
            continue;
        }
        let entry = text("key").unwrap_or_else(|| API_KEY.to_owned());
        let key = (name.namespace().to_owned(), secret);
        entries
            .entry(key)
            .or_default()
            .insert(entry, json!("external"));
    }
    for ((namespace, name), data) in entries {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name}, "stringData": data,
        });
        apply(index, &secret);
    }
    missing
}

fn apply(index: &mut Index, object: &Value) {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or("");
    if let Ok(Some(object)) = decode(text("kind"), text("apiVersion"), object.clone()) {
        index.apply(object);
    }
}
