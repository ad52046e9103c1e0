use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index as Choice;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{self, gateway, gateways, grant, named, object, ours, settings};
use crate::{Day, HostGrant, IdentityGrants, Secrets, Tenants, compile};

const NAMESPACES: [&str; 3] = ["a", "b", crate::INSTALLATION_NAMESPACE];

/// The states of every object that the property changes, and `null` for none.
fn states() -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        let name = |short: &str| format!("{namespace}/{short}");
        all.push(backends(&name("eu")));
        all.push(backends(&name("us")));
        all.push(routes(&name("one"), 1));
        all.push(routes(&name("two"), 2));
        all.push(routes(&name("three"), 2));
        all.push(quotas(&name("q1")));
        all.push(quotas(&name("q2")));
        all.push(secrets(&name("k1")));
        all.push(secrets(&name("k2")));
        all.push(secrets(&name("k3")));
    }
    all.push(vec![grant("b/g", "a"), grant("b/g", "c")]);
    all.push(vec![grant("a/g", "b")]);
    all
}

fn with(mut value: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, new) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let parent = value.pointer_mut(parent).unwrap();
        if let Some(all) = parent.as_array_mut() {
            all[last.parse::<usize>().unwrap()] = new.clone();
        } else {
            parent[last.replace("~1", "/")] = new.clone();
        }
    }
    value
}

fn backends(name: &str) -> Vec<Value> {
    let plain = fixture::backend(name);
    let of = |changes: &[(&str, Value)]| with(plain.clone(), changes);
    let price = json!({"inputPerMillion": 1, "outputPerMillion": 2});
    let key = json!({"type": "APIKey", "apiKey": {"secretRef": {"name": "k1", "key": "key"}}});
    vec![
        plain.clone(),
        of(&[("/spec/auth", key)]),
        of(&[(
            "/spec/deployments",
            json!([{"name": "gpt-4o", "price": price}, {"name": "mini", "model": "gpt-5", "price": price}]),
        )]),
        of(&[(
            "/spec/deployments",
            json!([{"name": "gpt-4o", "retires": "2026-02-01"}, {"name": "mini", "model": "gpt-5"}]),
        )]),
        of(&[("/spec/auth/type", json!("PassThrough"))]),
        of(&[("/spec/endpoint", json!("http://a.example"))]),
        of(&[("/spec/type", json!("Unknown"))]),
    ]
}

fn routes(name: &str, day: u8) -> Vec<Value> {
    let keys = json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
    let both = json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat", "x": "1"}}}, "anonymous": {}});
    let jwt = |claim: &str, audience: &str| {
        json!({"jwt": [{
            "issuer": "https://login.example/v2.0", "audiences": [audience, "shared"],
            "jwksURI": format!("https://{claim}.example/keys"), "consumerClaim": claim,
        }]})
    };
    let plain = with(
        fixture::route(name),
        &[(
            "/metadata/creationTimestamp",
            json!(format!("2026-01-{day:02}T00:00:00Z")),
        )],
    );
    let of = |changes: &[(&str, Value)]| with(plain.clone(), changes);
    let mixed = json!([
        {"name": "all", "matches": [{"models": ["gpt-4o"]}], "backendRefs": [
            {"name": "eu", "deployment": "gpt-4o"}, {"name": "us", "deployment": "mini"},
        ]},
        {"name": "rest", "backendRefs": [{"name": "us"}]},
    ]);
    let models =
        json!([{"models": ["gpt-4o", "mini"], "consumers": {"names": ["k1"]}}, {"models": ["x"]}]);
    let lacking = json!([{"name": "eu"}, {"name": "missing"}]);
    vec![
        plain.clone(),
        of(&[("/spec/rules/0/backendRefs", lacking)]),
        of(&[("/spec/authentication", keys.clone())]),
        of(&[
            ("/spec/authentication", both),
            ("/spec/rules", mixed.clone()),
        ]),
        of(&[
            ("/spec/authentication", keys),
            ("/spec/rules/0/matches", models),
        ]),
        of(&[
            ("/spec/authentication", jwt("sub", "one")),
            ("/spec/hostnames", json!(["x.example.com"])),
        ]),
        of(&[
            ("/spec/authentication", jwt("oid", "two")),
            ("/spec/rules", mixed),
        ]),
        of(&[
            ("/spec/hostnames", json!(["x.example.com", "*.example.org"])),
            ("/spec/rules/0/backendRefs/0/namespace", json!("b")),
        ]),
        of(&[(
            "/spec/parentRefs",
            json!([{"name": "gw", "namespace": "b"}, {"name": "gw"}]),
        )]),
        of(&[("/spec/authentication", json!({"passThrough": {}}))]),
        of(&[("/spec/rules/0/name", json!("Bad"))]),
        of(&[("/spec/rules/0/retry", json!("none"))]),
        of(&[("/spec/rules", json!("none"))]),
    ]
}

