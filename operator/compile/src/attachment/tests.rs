use proptest::prelude::*;
use proxy_core::names::ObjectName;
use proxy_core::route::HostPattern;
use serde_json::{Value, json};

use super::common;
use crate::fixture::{backend, compiled_with, gateway, gateways, route, secret, verdict};
use crate::{Compiled, Kind};

const EDGE: &str = "tundish-system/edge";

/// A listener for the namespaces that `from` says.
fn listener(name: &str, hostname: &str, from: &Value) -> Value {
    json!({"name": name, "hostname": hostname, "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": from}})
}

fn all() -> Value {
    json!({"from": "All"})
}

/// A route with keys, which attaches to the Gateway `edge`.
fn attaching(name: &str, hostnames: &[&str]) -> Value {
    let mut route = route(name);
    route["spec"]["authentication"] =
        json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
    route["spec"]["hostnames"] = json!(hostnames);
    route["spec"]["parentRefs"] = json!([{"name": "edge", "namespace": "tundish-system"}]);
    route
}

/// The hosts of the compiled route, whether it is rejected, and the condition of each parent.
fn attached(compiled: &Compiled, name: &str) -> String {
    let object = ObjectName::parse(name).unwrap();
    let route = compiled
        .contents
        .routes
        .iter()
        .find(|one| one.name == object);
    let hosts = route.map_or_else(
        || "out".to_owned(),
        |route| {
            let hosts: Vec<String> = route.hostnames.iter().map(ToString::to_string).collect();
            let rejected = if route.rejected.is_some() {
                "rejected at "
            } else {
                ""
            };
            format!("{rejected}{hosts:?}")
        },
    );
    let parents = verdict(compiled, Kind::AiRoute, name)
        .parents
        .iter()
        .map(|parent| {
            format!(
                "{} {}",
                parent.conditions[0].reason,
                parent.listeners.join(",")
            )
        });
    let parents: Vec<String> = parents.collect();
    format!("{hosts}; {}", parents.join("; "))
}

fn compiled(listeners: &Value, mut route: Value, change: impl FnOnce(&mut Value)) -> Compiled {
    change(&mut route);
    let objects = [
        gateway(EDGE, listeners),
        route,
        backend("a/eu"),
        secret("a/ann", "k"),
    ];
    compiled_with(gateways(), objects)
}

#[track_caller]
fn check(listeners: &Value, hostnames: &[&str], expect: &str) {
    let compiled = compiled(listeners, attaching("a/chat", hostnames), |_| {});
    assert_eq!(attached(&compiled, "a/chat"), expect);
}

#[test]
fn a_route_serves_the_hosts_that_are_its_own_and_the_listeners() {
    let listeners = json!([listener("web", "*.example.com", &all())]);
    check(&listeners, &[], r#"["*.example.com"]; Accepted web"#);
    check(
        &listeners,
        &["ai.example.com"],
        r#"["ai.example.com"]; Accepted web"#,
    );
    check(
        &listeners,
        &["*.ai.example.com"],
        r#"["*.ai.example.com"]; Accepted web"#,
    );
    check(
        &listeners,
        &["*.com", "b.org"],
        r#"["*.example.com"]; Accepted web"#,
    );
    check(
        &listeners,
        &["example.com"],
        r#"rejected at ["example.com"]; NoMatchingListenerHostname "#,
    );
    let every = json!([listener("web", "", &all())]);
    check(&every, &[], "[]; Accepted web");
    check(&every, &["b.org"], r#"["b.org"]; Accepted web"#);
    let two = json!([
        listener("a", "a.example.com", &all()),
        listener("b", "b.example.com", &all())
    ]);
    check(
        &two,
        &[],
        r#"["a.example.com", "b.example.com"]; Accepted a,b"#,
    );
}

#[test]
fn a_host_without_a_listener_is_a_warning() {
    let listeners = json!([listener("web", "a.example.com", &all())]);
    let compiled = compiled(
        &listeners,
        attaching("a/chat", &["b.org", "a.example.com"]),
        |_| {},
    );
    assert_eq!(
        attached(&compiled, "a/chat"),
        r#"["a.example.com"]; Accepted web"#
    );
    let warning = &verdict(&compiled, Kind::AiRoute, "a/chat").diagnostics[0];
    assert_eq!(warning.field, "spec.hostnames[0]");
}

#[test]
fn namespaces_are_those_that_the_listener_allows() {
    let namespace = |labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": labels}});
    let check = |from: Value, labels: Value, expect: &str| {
        let listeners = json!([listener("web", "ai.example.com", &from)]);
        let route = attaching("a/chat", &[]);
        let objects = [
            gateway(EDGE, &listeners),
            namespace(labels),
            route,
            backend("a/eu"),
        ];
        let compiled = compiled_with(gateways(), objects);
        assert_eq!(attached(&compiled, "a/chat"), expect, "{from}");
    };
    let refused = r#"rejected at ["ai.example.com"]; NotAllowedByListeners "#;
    let accepted = r#"["ai.example.com"]; Accepted web"#;
    check(json!({}), json!({}), refused);
    check(json!({"from": "Same"}), json!({}), refused);
    check(json!({"from": "None"}), json!({}), refused);
    check(all(), json!({}), accepted);
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"ai": "yes"}}});
    check(selector.clone(), json!({"ai": "yes"}), accepted);
    check(selector, json!({"ai": "no"}), refused);
}

