use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The entry of a route with many keys.
fn route(host: &str, keys: impl IntoIterator<Item = usize>, model: &str) -> String {
    let keys: Vec<String> = keys
        .into_iter()
        .map(|key| format!("team-a/consumer-{key}"))
        .collect();
    json!({"authentication": {"keys": keys}, "hostnames": [host], "rules": [{"models": [model]}]})
        .to_string()
}

/// The bytes of the edit between them, which must make the one of the other.
fn check(old: &str, new: &str) -> usize {
    let edit = Edit::between(old, new).unwrap();
    let bytes = serde_json::to_vec(&edit).unwrap();
    let received: Edit = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(received.of(old).as_deref(), Some(new));
    bytes.len()
}

#[test]
fn an_edit_is_as_long_as_what_changed() {
    let old = route("a.example.com", 0..200, "gpt-5");
    assert!(check(&old, &route("a.example.com", 0..200, "gpt-6")) < 40);
    let keys = || (0..200).filter(|key| key % 50 != 7);
    assert!(check(&old, &route("b.example.com", keys(), "gpt-6")) < 200);
    let more = (0..200).chain([1_000, 2_000]);
    assert!(check(&old, &route("ä.example.com", more, "gpt-ü")) < 200);
}

#[test]
fn what_is_another_text_is_no_edit() {
    let old = route("a.example.com", 0..200, "gpt-5");
    assert_eq!(
        Edit::between(&old, &route("a.example.com", 300..400, "gpt-5")),
        None
    );
    assert_eq!(Edit::between("", &old), None);
    let long = "x".repeat(LONGEST + 1);
    assert_eq!(Edit::between(&long, &long), None);
}

#[test]
fn an_edit_for_another_text_or_one_without_end_makes_nothing() {
    let edit = |json: serde_json::Value| serde_json::from_value::<Edit>(json).unwrap();
    assert_eq!(edit(json!([[0, 3], "x"])).of("ab"), None);
    assert_eq!(edit(json!([[2, 1]])).of("abc"), None);
    assert_eq!(edit(json!([[0, 1]])).of("ä"), None);
    let old = "x".repeat(LONGEST / 4);
    let all = [0, old.len()];
    assert!(edit(json!([all, all, all])).of(&old).is_some());
    assert_eq!(edit(json!([all, all, all, all, "x"])).of(&old), None);
}

proptest! {
    #[test]
    fn an_edit_makes_the_new_text_of_the_old(
        pieces in proptest::collection::vec("[a-cä]{0,30}", 1..8),
        old in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        new in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let text = |of: &[prop::sample::Index]| {
            let all: Vec<&str> = of.iter().map(|index| &**index.get(&pieces)).collect();
            all.join(",")
        };
        let (old, new) = (text(&old), text(&new));
        if let Some(edit) = Edit::between(&old, &new) {
            prop_assert_eq!(edit.of(&old), Some(new));
        }
    }
}