fn quotas(name: &str) -> Vec<Value> {
    let limit = json!([{"name": "minute", "unit": "Requests", "limit": 10, "window": "Minute"}]);
    let cost = json!([{"name": "day", "unit": "CostMicros", "limit": 10, "window": "Day"}]);
    let of = |spec: Value| {
        let mut spec = spec;
        if spec.get("limits").is_none() {
            spec["limits"] = limit.clone();
        }
        ours("AIQuota", name, &spec)
    };
    let target = |route: &str| json!([{"kind": "AIRoute", "name": route}]);
    vec![
        of(json!({})),
        of(json!({"per": ["Model"]})),
        of(json!({"match": {"namespaces": ["bb"]}})),
        of(json!({"limits": cost})),
        of(
            json!({"targetRefs": target("one"), "limits": cost, "match": {"models": ["gpt-5", "y"]}}),
        ),
        of(json!({"targetRefs": [{"name": "two", "sectionName": "rest"}, {"name": "thre"}]})),
        of(json!({"match": {"consumers": {"names": ["k1", "k4", "b/k2"]}}, "per": ["Model"]})),
        of(
            json!({"match": {"consumers": {"attributes": {"team": "x"}}, "namespaces": ["b", "aa"]}}),
        ),
        of(json!({"match": {"models": ["gpt-4*", "mine"]}, "per": ["Consumer"]})),
        of(json!({
            "targetRefs": target("two"),
            "overrides": [{"consumers": {"names": ["k2"]}, "limits": [{"name": "minute", "limit": 5}]}],
        })),
        of(json!({"limits": "none"})),
    ]
}

fn secrets(name: &str) -> Vec<Value> {
    let plain = fixture::secret(name, name);
    let of = |changes: &[(&str, Value)]| with(plain.clone(), changes);
    let consumer = json!({"tundish.dev/consumer": "k9"});
    vec![
        plain.clone(),
        of(&[("/stringData/key", json!("same"))]),
        of(&[
            ("/stringData/key", json!("same")),
            ("/metadata/annotations", consumer),
        ]),
        of(&[
            ("/stringData/key", json!("same")),
            ("/metadata/labels/x", json!("1")),
        ]),
        of(&[("/metadata/labels", json!({"x": "1"}))]),
        of(&[("/metadata/labels/attributes.tundish.dev~1team", json!("x"))]),
        of(&[("/stringData/key", json!(""))]),
    ]
}

