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
fn a_digest_counts_as_its_key() {
    let hex = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    let secret = with(json!({"sha256": hex}));
    assert_eq!(secret.key.unwrap().digest, KeyDigest::of("abc"));
    let both = with(json!({"sha256": hex, "key": "abc"}));
    assert_eq!(both.key.unwrap().digest, KeyDigest::of("abc"));
    assert!(with(json!({"sha256": hex, "key": "abd"})).key.is_err());
    assert!(with(json!({"sha256": &hex[..62]})).key.is_err());
}

#[test]
fn a_bound_key_is_known_by_its_namespace() {
    let key = form::make("team", [1; 20]).unwrap();
    let digest = KeyDigest::of(&key);
    let hex = hex::encode(digest.as_bytes());
    let name = ObjectName::new("team", "search");
    let both = json!({"key": &key, "bound-sha256": &hex});
    for entries in [json!({"key": &key}), json!({"bound-sha256": &hex}), both] {
        let secret = with(entries.clone());
        assert_eq!(secret.bound_to(&name), Some("team"), "{entries}");
        assert_eq!(secret.key.unwrap().digest, digest, "{entries}");
    }
    // The same digit for digit, and yet not the same claim.
    let plain = with(json!({"sha256": &hex}));
    assert_eq!(plain.bound_to(&name), None);
    let refused = |entries| with(entries).key.unwrap_err();
    let two = json!({"sha256": &hex, "bound-sha256": &hex});
    assert_eq!(refused(two), InvalidKey::Contradiction);
    assert_eq!(
        refused(json!({"bound-sha256": "abc"})),
        InvalidKey::Digest("bound-sha256")
    );
    let elsewhere = form::make("another", [1; 20]).unwrap();
    assert_eq!(refused(json!({"key": elsewhere})), InvalidKey::Elsewhere);
    for damaged in [&key[..20], &key.replace('1', "7")] {
        assert_eq!(refused(json!({"key": damaged})), InvalidKey::Damaged);
    }
}

#[test]
fn string_data_wins_over_data_as_on_the_api_server() {
    let mut value = fixture::secret("team/search", "plain");
    value["data"] = json!({"key": "b3RoZXI=", "more": "AP8="});
    let secret = stored(value);
    assert_eq!(secret.text("key"), Ok("plain"));
    assert_eq!(secret.text("more"), Err(InvalidEntry::Binary));
    assert_eq!(secret.text("none"), Err(InvalidEntry::Absent));
}

#[test]
fn labels_and_annotations_describe_the_consumer() {
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
fn no_debug_output_shows_a_value() {
    let secret = with(json!({"key": "abc"}));
    assert_eq!(format!("{secret:?}"), "StoredSecret(..)");
    let object = fixture::object(fixture::secret("team/search", "abc"));
    assert_eq!(format!("{object:?}"), "Object(Secret team/search)");
}
