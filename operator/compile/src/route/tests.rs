use serde_json::json;

use crate::fixture::{self, compiled, found};
use crate::{Index, Kind, compile};

#[test]
fn a_deleted_grant_removes_the_reference() {
    let mut route = fixture::route("team/chat");
    route["spec"]["rules"][0]["backendRefs"][0]["namespace"] = json!("platform");
    let mut index = Index::default();
    for value in [
        route,
        fixture::backend("platform/eu"),
        fixture::grant("platform/g", "team"),
    ] {
        index.apply(fixture::object(value));
    }
    let before = compile(&index, &fixture::settings());
    assert_eq!(before.contents.routes[0].rules[0].targets.len(), 1);
    index.delete(&fixture::named(Kind::ReferenceGrant, "platform/g"));
    let after = compile(&index, &fixture::settings());
    assert!(after.contents.routes[0].rules[0].targets.is_empty());
    assert_eq!(
        found(&after, Kind::AiRoute, "team/chat"),
        ["RefNotPermitted at spec.rules[0].backendRefs[0].namespace"]
    );
}

#[test]
fn without_a_grant_a_route_does_not_show_whether_a_backend_exists() {
    let mut route = fixture::route("team/chat");
    route["spec"]["rules"][0]["backendRefs"][0]["namespace"] = json!("platform");
    route["spec"]["rules"][0]["backendRefs"][0]["deployment"] = json!("gpt-4o");
    let verdict = |objects: Vec<serde_json::Value>| {
        let compiled = compiled(objects);
        fixture::verdict(&compiled, Kind::AiRoute, "team/chat").clone()
    };
    let missing = verdict(vec![route.clone()]);
    let existing = verdict(vec![route.clone(), fixture::backend("platform/eu")]);
    let mut passing = fixture::backend("platform/eu");
    passing["spec"]["auth"]["type"] = json!("PassThrough");
    assert_eq!(missing, existing);
    assert_eq!(missing, verdict(vec![route, passing]));
}

#[test]
fn a_loser_takes_effect_when_the_winner_is_deleted() {
    let both = compiled([
        fixture::route("a/one"),
        fixture::route("a/two"),
        fixture::backend("a/eu"),
    ]);
    assert!(both.contents.routes[0].rejected.is_none());
    assert!(both.contents.routes[1].rejected.is_some());
    let rest = compiled([fixture::route("a/two"), fixture::backend("a/eu")]);
    assert!(rest.contents.routes[0].rejected.is_none());
}

#[test]
fn routes_with_other_hosts_or_other_consumers_do_not_collide() {
    let with = |name: &str, hosts: serde_json::Value, matched: serde_json::Value| {
        let mut route = fixture::route(name);
        route["spec"]["hostnames"] = hosts;
        route["spec"]["rules"][0]["matches"] = json!([matched]);
        route
    };
    let compiled = compiled([
        with("a/1", json!([]), json!({"models": ["m"]})),
        with("a/2", json!(["x.example"]), json!({"models": ["m"]})),
        with("a/3", json!(["*.example"]), json!({"models": ["m"]})),
        with("a/4", json!([]), json!({"models": ["m*"]})),
        with(
            "a/5",
            json!([]),
            json!({"models": ["m"], "consumers": {"names": ["c"]}}),
        ),
        with(
            "a/6",
            json!([]),
            json!({"models": ["m"], "headers": [{"name": "x", "value": "1"}]}),
        ),
        with(
            "a/7",
            json!([]),
            json!({"models": ["m"], "operations": ["Responses"]}),
        ),
        with(
            "a/8",
            json!([]),
            json!({"models": ["m"], "consumers": {"attributes": {"c": "d"}}}),
        ),
        fixture::backend("a/eu"),
    ]);
    assert!(
        compiled
            .contents
            .routes
            .iter()
            .all(|route| route.rejected.is_none())
    );
}

