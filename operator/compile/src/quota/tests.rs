use proxy_core::quota::Unit;
use proxy_core::table::Scope;
use serde_json::{Value, json};

use crate::fixture::{self, compiled, found};
use crate::{Compiled, Kind};

fn with(change: impl FnOnce(&mut Value)) -> Compiled {
    let mut quota = fixture::quota("team/q");
    change(&mut quota["spec"]);
    let mut keys = fixture::route("team/keys");
    keys["spec"]["hostnames"] = json!(["keys.example.com"]);
    keys["spec"]["authentication"] =
        json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
    compiled([
        quota,
        fixture::route("team/chat"),
        keys,
        fixture::backend("team/eu"),
        fixture::secret("team/n", "n"),
        fixture::secret("team/nightly", "nightly"),
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

/// The amounts of each override of a quota with 10 requests a minute, and what is found.
fn overridden(per: Value, attribute: &str, overrides: Value) -> (Vec<Vec<u64>>, Vec<String>) {
    let compiled = with(|spec| {
        spec["per"] = per;
        if !attribute.is_empty() {
            spec["attribute"] = json!(attribute);
        }
        spec["overrides"] = overrides;
    });
    let overrides = compiled.contents.quotas[0].overrides.iter();
    let amounts = overrides.map(|one| one.amounts.iter().map(|(_, amount)| *amount).collect());
    (amounts.collect(), found(&compiled, Kind::AiQuota, "team/q"))
}

fn minute(limit: i64) -> Value {
    json!([{"name": "minute", "limit": limit}])
}

#[test]
fn overrides_change_the_amounts_of_consumers_with_counters_of_their_own() {
    let named = json!([
        {"consumers": {"names": ["nightly"]}, "limits": minute(400)},
        {"consumers": {"names": ["other/x"], "attributes": {"team": "a"}}, "limits": minute(0)},
    ]);
    let (amounts, none) = overridden(json!(["Consumer"]), "", named.clone());
    assert_eq!((amounts, none), (vec![vec![400], vec![0]], Vec::new()));
    let team = json!([{"consumers": {"attributes": {"team": "a"}}, "limits": minute(400)}]);
    let (amounts, none) = overridden(json!(["Attribute"]), "team", team);
    assert_eq!((amounts, none), (vec![vec![400]], Vec::new()));
    // Names: a bare one is of the quota's own namespace.
    let compiled = with(|spec| {
        spec["per"] = json!(["Consumer"]);
        spec["overrides"] = named;
    });
    let overrides = compiled.contents.quotas[0].overrides.iter();
    let names = overrides.map(|one| one.consumers.names[0].to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["team/nightly", "other/x"]);
}

#[test]
fn a_platforms_override_by_a_label_says_who_can_claim_it() {
    let check = |name: &str, consumers: Value, limit: i64| {
        scope_of(name, |spec| {
            spec["per"] = json!(["Consumer"]);
            spec["overrides"] = json!([{"consumers": consumers, "limits": minute(limit)}]);
        })
        .1
    };
    let label = json!({"attributes": {"tier": "gold"}});
    let warned = ["Accepted at spec.overrides[0].consumers"];
    assert_eq!(check("tundish-system/q", label.clone(), 400), warned);
    assert_eq!(check("tundish-system/q", label.clone(), 3), [""; 0]);
    assert_eq!(check("team/q", label, 400), [""; 0]);
    let named = json!({"names": ["team/x"], "attributes": {"tier": "gold"}});
    assert_eq!(check("tundish-system/q", named, 400), [""; 0]);
}

#[test]
fn an_override_without_counters_of_its_own_raises_nothing_and_still_lowers() {
    let named = |limit| json!([{"consumers": {"names": ["n"]}, "limits": minute(limit)}]);
    let invalid = |field: &str| vec![format!("Invalid at spec.overrides[0]{field}")];
    for per in [json!([]), json!(["Model", "Route"])] {
        assert_eq!(
            overridden(per.clone(), "", named(400)),
            (vec![vec![10]], invalid(""))
        );
        assert_eq!(overridden(per, "", named(3)), (vec![vec![3]], invalid("")));
    }
    for consumers in [
        json!({"attributes": {"tier": "a"}}),
        json!({"attributes": {"team": "a", "tier": "a"}}),
        json!({"names": ["n"], "attributes": {"team": "a"}}),
    ] {
        let overrides = json!([{"consumers": consumers, "limits": minute(400)}]);
        let found = overridden(json!(["Attribute"]), "team", overrides);
        assert_eq!(found, (vec![vec![10]], invalid("")), "{consumers}");
    }
    let everyone = json!([{"consumers": {}, "limits": minute(400)}]);
    let found = overridden(json!(["Consumer"]), "", everyone);
    assert_eq!(found, (vec![vec![10]], invalid(".consumers")));
}

#[test]
fn parts_of_an_override_in_error_are_named_and_never_admit_more() {
    let check = |limits: Value, amounts: &[u64], place: &str| {
        let overrides = json!([{"consumers": {"names": ["n"]}, "limits": limits}]);
        let found = overridden(json!(["Consumer"]), "", overrides);
        let expect = vec![format!("Invalid at spec.overrides[0].limits{place}")];
        assert_eq!(found, (vec![amounts.to_vec()], expect));
    };
    check(minute(-1), &[0], "[0].limit");
    check(json!([{"name": "gone", "limit": 9}]), &[], "[0].name");
    let twice = json!([{"name": "minute", "limit": 400}, {"name": "minute", "limit": 20}]);
    check(twice, &[20], "[1].name");
    let consumers = json!({"names": ["n"]});
    let again = json!([
        {"consumers": consumers, "limits": minute(1)},
        {"consumers": consumers, "limits": minute(2)},
    ]);
    let (_, found) = overridden(json!(["Consumer"]), "", again);
    assert_eq!(found, ["Accepted at spec.overrides[1]"]);
}

#[test]
fn an_override_does_not_open_a_limit_in_error() {
    let compiled = with(|spec| {
        spec["per"] = json!(["Consumer"]);
        spec["limits"][0]["unit"] = json!("CostMicros");
        spec["overrides"] = json!([{"consumers": {"names": ["n"]}, "limits": minute(400)}]);
    });
    let quota = &compiled.contents.quotas[0];
    assert_eq!(quota.limits[0].amount, 0);
    assert_eq!(quota.overrides[0].amounts[0].1, 0);
    assert_eq!(
        found(&compiled, Kind::AiQuota, "team/q"),
        ["PriceMissing at spec.limits[0].unit"]
    );
}

#[test]
fn a_quota_that_tells_models_apart_says_which_rules_do_not() {
    let check = |models: Value, per: Value, backend_refs: Value| {
        let mut quota = fixture::quota("team/q");
        quota["spec"]["match"] = json!({ "models": models });
        quota["spec"]["per"] = per;
        let mut route = fixture::route("team/chat");
        route["spec"]["rules"][0]["backendRefs"] = backend_refs;
        let mut backend = fixture::backend("team/eu");
        backend["spec"]["deployments"] = json!([
            {"name": "large", "model": "gpt-4o"},
            {"name": "small", "model": "gpt-4o-mini"},
        ]);
        let compiled = compiled([quota, route, backend]);
        let verdict = fixture::verdict(&compiled, Kind::AiQuota, "team/q");
        assert!(verdict.conditions[0].holds);
        let found = verdict.diagnostics.iter();
        let found: Vec<_> = found
            .map(|one| format!("{}: {}", one.field, one.message))
            .collect();
        found.join("; ")
    };
    let spill = || {
        json!([
            {"name": "eu", "deployment": "small", "priority": 1},
            {"name": "eu", "deployment": "large"},
        ])
    };
    let told = |field: &str| {
        format!(
            "{field}: rule all of AIRoute team/chat may send to deployment small, whose model is not that \
             of large; its requests count as those of large; to count small apart, give it a rule of its own"
        )
    };
    assert_eq!(
        check(json!([]), json!(["Model"]), spill()),
        told("spec.per")
    );
    let models = |name: &str| check(json!([name]), json!([]), spill());
    assert_eq!(models("gpt-4o"), told("spec.match.models"));
    assert_eq!(models("gpt-4o-mini"), told("spec.match.models"));
    assert_eq!(models("gpt-4o*"), "");
    assert_eq!(models("o3"), "");
    assert_eq!(check(json!([]), json!(["Consumer"]), spill()), "");
    let unused = json!([
        {"name": "eu", "deployment": "large"},
        {"name": "eu", "deployment": "small", "weight": 0},
    ]);
    assert_eq!(check(json!([]), json!(["Model"]), unused), "");
    assert_eq!(
        check(json!([]), json!(["Model"]), json!([{"name": "eu"}])),
        ""
    );
}

#[test]
fn warnings_are_sorted_and_what_is_no_percentage_or_there_twice_is_named() {
    let compiled = with(|spec| spec["warnAt"] = json!([95, 80, 0, 100, -1, 80]));
    assert_eq!(compiled.contents.quotas[0].warn_at.levels(), [80, 95]);
    let places = [2, 3, 4, 5].map(|place| format!("Invalid at spec.warnAt[{place}]"));
    assert_eq!(found(&compiled, Kind::AiQuota, "team/q"), places);
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
