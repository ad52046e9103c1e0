use serde_json::{Value, json};

use super::*;
use crate::fixture;
use crate::object::Object;

fn stored(value: Value) -> StoredSecret {
    let Object::Secret(secret) = fixture::object(value) else {
        panic!("that is no Secret");
    };
    StoredSecret::new(&ObjectName::new("team", "search"), secret)
}

fn with(string_data: Value) -> StoredSecret {
    let mut value = fixture::secret("team/search", "unused");
    value["stringData"] = string_data;
    stored(value)
}

#[test]
fn a_key_is_hashed_without_the_line_break_at_its_end() {
    for text in ["abc", "abc\n", "abc\r\n"] {
        let secret = with(json!({"key": text}));
        assert_eq!(secret.key.unwrap().digest, KeyDigest::of("abc"), "{text:?}");
    }
}

#[test]
fn a_digest_counts_as_the_key_it_is_of() {
    let hex = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    let secret = with(json!({"sha256": hex}));
    assert_eq!(secret.key.unwrap().digest, KeyDigest::of("abc"));
    let both = with(json!({"sha256": hex, "key": "abc"}));
    assert_eq!(both.key.unwrap().digest, KeyDigest::of("abc"));
    assert!(with(json!({"sha256": hex, "key": "abd"})).key.is_err());
    assert!(with(json!({"sha256": &hex[..62]})).key.is_err());
}

#[test]
fn string_data_wins_over_data_as_on_the_api_server() {
    let mut value = fixture::secret("team/search", "plain");
    value["data"] = json!({"key": "b3RoZXI=", "more": "AP8="});
    let secret = stored(value);
    assert_eq!(secret.text("key"), Ok("plain"));
    assert_eq!(secret.text("more"), Err("holds no text there"));
    assert_eq!(secret.text("none"), Err("has no such key"));
}

#[test]
fn labels_and_annotations_say_who_the_consumer_is() {
    let mut value = fixture::secret("team/search", "abc");
    value["metadata"]["labels"]["attributes.tundish.dev/team"] = json!("search");
    value["metadata"]["annotations"] = json!({
        "tundish.dev/consumer": "search-service",
        "tundish.dev/expires": "1970-01-01T01:00:00.5+01:00",
    });
    let key = stored(value).key.unwrap();
    assert_eq!(&*key.consumer, "search-service");
    assert_eq!(key.attributes, [("team".into(), "search".into())]);
    assert_eq!(key.expires_ms, Some(500));
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let secret = with(json!({"key": "abc"}));
    assert_eq!(format!("{secret:?}"), "StoredSecret(..)");
    let object = fixture::object(fixture::secret("team/search", "abc"));
    assert_eq!(format!("{object:?}"), "Object(Secret team/search)");
}

#[test]
fn a_selector_wants_all_its_labels_in_its_own_namespace() {
    let labelled = |name: &str, labels: Value| {
        let mut value = fixture::secret(name, name);
        value["metadata"]["labels"] = labels;
        (ObjectName::parse(name).unwrap(), stored(value))
    };
    let secrets: BTreeMap<_, _> = [
        labelled("a/both", json!({"x": "1", "y": "1"})),
        labelled("a/x", json!({"x": "1"})),
        labelled("a/other-value", json!({"x": "2", "y": "1"})),
        labelled("b/both", json!({"x": "1", "y": "1"})),
    ]
    .into();
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let selector = Selector::new(&secrets);
    let names = |namespace: &str, labels: &BTreeMap<String, String>| -> Vec<String> {
        let found = selector.search(namespace, labels);
        found
            .into_iter()
            .map(|(name, _)| name.to_string())
            .collect()
    };
    assert_eq!(names("a", &labels(&[("x", "1"), ("y", "1")])), ["a/both"]);
    assert_eq!(names("a", &labels(&[("x", "1")])), ["a/both", "a/x"]);
    assert!(names("a", &labels(&[("x", "1"), ("z", "1")])).is_empty());
    assert!(names("a", &labels(&[])).is_empty());
    assert!(names("c", &labels(&[("x", "1")])).is_empty());
}
