use serde_json::{Value, json};

use super::*;
use crate::fixture;
use crate::object::Object;

#[test]
fn a_selector_matches_all_its_labels_in_its_own_namespace() {
    let labelled = |name: &str, labels: Value| {
        let mut value = fixture::secret(name, name);
        value["metadata"]["labels"] = labels;
        let name = ObjectName::parse(name).unwrap();
        let Object::Secret(secret) = fixture::object(value) else {
            panic!("that is no Secret");
        };
        let secret = StoredSecret::new(&name, secret);
        (name, secret)
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