#[test]
fn one_route_may_have_the_same_match_twice() {
    let mut route = fixture::route("a/one");
    route["spec"]["rules"][0]["matches"] = json!([{"models": ["m"]}, {"models": ["m"]}]);
    let compiled = compiled([route, fixture::backend("a/eu")]);
    assert!(found(&compiled, Kind::AiRoute, "a/one").is_empty());
}

#[test]
fn a_rejected_route_has_no_target_and_keeps_its_matches() {
    let mut route = fixture::route("a/one");
    route["spec"]["parentRefs"] = json!([{"name": "edge"}]);
    route["spec"]["rules"][0]["matches"] = json!([{"models": ["gpt-4o"]}]);
    let compiled = compiled([route, fixture::backend("a/eu")]);
    let route = &compiled.contents.routes[0];
    assert!(
        route
            .rejected
            .as_ref()
            .unwrap()
            .starts_with("UnsupportedValue: spec.parentRefs: ")
    );
    assert_eq!(route.rules[0].matches.len(), 1);
    assert!(route.rules[0].targets.is_empty());
}

#[test]
fn an_invalid_match_never_becomes_a_wider_one() {
    for matched in [
        json!({"models": ["*-mini"]}),
        json!({"models": ["a*b", "c*d"]}),
        json!({"models": [""]}),
        json!({"models": ["gpt-4o"], "headers": [{"name": "x y", "value": "1"}]}),
    ] {
        let mut route = fixture::route("a/one");
        route["spec"]["rules"][0]["matches"] = json!([matched]);
        let compiled = compiled([route, fixture::backend("a/eu")]);
        let route = &compiled.contents.routes[0];
        assert!(
            route.rejected.is_some() && route.rules.is_empty(),
            "{matched}"
        );
    }
    let mut route = fixture::route("a/one");
    route["spec"]["hostnames"] = json!(["a.*.b", ""]);
    assert!(compiled([route]).contents.routes.is_empty());
}

#[test]
fn the_mcp_servers_of_a_rule_are_hosts() {
    let with = |servers: serde_json::Value| {
        let mut route = fixture::route("a/one");
        route["spec"]["rules"][0]["mcp"] = json!({ "servers": servers });
        let compiled = compiled([fixture::backend("a/eu"), route]);
        let servers = compiled.contents.routes[0].rules[0].mcp_servers.clone();
        let servers = servers.expect("they are named").into_iter();
        let servers: Vec<String> = servers.map(|one| one.to_string()).collect();
        (servers, found(&compiled, Kind::AiRoute, "a/one"))
    };
    let (servers, findings) = with(json!(["MCP.example.com", "*.example.org"]));
    assert_eq!(servers, ["mcp.example.com", "*.example.org"]);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(with(json!([])).0, Vec::<String>::new());
    let (servers, findings) = with(json!(["https://mcp.example.com"]));
    assert_eq!(servers, Vec::<String>::new());
    assert_eq!(findings, ["Invalid at spec.rules[0].mcp.servers[0]"]);
}

#[test]
fn an_end_user_that_no_operation_names_is_noted() {
    let of = |operations: serde_json::Value| {
        let mut route = fixture::route("team/chat");
        route["spec"]["rules"][0]["endUser"] = json!("Consumer");
        route["spec"]["rules"][0]["matches"] = json!([{"operations": operations}]);
        let compiled = compiled([route, fixture::backend("team/eu")]);
        assert!(compiled.contents.routes[0].rules[0].names_end_user);
        let verdict = fixture::verdict(&compiled, Kind::AiRoute, "team/chat");
        let fields = verdict.diagnostics.iter().map(|one| one.field.clone());
        fields.collect::<Vec<_>>()
    };
    assert_eq!(
        of(json!(["Audio", "Moderations"])),
        ["spec.rules[0].endUser"]
    );
    assert_eq!(of(json!(["Audio", "Embeddings"])), [""; 0]);
    assert_eq!(of(json!([])), [""; 0]);
}
