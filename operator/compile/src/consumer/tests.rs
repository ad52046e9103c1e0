use serde_json::json;

use super::*;
use crate::fixture;

#[test]
fn a_selector_matches_all_its_labels_in_its_own_namespace() {
    let mut all = Labels::default();
    for (name, labels) in [
        ("a/both", json!({"x": "1", "y": "1"})),
        ("a/x", json!({"x": "1"})),
        ("a/other-value", json!({"x": "2", "y": "1"})),
        ("b/both", json!({"x": "1", "y": "1"})),
    ] {
        let labels = serde_json::from_value(labels).unwrap();
        all.insert(&ObjectName::parse(name).unwrap(), &labels);
    }
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let names = |namespace: &str, labels: &BTreeMap<String, String>| -> Vec<String> {
        let found = all.find(namespace, labels);
        found.into_iter().map(|name| name.to_string()).collect()
    };
    assert_eq!(names("a", &labels(&[("x", "1"), ("y", "1")])), ["a/both"]);
    assert_eq!(names("a", &labels(&[("x", "1")])), ["a/both", "a/x"]);
    assert!(names("a", &labels(&[("x", "1"), ("z", "1")])).is_empty());
    assert!(names("a", &labels(&[])).is_empty());
    assert!(names("c", &labels(&[("x", "1")])).is_empty());
}

#[test]
fn a_secret_whose_key_admits_no_caller_is_named_once() {
    let labelled = |name: &str, key: &str| {
        let mut value = fixture::secret(name, key);
        value["metadata"]["labels"] = json!({"tundish.dev/keys": "chat"});
        value["metadata"]["uid"] = json!(format!("uid of {name}"));
        value
    };
    let mut route = fixture::route("a/one");
    route["spec"]["authentication"] =
        json!({"apiKeys": {"secretSelector": {"matchLabels": {"tundish.dev/keys": "chat"}}}});
    let mut other = route.clone();
    other["metadata"]["name"] = json!("two");
    other["spec"]["hostnames"] = json!(["two.example.com"]);
    let objects = [labelled("a/bad", ""), labelled("a/good", "k"), route, other];
    let unusable = fixture::compiled(objects).unusable_keys;
    let found: Vec<_> = unusable.iter().map(|one| one.secret.to_string()).collect();
    assert_eq!(found, ["a/bad"]);
    let only = unusable.first().expect("there is one");
    assert_eq!(only.uid, "uid of a/bad");
    assert!(
        only.message.contains("put the consumer's key there"),
        "{}",
        only.message
    );
}
