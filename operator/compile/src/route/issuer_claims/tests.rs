use proptest::prelude::*;
use proxy_core::route::HostPattern;
use serde_json::{Value, json};

use super::Claimed;
use crate::fixture::{self, found, object, verdict};
use crate::{Compiled, Index, Kind, compile};

const ISSUER: &str = "https://login.example";

fn route(name: &str, hosts: &[&str], jwt: &Value) -> Value {
    let mut route = fixture::route(name);
    route["spec"]["hostnames"] = json!(hosts);
    route["spec"]["authentication"] = json!({"jwt": [jwt]});
    route["spec"]["rules"][0]["matches"] = json!([{"models": [name]}]);
    route
}

fn entry(audiences: &[&str]) -> Value {
    json!({"issuer": ISSUER, "audiences": audiences})
}

/// Compiled where every namespace has a grant of every host.
fn granted(routes: impl IntoIterator<Item = Value>) -> Compiled {
    let mut index = Index::default();
    let mut settings = fixture::settings();
    for route in routes {
        let namespace = route["metadata"]["namespace"].as_str().unwrap();
        settings
            .host_grants
            .push(format!("*={namespace}").parse().unwrap());
        index.apply(object(fixture::backend(&format!("{namespace}/eu"))));
        index.apply(object(route));
    }
    compile(&index, &settings)
}

/// The audiences that a route has, and whether it lost some.
fn left(compiled: &Compiled, name: &str) -> (String, bool) {
    let mut routes = compiled.contents.routes.iter();
    let route = routes.find(|route| route.name.to_string() == name).unwrap();
    let issuers = route.authentication.issuers.iter();
    let audiences: Vec<_> = issuers
        .flat_map(|one| one.trust.audiences.clone())
        .collect();
    let lost = found(compiled, Kind::AiRoute, name) == ["Conflicted at spec.authentication.jwt[0]"];
    assert_eq!(route.rejected.is_some(), lost, "{name}");
    assert_eq!(route.authentication.unreadable, lost, "{name}");
    (audiences.join(" "), lost)
}

fn have(audiences: &str) -> (String, bool) {
    (audiences.to_owned(), false)
}

fn lack(audiences: &str) -> (String, bool) {
    (audiences.to_owned(), true)
}

#[test]
fn on_a_host_one_namespace_has_the_tokens_of_an_issuer_for_an_audience() {
    let compiled = granted([
        route("b/one", &["ai.example"], &entry(&["x", "y"])),
        route("a/one", &["ai.example"], &entry(&["y", "z"])),
        route("c/other", &["other.example"], &entry(&["y"])),
    ]);
    assert_eq!(left(&compiled, "a/one"), have("y z"));
    assert_eq!(left(&compiled, "b/one"), lack("x"));
    assert_eq!(left(&compiled, "c/other"), have("y"));
    let message = &verdict(&compiled, Kind::AiRoute, "b/one").diagnostics[0].message;
    assert!(message.contains(" comes first for y "), "{message}");
    assert!(
        !message.contains("a/") && !message.contains("AIRoute"),
        "{message}"
    );
}

#[test]
fn keys_elsewhere_make_no_other_issuer() {
    let mut other = entry(&["x"]);
    other["jwksURI"] = json!("https://evil.example");
    let compiled = granted([
        route("a/one", &["ai.example"], &entry(&["x"])),
        route("b/one", &["ai.example"], &other),
    ]);
    assert_eq!(left(&compiled, "b/one"), lack(""));
}

#[test]
fn hosts_overlap_by_their_wildcards() {
    for (first, second, overlap) in [
        (&["ai.example"][..], &["ai.example"][..], true),
        (&["ai.example"], &["*.example"], true),
        (&["*.example"], &["a.b.example"], true),
        (&["*.b.example"], &["*.example"], true),
        (&["*.example"], &["*.b.example"], true),
        (&[], &["ai.example"], true),
        (&["ai.example"], &[], true),
        (&["ai.example"], &["example"], false),
        (&["*.example"], &["example"], false),
        (&["*.a.example"], &["*.b.example"], false),
        (&["a.example"], &["b.example", "c.example"], false),
    ] {
        let compiled = granted([
            route("a/one", first, &entry(&["x"])),
            route("b/one", second, &entry(&["x"])),
        ]);
        let expect = if overlap { lack("") } else { have("x") };
        assert_eq!(left(&compiled, "b/one"), expect, "{first:?} {second:?}");
    }
}