/// Settings that an installation may change to.
fn all_settings() -> Vec<Settings> {
    let listener =
        json!([{"name": "web", "protocol": "HTTP", "port": 80, "hostname": "*.example.com"}]);
    let mut followed = gateways();
    followed.apply(&gateway("b/gw", &listener));
    let settings = || Settings {
        today: Day::parse("2026-01-15").unwrap(),
        ..settings()
    };
    vec![
        settings(),
        Settings {
            gateways: Some(followed),
            ..settings()
        },
        Settings {
            today: Day::parse("2026-01-30").unwrap(),
            host_grants: vec!["*=a".parse::<HostGrant>().unwrap()],
            ..settings()
        },
        Settings {
            grants_served: false,
            secrets: Secrets::Some,
            tenants: Tenants::One,
            identity_grants: IdentityGrants::Namespaces(Vec::new()),
            ..settings()
        },
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Choice, Choice),
    Delete(Choice),
    Set(Choice),
    Compile,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let choice = any::<Choice>;
    let step = prop_oneof![
        10 => (choice(), choice()).prop_map(|(object, state)| Step::Apply(object, state)),
        4 => choice().prop_map(Step::Delete),
        1 => choice().prop_map(Step::Set),
        8 => Just(Step::Compile),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn after_any_changes_it_is_as_if_all_were_compiled(
        full in any::<bool>(),
        first in any::<[u8; 8]>(),
        steps in steps(),
    ) {
        let (states, all_settings) = (states(), all_settings());
        let mut settings = &all_settings[0];
        let mut memo = Memo::default();
        if full {
            for (place, of_one) in states.iter().enumerate() {
                let state = usize::from(first[place % first.len()]).wrapping_add(place) % of_one.len();
                memo.apply(object(of_one[state].clone()));
            }
        }
        for step in steps.into_iter().chain([Step::Compile]) {
            match step {
                Step::Apply(which, state) => {
                    let of_one: &Vec<Value> = which.get(&states);
                    memo.apply(object(state.get(of_one).clone()));
                }
                Step::Delete(which) => {
                    memo.delete(&object(which.get(&states)[0].clone()).object_ref());
                }
                Step::Set(which) => settings = which.get(&all_settings),
                Step::Compile => {
                    let compiled = memo.compile(settings);
                    let fresh = compile(&memo.index, settings);
                    // Apart, since a difference of two tables fills a screen.
                    prop_assert_eq!(&compiled.verdicts, &fresh.verdicts);
                    prop_assert_eq!(compiled, fresh);
                }
            }
        }
    }
}

/// Three routes, of which one has a quota, and a caller.
fn memo() -> Memo {
    let mut memo = Memo::default();
    let target = json!({
        "targetRefs": [{"kind": "AIRoute", "name": "one"}],
        "limits": [{"name": "minute", "unit": "Requests", "limit": 10, "window": "Minute"}],
    });
    for value in [
        fixture::backend("a/eu"),
        fixture::backend("a/us"),
        routes("a/one", 1)[2].clone(),
        routes("a/two", 2)[4].clone(),
        routes("a/three", 3)[5].clone(),
        ours("AIQuota", "a/of-one", &target),
        fixture::secret("a/k1", "k1"),
    ] {
        memo.apply(object(value));
    }
    memo
}

/// The objects whose verdicts are other ones after `change`, and the entries of the table that are.
fn changed_by(change: impl FnOnce(&mut Memo)) -> (Vec<String>, Vec<String>) {
    let mut memo = memo();
    let before = memo.compile(&settings());
    change(&mut memo);
    let after = memo.compile(&settings());
    let (fresh, _) = after.verdicts.changes(&before.verdicts);
    let verdicts = fresh.into_iter().map(|one| one.object.to_string());
    let (now, then) = (&after.contents, &before.contents);
    let backends = now.backends.changes(&then.backends).fresh;
    let routes = now.routes.changes(&then.routes).fresh;
    let quotas = now.quotas.changes(&then.quotas).fresh;
    let keys = now.keys.changes(&then.keys).fresh;
    let entries = (backends
        .into_iter()
        .map(|one| format!("backend {}", one.name)))
    .chain(routes.into_iter().map(|one| format!("route {}", one.name)))
    .chain(quotas.into_iter().map(|one| format!("quota {}", one.name)))
    .chain(keys.into_iter().map(|one| format!("key {}", one.secret)));
    (verdicts.collect(), entries.collect())
}

#[test]
fn what_does_not_change_is_shared() {
    let nothing = changed_by(|memo| memo.apply(object(fixture::backend("a/eu"))));
    assert_eq!(nothing, (Vec::new(), Vec::new()));
    let (verdicts, entries) = changed_by(|memo| {
        let other = with(
            routes("a/two", 2)[4].clone(),
            &[("/spec/rules/0/matches/1/models/0", json!("z"))],
        );
        memo.apply(object(other));
    });
    assert_eq!(verdicts, [""; 0]);
    assert_eq!(entries, ["route a/two"]);
    let (verdicts, entries) = changed_by(|memo| memo.apply(object(fixture::secret("a/k2", "k2"))));
    assert_eq!(verdicts, [""; 0]);
    assert_eq!(entries, ["route a/one", "route a/two", "key a/k2"]);
    let (verdicts, entries) = changed_by(|memo| memo.delete(&named(Kind::AiBackend, "a/eu")));
    assert_eq!(
        verdicts,
        ["AIRoute a/one", "AIRoute a/three", "AIRoute a/two"]
    );
    assert_eq!(entries, ["route a/one", "route a/three", "route a/two"]);
}

#[test]
fn without_a_change_every_list_is_the_same() {
    let mut memo = memo();
    let before = memo.compile(&settings());
    let after = memo.compile(&settings());
    assert!(after.contents.routes.is_copy_of(&before.contents.routes));
    assert!(after.contents.keys.is_copy_of(&before.contents.keys));
    assert!(after.verdicts.routes.is_copy_of(&before.verdicts.routes));
    assert!(Arc::ptr_eq(&after.gateways, &before.gateways));
    assert!(Arc::ptr_eq(&after.unusable_keys, &before.unusable_keys));
}

/// After each of the `changes` everything is as if it were compiled afresh, and the verdict on `dependent` is
/// another one.
fn check(objects: &[Value], changes: &[Value], dependent: &ObjectRef) {
    let settings = &all_settings()[0];
    let mut memo = Memo::default();
    objects
        .iter()
        .for_each(|one| memo.apply(object(one.clone())));
    let mut before = memo.compile(settings);
    for change in changes {
        memo.apply(object(change.clone()));
        let after = memo.compile(settings);
        assert_eq!(after, compile(&memo.index, settings), "after {change}");
        let (old, new) = (
            before.verdicts.get(dependent),
            after.verdicts.get(dependent),
        );
        assert_ne!(old, new, "after {change}");
        before = after;
    }
}

#[test]
fn a_quota_follows_the_models_of_rules_that_it_tells_apart() {
    let own = crate::INSTALLATION_NAMESPACE;
    for quota in [format!("{own}/q"), "a/q".to_owned()] {
        let rule = json!([{"name": "all", "backendRefs": [
            {"name": "eu", "deployment": "gpt-4o"}, {"name": "us", "deployment": "mini"},
        ]}]);
        let us = |model: &str| {
            let deployments = json!([{"name": "mini", "model": model}]);
            with(
                fixture::backend("a/us"),
                &[("/spec/deployments", deployments)],
            )
        };
        let objects = [
            fixture::backend("a/eu"),
            us("gpt-4o"),
            with(fixture::route("a/one"), &[("/spec/rules", rule)]),
            with(fixture::quota(&quota), &[("/spec/per", json!(["Model"]))]),
        ];
        let changes = [us("gpt-5"), us("gpt-4o")];
        check(&objects, &changes, &named(Kind::AiQuota, &quota));
    }
}

#[test]
fn a_quota_follows_the_namespaces_with_routes() {
    let quota = format!("{}/q", crate::INSTALLATION_NAMESPACE);
    let of = |namespace: &str| {
        let spec = json!({"namespaces": [namespace]});
        with(fixture::quota(&quota), &[("/spec/match", spec)])
    };
    let route = fixture::route("team-b/one");
    // The first finds the namespace, the second a name that is near to it.
    for namespace in ["team-b", "team-bb"] {
        let others = [fixture::route("a/one"), fixture::route("c/one")];
        let [one, other] = others;
        let objects = [one, other, of(namespace)];
        check(
            &objects,
            std::slice::from_ref(&route),
            &named(Kind::AiQuota, &quota),
        );
        let mut memo = Memo::default();
        let all = [route.clone(), of(namespace)];
        all.into_iter().for_each(|one| memo.apply(object(one)));
        memo.compile(&settings());
        memo.delete(&named(Kind::AiRoute, "team-b/one"));
        let after = memo.compile(&settings());
        assert_eq!(after, compile(&memo.index, &settings()));
    }
}

#[test]
fn a_quota_follows_what_a_route_declares_and_does_not_have() {
    let of = |references: Value| {
        with(
            fixture::route("a/one"),
            &[
                ("/spec/rules/0/backendRefs", references),
                ("/spec/rules/0/matches", json!([{"models": ["gpt-4o"]}])),
            ],
        )
    };
    let spec = json!({"models": ["gpt-5"]});
    let target = json!([{"kind": "AIRoute", "name": "one"}]);
    let quota = with(
        fixture::quota("a/q"),
        &[("/spec/match", spec), ("/spec/targetRefs", target)],
    );
    let lacking = of(json!([{"name": "eu"}, {"name": "missing"}]));
    let whole = of(json!([{"name": "eu"}]));
    let objects = [fixture::backend("a/eu"), lacking.clone(), quota];
    check(&objects, &[whole, lacking], &named(Kind::AiQuota, "a/q"));
}

#[test]
fn a_backend_that_retires_follows_the_routes_that_use_it() {
    let eu = |retires: &str, generation: u8| {
        let deployments = json!([{"name": "gpt-4o", "retires": retires}]);
        with(
            fixture::backend("a/eu"),
            &[
                ("/metadata/generation", json!(generation)),
                ("/spec/deployments", deployments),
            ],
        )
    };
    let route = |backend: &str| {
        let place = "/spec/rules/0/backendRefs/0/name";
        with(fixture::route("a/one"), &[(place, json!(backend))])
    };
    let objects = [fixture::backend("a/us"), route("us"), eu("2026-02-01", 1)];
    let changes = [route("eu"), route("us"), eu("2028-02-01", 2)];
    check(&objects, &changes, &named(Kind::AiBackend, "a/eu"));
    // One that retires no more has no users to name, and the verdict on its present generation.
    let settings = &all_settings()[0];
    let mut memo = Memo::default();
    let changes = objects.into_iter().chain(changes).chain([route("eu")]);
    for change in changes {
        memo.apply(object(change));
        assert_eq!(memo.compile(settings), compile(&memo.index, settings));
    }
}
