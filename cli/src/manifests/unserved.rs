//! Operations that a route asks for and that this version does not serve.

use proxy_core::names::Operation;
use serde_json::Value;

/// Their fields in an object of this kind, each with what is served instead.
pub(super) fn operations(kind: &str, object: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let items = |value: &Value, field: &str| {
        let items = value.pointer(field).and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    };
    if kind != "AIRoute" {
        return found;
    }
    let served = proxy_api::served(proxy_api::ROWS);
    let names: Vec<&str> = served.iter().map(|one| one.as_str()).collect();
    let names = names.join(", ");
    for (rule, value) in items(object, "/spec/rules").iter().enumerate() {
        for (one, value) in items(value, "/matches").iter().enumerate() {
            for (index, word) in items(value, "/operations").iter().enumerate() {
                let Some(operation) = word.as_str().and_then(Operation::parse) else {
                    continue;
                };
                if !served.contains(&operation) {
                    let field = format!("spec.rules[{rule}].matches[{one}].operations[{index}]");
                    let word = operation.as_str();
                    let message = format!(
                        "this version does not serve {word}, so no request matches; it serves {names}"
                    );
                    found.push((field, message));
                }
            }
        }
    }
    found
}
