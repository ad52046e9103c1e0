use serde_json::json;

use super::*;
use crate::fixture;

fn read_object(value: &Value) -> Result<Option<Object>, DecodeProblem> {
    let word = |field: &str| value[field].as_str().unwrap();
    decode(word("kind"), word("apiVersion"), value.clone())
}

#[test]
fn every_kind_that_is_compiled_is_read() {
    for (value, kind) in [
        (fixture::backend("a/b"), Kind::AiBackend),
        (fixture::route("a/b"), Kind::AiRoute),
        (fixture::quota("a/b"), Kind::AiQuota),
        (fixture::secret("a/b", "k"), Kind::Secret),
        (fixture::grant("a/b", "c"), Kind::ReferenceGrant),
    ] {
        let object = read_object(&value).unwrap().unwrap();
        assert_eq!(object.object_ref(), fixture::named(kind, "a/b"));
    }
}

#[test]
fn other_kinds_are_ignored() {
    for (kind, api_version) in [
        ("ConfigMap", "v1"),
        ("AIRoute", "v1alpha1"),
        ("AIRoute", "example.com/v1alpha1"),
        ("Secret", "tundish.dev/v1alpha1"),
        ("", ""),
    ] {
        assert!(
            decode(kind, api_version, json!(null)).unwrap().is_none(),
            "{kind}"
        );
    }
}

#[test]
fn an_object_without_a_namespace_lives_in_default() {
    let mut route = fixture::route("a/chat");
    for absent in [true, false] {
        let metadata = route["metadata"].as_object_mut().unwrap();
        if absent {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".to_owned(), json!(null));
        }
        let object = read_object(&route).unwrap().unwrap();
        assert_eq!(
            object.object_ref(),
            fixture::named(Kind::AiRoute, "default/chat")
        );
    }
}

#[test]
fn nulls_count_as_absent_as_on_the_api_server() {
    let mut route = fixture::route("a/chat");
    route["spec"]["hostnames"] = json!(null);
    route["spec"]["rules"][0]["retry"] = json!({"attempts": null});
    assert!(matches!(read_object(&route), Ok(Some(Object::Route(_)))));
}

#[test]
fn a_problem_names_the_object_and_the_field() {
    let mut route = fixture::route("a/chat");
    route["spec"]["rules"][0]["retry"] = json!({"attempts": "two"});
    route["metadata"]["generation"] = json!(7);
    let problem = read_object(&route).unwrap_err();
    assert_eq!(
        problem.object,
        Some(fixture::named(Kind::AiRoute, "a/chat"))
    );
    assert_eq!(problem.field, "spec.rules[0].retry.attempts");
    assert_eq!(problem.generation, 7);
    assert!(problem.message.contains("expected i32"), "{problem}");
    let object = problem.into_object().unwrap();
    assert_eq!(format!("{object:?}"), "Object(undecodable AIRoute a/chat)");
}

#[test]
fn a_misspelt_field_is_a_problem() {
    let mut quota = fixture::quota("a/q");
    quota["spec"]["targetRef"] = json!([]);
    let problem = read_object(&quota).unwrap_err();
    assert_eq!(problem.field, "spec.targetRef");
    assert!(
        problem.message.starts_with("unknown field `targetRef`"),
        "{problem}"
    );
}

#[test]
fn an_invalid_name_is_a_problem_without_an_object() {
    for (field, value) in [
        ("name", json!("a/b")),
        ("name", json!("")),
        ("name", json!(7)),
        ("namespace", json!("A")),
        ("namespace", json!(7)),
        ("namespace", json!("")),
    ] {
        let mut route = fixture::route("a/chat");
        route["metadata"][field] = value;
        let problem = read_object(&route).unwrap_err();
        assert_eq!(problem.field, format!("metadata.{field}"));
        assert!(problem.into_object().is_none());
    }
    let problem = decode("AIRoute", "tundish.dev/v1alpha1", json!([])).unwrap_err();
    assert_eq!(problem.field, "metadata");
}

#[test]
fn an_unknown_version_is_a_problem() {
    let mut route = fixture::route("a/chat");
    route["apiVersion"] = json!("tundish.dev/v2");
    assert_eq!(read_object(&route).unwrap_err().field, "apiVersion");
}

#[test]
fn a_problem_with_a_secret_does_not_quote_it() {
    for (field, value) in [
        ("data", json!({"key": "raw-key-not-base64!"})),
        ("stringData", json!({"key": 314_159})),
        ("stringData", json!("raw-key")),
    ] {
        let mut secret = fixture::secret("a/s", "x");
        secret[field] = value;
        let text = format!("{:?}", read_object(&secret).unwrap_err());
        assert!(!text.contains("raw-key") && !text.contains("314"), "{text}");
    }
}
