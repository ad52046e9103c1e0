//! What the operator keeps of a Secret: its labels, the entries and annotations of a consumer's key, and the entries
//! that an AIBackend refers to. Tenants may store many Secrets of a megabyte; they must not fill the operator's
//! memory.

use kube::api::DynamicObject;
use operator_compile::consumer_key::{BOUND, CONSUMER, DIGEST, EXPIRES, LONGEST_KEY, RAW};
use serde_json::Value;

use super::referred::Entries;

#[cfg(test)]
mod tests;

/// Most bytes of labels: a few dozen of the greatest length fit. A Secret with more counts as one without any.
const LABELS: usize = 16 * 1_024;

/// Longest annotation: longer than any valid one, so that what is cut stays invalid.
const ANNOTATION: usize = 512;

/// Base64 of a little more than the longest key, so that a longer one is refused as what it is. A multiple of four.
const ENTRY: usize = (LONGEST_KEY / 3 + 2) * 4;

/// Takes everything else out of a Secret.
pub(super) fn retain(secret: &mut DynamicObject, referred: &Entries) {
    let metadata = &mut secret.metadata;
    metadata.owner_references = None;
    metadata.finalizers = None;
    let labels = metadata.labels.iter().flatten();
    let sizes = labels.map(|(name, value)| name.len() + value.len());
    if sizes.sum::<usize>() > LABELS {
        metadata.labels = None;
    }
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| [CONSUMER, EXPIRES].contains(&name.as_str()));
        for value in annotations.values_mut() {
            *value = value.chars().take(ANNOTATION).collect();
        }
    }
    let Some(members) = secret.data.as_object_mut() else {
        return;
    };
    members.retain(|name, _| name == "data");
    let entries = members.get_mut("data").and_then(Value::as_object_mut);
    let Some(entries) = entries else { return };
    entries.retain(|name, value| {
        if referred.contains(name) {
            return true;
        }
        let is_of_a_key = [RAW, DIGEST, BOUND].contains(&name.as_str());
        if let (true, Value::String(base64)) = (is_of_a_key, value)
            && base64.len() > ENTRY
        {
            // ASCII, or no base64 at all.
            *base64 = base64.chars().take(ENTRY).collect();
        }
        is_of_a_key
    });
}
