use kube::api::DynamicObject;
use operator_compile::{Kind, Object};
use serde_json::{Value, json};

use super::Observed;
use crate::stored_status::StoredStatus;

fn observed(kind: Kind, object: Value) -> Observed {
    let object: DynamicObject = serde_json::from_value(object).expect("it has metadata");
    Observed::read(kind, object).expect("it has a name")
}

fn route() -> Value {
    json!({
        "metadata": {
            "name": "chat", "namespace": "team", "uid": "u", "generation": 3, "resourceVersion": "77",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"rules": [{"name": "chat", "backendRefs": [{"name": "foundry"}]}]},
        "status": {
            "observedGeneration": 2,
            "programmed": "1/2",
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "observedGeneration": 2, "lastTransitionTime": "2026-01-02T03:04:06Z",
            }],
        },
    })
}

#[test]
fn an_object_is_split_into_its_parts() {
    let observed = observed(Kind::AiRoute, route());
    assert_eq!(observed.object.to_string(), "AIRoute team/chat");
    assert_eq!(
        (observed.stored.generation, observed.stored.version),
        (3, 77)
    );
    assert_eq!(observed.stored.status.programmed, "1/2");
    assert_eq!(observed.stored.status.newest_generation(), Some(2));
    let Object::Route(route) = observed.content else {
        panic!("it is {:?}", observed.content);
    };
    assert_eq!(route.status, None);
    assert_eq!(route.metadata.managed_fields, None);
}

#[test]
fn an_invalid_spec_makes_the_object_undecodable_and_names_the_field() {
    let mut object = route();
    object["spec"]["rules"][0]["backendRefs"] = json!("foundry");
    let observed = observed(Kind::AiRoute, object);
    let Object::Undecodable {
        object,
        generation,
        message,
        ..
    } = observed.content
    else {
        panic!("it is {:?}", observed.content);
    };
    assert_eq!(object.to_string(), "AIRoute team/chat");
    assert_eq!(generation, 3);
    assert!(message.contains("spec.rules[0].backendRefs"), "{message}");
}

#[test]
fn a_misspelt_restriction_makes_the_object_undecodable_instead_of_wider() {
    let mut object = route();
    object["spec"]["hostname"] = json!(["ai.example.com"]);
    let observed = observed(Kind::AiRoute, object);
    assert!(matches!(observed.content, Object::Undecodable { .. }));
}

#[test]
fn an_unreadable_status_does_not_make_the_object_undecodable() {
    let mut object = route();
    object["status"] = json!({"conditions": [{"type": 5}, "?"], "observedGeneration": "x"});
    let observed = observed(Kind::AiRoute, object);
    assert!(matches!(observed.content, Object::Route(_)));
    assert_eq!(observed.stored.status, StoredStatus::default());
}

#[test]
fn the_items_of_a_list_need_no_kind() {
    let object = json!({
        "metadata": {"name": "key", "namespace": "team", "resourceVersion": "1"},
        "data": {"key": "bm90LWEta2V5"},
    });
    let observed = observed(Kind::Secret, object);
    assert!(matches!(observed.content, Object::Secret(_)));
    assert!(!format!("{observed:?}").contains("bm90"), "{observed:?}");
}
