use proxy_core::quota::Unit;
use proxy_core::table::Scope;
use serde_json::{Value, json};

use crate::fixture::{self, compiled, found};
use crate::{Compiled, Kind};

fn with(change: impl FnOnce(&mut Value)) -> Compiled {
    let mut quota = fixture::quota("team/q");
    change(&mut quota["spec"]);
    compiled([
        quota,
        fixture::route("team/chat"),
        fixture::backend("team/eu"),
    ])
}

#[test]
fn without_targets_a_quota_covers_its_namespace_or_the_gateway() {
    let compiled = compiled([fixture::quota("team/q"), fixture::quota("tundish-system/q")]);
    let scopes: Vec<&Scope> = compiled.contents.quotas.iter().map(|q| &q.scope).collect();
    assert_eq!(scopes, [&Scope::Namespace("team".into()), &Scope::Gateway]);
}

/// The scope of a quota with this spec, and what is found.
fn scope_of(name: &str, change: impl FnOnce(&mut Value)) -> (Scope, Vec<String>) {
    let mut quota = fixture::quota(name);
    change(&mut quota["spec"]);
    let others = ["team/chat", "other/chat"].map(fixture::route);
    let compiled = compiled(others.into_iter().chain([quota]));
    let scope = compiled.contents.quotas[0].scope.clone();
    (scope, found(&compiled, Kind::AiQuota, name))
}

#[test]
fn namespaces_restrict_a_quota_of_the_installation_and_no_other() {
    let match_ = |namespaces: &[&str]| json!({ "namespaces": namespaces });
    let ours = "tundish-system/q";
    let both = Scope::Namespaces(vec!["other".into(), "team".into()]);
    let (scope, found) = scope_of(ours, |spec| spec["match"] = match_(&["team", "other"]));
    assert_eq!((scope, found), (both, Vec::new()));
    let (scope, found) = scope_of(ours, |spec| spec["match"] = match_(&["team", "gone"]));
    assert!(matches!(scope, Scope::Namespaces(all) if all.len() == 2));
    assert_eq!(found, ["Accepted at spec.match.namespaces[1]"]);
    // What cannot be read widens, and a tenant's quota covers its namespace whatever it says.
    let (scope, found) = scope_of(ours, |spec| spec["match"] = match_(&["team", "A/B"]));
    assert_eq!(scope, Scope::Gateway);
    assert_eq!(found, ["Invalid at spec.match.namespaces[1]"]);
    let (scope, found) = scope_of("team/q", |spec| spec["match"] = match_(&["other"]));
    assert_eq!(scope, Scope::Namespace("team".into()));
    assert_eq!(found, ["Invalid at spec.match.namespaces"]);
    let (scope, found) = scope_of(ours, |spec| {
        spec["match"] = match_(&["team"]);
        spec["targetRefs"] = json!([{"name": "chat"}]);
    });
    assert!(matches!(scope, Scope::Targets(all) if all.len() == 1));
    assert_eq!(
        found,
        [
            "Invalid at spec.match.namespaces",
            "TargetNotFound at spec.targetRefs[0]"
        ]
    );
}

#[test]
fn a_counter_for_each_namespace_splits_nothing_within_one() {
    let per = |name| scope_of(name, |spec| spec["per"] = json!(["Namespace"])).1;
    assert_eq!(per("tundish-system/q"), [""; 0]);
    assert_eq!(per("team/q"), ["Accepted at spec.per"]);
}

#[test]
fn a_missing_target_stays_in_the_scope_and_is_reported() {
    let compiled = with(|spec| spec["targetRefs"] = json!([{"name": "missing"}]));
    assert!(matches!(&compiled.contents.quotas[0].scope, Scope::Targets(t) if t.len() == 1));
    assert_eq!(
        found(&compiled, Kind::AiQuota, "team/q"),
        ["TargetNotFound at spec.targetRefs[0]"]
    );
}

