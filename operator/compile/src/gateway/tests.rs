use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::json;

use super::{Gateways, LabelSelector};

#[test]
fn a_selector_reads_labels_as_kubernetes_does() {
    let labels: BTreeMap<String, String> = [("team", "search"), ("stage", "prod")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let check = |selector: serde_json::Value, expect: bool| {
        let read = LabelSelector::deserialize(&selector).unwrap();
        assert_eq!(read.matches(&labels), expect, "{selector}");
    };
    check(json!({}), true);
    check(json!({"matchLabels": {"team": "search"}}), true);
    check(
        json!({"matchLabels": {"team": "search", "stage": "test"}}),
        false,
    );
    let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check(expression("In", "team", &["ads", "search"]), true);
    check(expression("In", "region", &["eu"]), false);
    check(expression("NotIn", "team", &["search"]), false);
    check(expression("NotIn", "region", &["eu"]), true);
    check(expression("Exists", "stage", &[]), true);
    check(expression("DoesNotExist", "stage", &[]), false);
    check(expression("Like", "team", &["search"]), false);
}

#[test]
fn only_the_class_of_the_installation_is_taken_in() {
    let mut gateways = Gateways {
        class_name: "tundish".to_owned(),
        ..Gateways::default()
    };
    let class = |name: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": name}, "spec": {"controllerName": super::CONTROLLER_NAME},
        })
    };
    assert!(gateways.apply(&class("other")));
    assert_eq!(gateways.class, None);
    assert!(gateways.apply(&class("tundish")));
    assert!(gateways.class.is_some());
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"});
    assert!(!gateways.apply(&route));
}
