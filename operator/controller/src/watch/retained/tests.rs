use std::collections::BTreeMap;

use kube::api::DynamicObject;
use operator_compile::consumer_key::LONGEST_KEY;
use serde_json::{Value, json};

use super::{ANNOTATION, Entries, LABELS, retain};

/// What is kept of a Secret with this metadata and data.
fn kept(metadata: &Value, data: &Value, referred: &[&str]) -> (DynamicObject, Value) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data,
    });
    let mut secret: DynamicObject = serde_json::from_value(secret).unwrap();
    let referred: Entries = referred.iter().map(|&entry| entry.to_owned()).collect();
    retain(&mut secret, &referred);
    let data = secret.data["data"].clone();
    (secret, data)
}

#[test]
fn keeps_a_consumers_key_and_what_is_referred_to() {
    let data = json!({
        "key": "a2V5", "sha256": "MDA=", "bound-sha256": "MDA=", "used": "dXNlZA==", "bulk": "YnVsaw==",
    });
    let (_, kept) = kept(&json!({"name": "mixed"}), &data, &["used", "absent"]);
    let mut expected = data;
    expected.as_object_mut().unwrap().remove("bulk");
    assert_eq!(kept, expected);
}

#[test]
fn a_key_that_is_too_long_stays_too_long_and_is_cut() {
    let long = "A".repeat(1_000_000);
    let (_, data) = kept(
        &json!({"name": "long"}),
        &json!({"key": long, "used": long}),
        &["used"],
    );
    assert_eq!(data["used"], long, "what is referred to is whole");
    let key = data["key"].as_str().unwrap();
    assert_eq!(key.len() % 4, 0, "it is base64");
    assert!(key.len() / 4 * 3 > LONGEST_KEY && key.len() < 2 * LONGEST_KEY);
}

#[test]
fn labels_are_kept_within_bounds_and_annotations_of_a_key_only() {
    let annotations = json!({
        "tundish.dev/consumer": "é".repeat(100_000), "tundish.dev/expires": "2027-01-31T00:00:00Z",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    });
    let metadata = json!({
        "name": "ann", "labels": {"tundish.dev/keys": "chat"}, "annotations": annotations,
        "finalizers": ["a/b"], "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
    });
    let (secret, _) = kept(&metadata, &json!({}), &[]);
    let labels = BTreeMap::from([("tundish.dev/keys".to_owned(), "chat".to_owned())]);
    assert_eq!(secret.metadata.labels, Some(labels));
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(annotations.len(), 2, "{annotations:?}");
    assert_eq!(annotations["tundish.dev/expires"], "2027-01-31T00:00:00Z");
    assert_eq!(
        annotations["tundish.dev/consumer"].chars().count(),
        ANNOTATION
    );
    assert_eq!(
        (secret.metadata.finalizers, secret.metadata.owner_references),
        (None, None)
    );

    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for number in 0..LABELS / 100 {
        labels.insert(format!("{number:037}"), "v".repeat(63));
    }
    let (secret, _) = kept(&json!({"name": "fits", "labels": labels}), &json!({}), &[]);
    assert_eq!(secret.metadata.labels, Some(labels.clone()));
    labels.insert("one".to_owned(), "v".repeat(63));
    labels.insert("more".to_owned(), "v".repeat(63));
    let (secret, _) = kept(
        &json!({"name": "too-many", "labels": labels}),
        &json!({}),
        &[],
    );
    assert_eq!(secret.metadata.labels, None);
}