#[test]
fn an_invalid_part_of_a_scope_widens_it() {
    for target in [
        json!({"name": "chat", "kind": "Gateway"}),
        json!({"name": "chat", "group": "example.com"}),
        json!({"name": "a/b"}),
        json!({"name": ""}),
        json!({"name": "chat", "sectionName": "A/B"}),
    ] {
        let compiled = with(|spec| spec["targetRefs"] = json!([{"name": "chat"}, target]));
        let quota = &compiled.contents.quotas[0];
        assert_eq!(quota.scope, Scope::Namespace("team".into()), "{target}");
        assert_eq!(quota.limits[0].amount, 10);
    }
    let compiled = with(|spec| spec["match"] = json!({"models": ["gpt-4o", "*-mini"]}));
    assert!(compiled.contents.quotas[0].models.is_empty());
    assert_eq!(
        found(&compiled, Kind::AiQuota, "team/q"),
        ["Invalid at spec.match.models[1]"]
    );
}

#[test]
fn a_limit_that_cannot_be_measured_admits_nothing() {
    for (field, value) in [
        ("limit", json!(0)),
        ("limit", json!(i64::MIN)),
        ("window", json!(null)),
        ("unit", json!("Concurrency")),
    ] {
        let compiled = with(|spec| {
            let other = json!({"name": "fine", "unit": "Requests", "limit": 5, "window": "Second"});
            spec["limits"].as_array_mut().unwrap().push(other);
            spec["limits"][0][field] = value;
        });
        let amounts: Vec<u64> = compiled.contents.quotas[0]
            .limits
            .iter()
            .map(|l| l.amount)
            .collect();
        assert_eq!(amounts, [0, 5], "{field}");
        let verdict = fixture::verdict(&compiled, Kind::AiQuota, "team/q");
        assert!(!verdict.conditions[0].holds, "{field}");
    }
}

#[test]
fn a_shadowed_quota_in_error_still_refuses_nothing() {
    let compiled = with(|spec| {
        spec["mode"] = json!("Shadow");
        spec["limits"][0]["limit"] = json!(0);
    });
    assert_eq!(
        compiled.contents.quotas[0].mode,
        proxy_core::quota::Mode::Shadow
    );
}

#[test]
fn a_limit_on_cost_opens_when_the_price_appears() {
    let money = |price: Value| {
        let mut quota = fixture::quota("team/q");
        quota["spec"]["limits"][0]["unit"] = json!("CostMicros");
        let mut backend = fixture::backend("team/eu");
        backend["spec"]["deployments"][0]["price"] = price;
        let compiled = compiled([quota, fixture::route("team/chat"), backend]);
        let limit = compiled.contents.quotas[0].limits[0].clone();
        let found = found(&compiled, Kind::AiQuota, "team/q");
        ((limit.unit, limit.amount), found)
    };
    // Requests, since a request whose price is unknown would count as 0 micros, and 0 fits into 0.
    let closed = (Unit::Requests, 0);
    let missing = vec!["PriceMissing at spec.limits[0].unit".to_owned()];
    assert_eq!(money(Value::Null), (closed, missing));
    let free = json!({"inputPerMillion": 0, "outputPerMillion": 0});
    assert_eq!(money(free), ((Unit::CostMicros, 10), Vec::new()));
}

#[test]
fn a_quota_with_many_deployments_without_a_price_names_some_and_counts_the_rest() {
    let mut quota = fixture::quota("team/q");
    quota["spec"]["limits"][0]["unit"] = json!("CostMicros");
    let mut backend = fixture::backend("team/eu");
    let names = (0..20).map(|i| json!({"name": format!("m{i}")}));
    backend["spec"]["deployments"] = names.collect();
    let compiled = compiled([quota, fixture::route("team/chat"), backend]);
    let verdict = fixture::verdict(&compiled, Kind::AiQuota, "team/q");
    assert_eq!(verdict.diagnostics.len(), 17);
    let last = &verdict.diagnostics[16].message;
    assert_eq!(last, "4 more deployments have no price; set it there, too");
}