#[test]
fn a_listener_for_other_kinds_takes_no_route() {
    let mut other = listener("web", "", &all());
    other["allowedRoutes"]["kinds"] = json!([{"kind": "HTTPRoute"}]);
    check(
        &json!([other]),
        &[],
        "rejected at []; NotAllowedByListeners ",
    );
    other["allowedRoutes"]["kinds"] =
        json!([{"kind": "HTTPRoute"}, {"group": "tundish.dev", "kind": "AIRoute"}]);
    check(&json!([other]), &[], "[]; Accepted web");
}

#[test]
fn a_route_names_a_gateway_and_a_listener_that_are_there() {
    let listeners = json!([
        listener("a", "a.example.com", &all()),
        listener("b", "b.example.com", &all())
    ]);
    let check = |parents: Value, expect: &str| {
        let compiled = compiled(&listeners, attaching("a/chat", &[]), |route| {
            route["spec"]["parentRefs"] = parents;
        });
        assert_eq!(attached(&compiled, "a/chat"), expect);
    };
    let of = |section: &str| json!({"name": "edge", "namespace": "tundish-system", "sectionName": section});
    check(json!([of("b")]), r#"["b.example.com"]; Accepted b"#);
    // Without a host of its own or of a listener it would hold every host.
    check(json!([of("c")]), "out; NoMatchingParent ");
    check(json!([{"name": "edge"}]), "out; NoMatchingParent ");
    check(
        json!([of("a"), of("c")]),
        r#"["a.example.com"]; Accepted a; NoMatchingParent "#,
    );
    check(
        json!([{"name": "edge", "kind": "Service", "group": "core"}]),
        "out; ",
    );
}

#[test]
fn a_gateway_of_another_controller_says_nothing() {
    let mut other = gateway(EDGE, &json!([listener("web", "", &all())]));
    other["spec"]["gatewayClassName"] = json!("envoy");
    let objects = [
        other,
        attaching("a/chat", &["ai.example.com"]),
        backend("a/eu"),
    ];
    let compiled = compiled_with(gateways(), objects);
    assert_eq!(
        attached(&compiled, "a/chat"),
        r#"rejected at ["ai.example.com"]; "#
    );
}

#[test]
fn a_listener_that_is_not_served_takes_no_route() {
    let mut tcp = listener("web", "", &all());
    tcp["protocol"] = json!("TCP");
    check(
        &json!([tcp]),
        &["a.org"],
        r#"rejected at ["a.org"]; NoReadyListeners "#,
    );
}

#[test]
fn a_route_in_error_is_attached_to_nothing() {
    let listeners = json!([listener("web", "", &all())]);
    let compiled = compiled(&listeners, attaching("a/chat", &["a.org"]), |route| {
        route["spec"]["rules"][0]["name"] = json!("chat");
        route["spec"]["cors"] = json!({"allowOrigins": []});
    });
    assert_eq!(
        attached(&compiled, "a/chat"),
        r#"rejected at ["a.org"]; Invalid "#
    );
    let edge = &compiled.gateways.gateways[&ObjectName::parse(EDGE).unwrap()];
    assert_eq!(edge.listeners[0].attached, 0);
}

#[test]
fn routes_are_counted_by_listener() {
    let listeners = json!([
        listener("a", "a.org", &all()),
        listener("b", "b.org", &all())
    ]);
    let mut one = attaching("a/one", &["a.org"]);
    one["spec"]["rules"][0]["matches"] = json!([{"models": ["gpt-4o"]}]);
    let two = attaching("a/two", &[]);
    let objects = [gateway(EDGE, &listeners), one, two, backend("a/eu")];
    let compiled = compiled_with(gateways(), objects);
    let edge = &compiled.gateways.gateways[&ObjectName::parse(EDGE).unwrap()];
    let counts: Vec<usize> = edge.listeners.iter().map(|one| one.attached).collect();
    assert_eq!(counts, [2, 1]);
    assert_eq!(edge.routes.len(), 2);
}

/// A namespace is handed a host by name only: with `All` every one could take the callers of the others.
#[test]
fn a_listener_hands_its_host_to_the_namespaces_that_it_selects() {
    let check = |from: Value, expect: &str| {
        let listeners = json!([listener("web", "ai.example.com", &from)]);
        let mut anonymous = attaching("a/chat", &[]);
        anonymous["spec"]["authentication"] = json!({"anonymous": {}});
        let labels = json!({"ai": "yes"});
        let objects = [
            gateway(EDGE, &listeners),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": labels}}),
            anonymous,
            // Another tenant, so that hosts have to be granted.
            route("b/other"),
            backend("a/eu"),
        ];
        let compiled = compiled_with(gateways(), objects);
        assert_eq!(attached(&compiled, "a/chat"), expect, "{from}");
    };
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"ai": "yes"}}});
    check(selector, r#"["ai.example.com"]; Accepted web"#);
    check(all(), r#"rejected at ["ai.example.com"]; HostNotGranted "#);
}

#[test]
fn what_is_left_of_an_unreadable_route_holds_the_hosts_of_its_gateway() {
    let listeners = json!([listener("web", "ai.example.com", &all())]);
    let compiled = compiled(&listeners, attaching("a/chat", &[]), |route| {
        route["spec"]["rules"][0]["retry"] = json!(7);
    });
    assert!(attached(&compiled, "a/chat").starts_with(r#"rejected at ["ai.example.com"]"#));
}

#[test]
fn without_gateways_parent_refs_are_refused() {
    let objects = [attaching("a/chat", &["ai.example.com"]), backend("a/eu")];
    let compiled = crate::fixture::compiled(objects);
    assert_eq!(
        attached(&compiled, "a/chat"),
        r#"rejected at ["ai.example.com"]; "#
    );
    assert_eq!(
        crate::fixture::found(&compiled, Kind::AiRoute, "a/chat"),
        [
            "UnsupportedValue at spec.parentRefs",
            "SecretNotFound at spec.authentication.apiKeys.secretSelector.matchLabels"
        ]
    );
}

#[test]
fn a_route_without_a_host_takes_nothing_from_others() {
    let mut out = attaching("a/older", &[]);
    out["spec"]["parentRefs"] = json!([{"name": "missing"}]);
    out["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut other = route("a/younger");
    other["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    let compiled = compiled_with(gateways(), [out, other, backend("a/eu")]);
    assert_eq!(attached(&compiled, "a/older"), "out; NoMatchingParent ");
    assert_eq!(attached(&compiled, "a/younger"), "[]; ");
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    let label = prop::sample::select(vec!["a", "b", "c"]);
    (prop::bool::ANY, prop::collection::vec(label, 1..4)).prop_map(|(is_wildcard, labels)| {
        let host = labels.join(".");
        let text = if is_wildcard {
            format!("*.{host}")
        } else {
            host
        };
        HostPattern::parse(&text).unwrap()
    })
}

proptest! {
    #[test]
    fn common_hosts_are_those_that_both_patterns_match(
        one in pattern(),
        other in pattern(),
        labels in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
    ) {
        let host = labels.join(".");
        let both = one.matches(&host) && other.matches(&host);
        let common = common(&one, &other);
        prop_assert_eq!(common.is_some_and(|common| common.matches(&host)), both);
        prop_assert_eq!(super::common(&one, &other), super::common(&other, &one));
    }
}