#[test]
fn the_installations_own_namespace_comes_first() {
    let compiled = granted([
        route("a/one", &[], &entry(&["x"])),
        route("tundish-system/one", &[], &entry(&["x"])),
    ]);
    assert_eq!(left(&compiled, "tundish-system/one"), have("x"));
    assert_eq!(left(&compiled, "a/one"), lack(""));
}

#[test]
fn without_a_grant_a_namespace_has_no_tokens_and_takes_none() {
    let mut index = Index::default();
    for name in ["a/one", "b/one"] {
        index.apply(object(route(name, &["ai.example"], &entry(&["x"]))));
    }
    let mut settings = fixture::settings();
    settings.host_grants = vec!["ai.example=b".parse().unwrap()];
    let compiled = compile(&index, &settings);
    let of_a = found(&compiled, Kind::AiRoute, "a/one");
    assert_eq!(of_a[0], "HostNotGranted at spec.authentication.jwt");
    let route = &compiled.contents.routes[0];
    assert!(route.authentication.issuers.is_empty() && route.authentication.unreadable);
    assert_eq!(compiled.contents.routes[1].authentication.issuers.len(), 1);
}

#[test]
fn routes_of_a_namespace_agree_on_the_consumers_of_a_token() {
    let mapped = |consumer: &str, audiences: &[&str]| {
        let mut entry = entry(audiences);
        entry["consumerClaim"] = json!(consumer);
        entry
    };
    let compiled = granted([
        route("a/one", &["x.example"], &mapped("azp", &["x"])),
        route("a/same", &["y.example"], &mapped("azp", &["x", "y"])),
        route("a/two", &["y.example"], &mapped("oid", &["x", "z"])),
    ]);
    assert_eq!(left(&compiled, "a/one"), have("x"));
    assert_eq!(left(&compiled, "a/same"), have("x y"));
    assert_eq!(left(&compiled, "a/two"), lack("z"));
    // The older one wins.
    let mut old = route("a/two", &[], &mapped("oid", &["x"]));
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let mut young = route("a/one", &[], &mapped("azp", &["x"]));
    young["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    let compiled = granted([old, young]);
    assert_eq!(left(&compiled, "a/two"), have("x"));
    assert_eq!(left(&compiled, "a/one"), lack(""));
    let message = &verdict(&compiled, Kind::AiRoute, "a/one").diagnostics[0].message;
    assert!(message.starts_with("AIRoute two comes first"), "{message}");
}

#[test]
fn an_issuer_has_one_place_of_keys_in_a_namespace() {
    let mut fixed = entry(&["y"]);
    fixed["jwksURI"] = json!("https://login.example/keys");
    let compiled = granted([
        route("a/one", &["x.example"], &entry(&["x"])),
        route("a/two", &["y.example"], &fixed),
        route("b/one", &["z.example"], &fixed),
    ]);
    assert_eq!(left(&compiled, "a/two"), lack(""));
    assert_eq!(left(&compiled, "b/one"), have("y"));
}

#[test]
fn passed_tokens_are_of_no_namespace() {
    let mut passed = route("a/pass", &[], &entry(&["x"]));
    passed["spec"]["authentication"]["passThrough"] = json!({});
    let compiled = granted([passed, route("b/one", &[], &entry(&["x"]))]);
    assert_eq!(left(&compiled, "b/one"), have("x"));
}

proptest! {
    /// By the hosts that each pattern has among some.
    #[test]
    fn overlap_is_a_common_host(
        first in proptest::collection::vec("(\\*\\.)?([ab]\\.){0,2}[ab]", 0..3),
        second in proptest::collection::vec("(\\*\\.)?([ab]\\.){0,2}[ab]", 0..3),
    ) {
        let parse = |all: &[String]| -> Vec<HostPattern> {
            all.iter().filter_map(|one| HostPattern::parse(one)).collect()
        };
        let (first, second) = (parse(&first), parse(&second));
        let mut claimed = Claimed::default();
        claimed.add(&first);
        let labels = ["a", "b"];
        let mut hosts = vec![String::new()];
        let mut all = Vec::new();
        // A wildcard may have one more label than the longest pattern.
        for _ in 0..4 {
            let longer = hosts.iter().flat_map(|host| labels.map(|label| {
                if host.is_empty() { label.to_owned() } else { format!("{label}.{host}") }
            }));
            hosts = longer.collect();
            all.extend(hosts.clone());
        }
        let has = |patterns: &[HostPattern], host: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(host))
        };
        let common = all.iter().any(|host| has(&first, host) && has(&second, host));
        prop_assert_eq!(claimed.overlap(&second), common);
    }
}
