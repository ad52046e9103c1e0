use kube::api::DynamicObject;
use operator_compile::{Kind, Object};
use serde_json::{Value, json};

use super::Seen;

fn seen(kind: Kind, object: Value) -> Seen {
    let object: DynamicObject = serde_json::from_value(object).expect("it has metadata");
    Seen::read(kind, object).expect("it has a name")
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
fn an_object_is_taken_apart() {
    let seen = seen(Kind::AiRoute, route());
    assert_eq!(seen.object.to_string(), "AIRoute team/chat");
    assert_eq!((seen.known.generation, seen.known.version), (3, 77));
    assert_eq!(seen.known.status.programmed, "1/2");
    assert_eq!(seen.known.status.newest_generation(), Some(2));
    let Object::Route(route) = seen.content else {
        panic!("it is {:?}", seen.content);
    };
    assert_eq!(route.status, None);
    assert_eq!(route.metadata.managed_fields, None);
}

#[test]
fn a_spec_that_cannot_be_decoded_makes_the_object_undecodable_and_names_the_field() {
    let mut object = route();
    object["spec"]["rules"][0]["backendRefs"] = json!("foundry");
    let seen = seen(Kind::AiRoute, object);
    assert_eq!(seen.known.generation, 3);
    let Object::Undecodable {
        object,
        created_s,
        message,
    } = seen.content
    else {
        panic!("it is {:?}", seen.content);
    };
    assert_eq!(object.to_string(), "AIRoute team/chat");
    assert_eq!(created_s, 1_767_323_045);
    assert!(message.contains("spec.rules[0].backendRefs"), "{message}");
}

#[test]
fn a_misspelt_restriction_makes_the_object_undecodable_instead_of_wider() {
    let mut object = route();
    object["spec"]["hostname"] = json!(["ai.example.com"]);
    let seen = seen(Kind::AiRoute, object);
    assert!(matches!(seen.content, Object::Undecodable { .. }));
}

#[test]
fn a_status_that_cannot_be_read_does_not_keep_the_spec_from_being_read() {
    let mut object = route();
    object["status"] = json!({"conditions": [{"type": 5}, "?"], "observedGeneration": "x"});
    let seen = seen(Kind::AiRoute, object);
    assert!(matches!(seen.content, Object::Route(_)));
    assert_eq!(seen.known.status, crate::known::StoredStatus::default());
}

#[test]
fn items_of_a_list_need_no_kind_of_their_own() {
    let object = json!({
        "metadata": {"name": "key", "namespace": "team", "resourceVersion": "1"},
        "data": {"key": "bm90LWEta2V5"},
    });
    let seen = seen(Kind::Secret, object);
    assert!(matches!(seen.content, Object::Secret(_)));
    assert!(!format!("{seen:?}").contains("bm90"), "{seen:?}");
}
