use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::{AiBackend, AiBackendSpec};

/// Paths of everything in a schema that has a name and a key, as a reference to a Secret has.
fn references(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    if properties.contains_key("name") && properties.contains_key("key") {
        found.push(path.to_owned());
    }
    for (name, schema) in properties {
        references(schema, &format!("{path}/{name}"), found);
    }
}

#[test]
fn every_reference_to_a_secret_is_among_its_entries() {
    let crd = serde_json::to_value(AiBackend::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut paths = Vec::new();
    references(schema, "", &mut paths);
    assert!(!paths.is_empty(), "{schema}");
    let mut spec = json!({
        "type": "Foundry", "endpoint": "https://contoso.services.ai.azure.com",
        "auth": {
            "type": "APIKey", "apiKey": {},
            "clientSecret": {"tenantID": "contoso.example", "clientID": "c"},
        },
        "tls": {}, "deployments": [{"name": "gpt-4o"}],
    });
    for path in &paths {
        let (parent, member) = path.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap();
        parent[member] = json!({"name": path, "key": "entry"});
    }
    let spec: AiBackendSpec = serde_json::from_value(spec).unwrap();
    let mut entries: Vec<_> = spec.secret_entries().collect();
    entries.sort_unstable();
    paths.sort_unstable();
    let expected: Vec<_> = paths.iter().map(|path| (path.as_str(), "entry")).collect();
    assert_eq!(entries, expected);
}
