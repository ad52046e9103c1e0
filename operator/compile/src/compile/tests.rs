use proptest::prelude::*;
use proptest::sample::Index as Choice;
use serde_json::{Value, json};

use super::*;
use crate::Object;
use crate::fixture::{self, object, settings};

/// Several states of a few objects that refer to each other; some can't be read.
fn states() -> Vec<Vec<Value>> {
    let change = |mut value: Value, pointer: &str, new: Value| {
        *value.pointer_mut(pointer).unwrap() = new;
        value
    };
    let aged = |mut value: Value, day: u8| {
        value["metadata"]["creationTimestamp"] = json!(format!("2026-01-{day:02}T00:00:00Z"));
        value
    };
    let keyed = |mut value: Value| {
        value["spec"]["authentication"] =
            json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
        value
    };
    let eu = fixture::backend("a/eu");
    let to_b = json!({"name": "eu", "namespace": "b"});
    let one = fixture::route("a/one");
    let quota = fixture::quota("a/quota");
    vec![
        vec![
            eu.clone(),
            change(eu.clone(), "/spec/auth/type", json!("PassThrough")),
            change(eu.clone(), "/spec/endpoint", json!("http://a.example")),
            change(eu, "/spec/type", json!("Unknown")),
        ],
        vec![fixture::backend("b/eu")],
        vec![
            one.clone(),
            aged(keyed(one.clone()), 2),
            change(one.clone(), "/spec/rules/0/backendRefs/0", to_b),
            change(one, "/spec/rules", json!("none")),
        ],
        vec![
            aged(fixture::route("a/two"), 1),
            keyed(fixture::route("a/two")),
        ],
        vec![change(
            fixture::route("b/one"),
            "/spec/rules/0/name",
            json!("Bad"),
        )],
        vec![
            aged(fixture::secret("a/k1", "same"), 3),
            fixture::secret("a/k1", "own"),
        ],
        vec![
            aged(fixture::secret("a/k2", "same"), 2),
            fixture::secret("a/k2", ""),
        ],
        vec![fixture::grant("b/g", "a"), fixture::grant("b/g", "c")],
        vec![
            quota.clone(),
            change(quota.clone(), "/spec/limits/0/limit", json!(0)),
            change(quota, "/spec/limits/0/unit", json!("Token")),
        ],
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Choice, Choice),
    Delete(Choice),
    Reset(Choice),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let choice = any::<Choice>;
    let step = prop_oneof![
        6 => (choice(), choice()).prop_map(|(object, state)| Step::Apply(object, state)),
        2 => choice().prop_map(Step::Delete),
        1 => choice().prop_map(Step::Reset),
    ];
    proptest::collection::vec(step, 0..40)
}

fn is_sorted_without_duplicates<T: Ord>(items: &[T]) -> bool {
    items.windows(2).all(|pair| pair[0] < pair[1])
}

proptest! {
    #[test]
    fn the_result_depends_on_the_last_state_only(steps in steps(), seed in any::<u64>()) {
        let states = states();
        let mut index = Index::default();
        let mut last: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Apply(which, state) => {
                    let of_one: &Vec<Value> = which.get(&states);
                    let value = state.get(of_one);
                    last.insert(object(value.clone()).object_ref(), object(value.clone()));
                    index.apply(object(value.clone()));
                }
                Step::Delete(which) => {
                    let gone = object(which.get(&states)[0].clone()).object_ref();
                    last.remove(&gone);
                    index.delete(&gone);
                }
                Step::Reset(which) => {
                    let kind = object(which.get(&states)[0].clone()).object_ref().kind;
                    let kept = last.values().filter(|o| o.object_ref().kind == kind).cloned();
                    index.reset(kind, kept.collect());
                }
            }
        }
        let mut final_states: Vec<Object> = last.into_values().collect();
        let turn = usize::try_from(seed % 17).unwrap() % final_states.len().max(1);
        final_states.rotate_left(turn);
        if seed % 2 == 0 {
            final_states.reverse();
        }
        let mut fresh = Index::default();
        final_states.into_iter().for_each(|object| fresh.apply(object));

        let compiled = compile(&index, &settings());
        prop_assert_eq!(&compiled, &compile(&fresh, &settings()));

        let contents = &compiled.contents;
        let names: Vec<_> = contents.backends.iter().map(|b| &b.name).collect();
        prop_assert!(is_sorted_without_duplicates(&names));
        let names: Vec<_> = contents.routes.iter().map(|r| &r.name).collect();
        prop_assert!(is_sorted_without_duplicates(&names));
        let names: Vec<_> = contents.quotas.iter().map(|q| &q.name).collect();
        prop_assert!(is_sorted_without_duplicates(&names));
        let names: Vec<_> = contents.keys.iter().map(|k| &k.secret).collect();
        prop_assert!(is_sorted_without_duplicates(&names));
        for route in &contents.routes {
            prop_assert!(is_sorted_without_duplicates(&route.authentication.keys));
            let known = route.authentication.keys.iter();
            prop_assert!(known.clone().all(|name| names.binary_search(&name).is_ok()));
        }
    }
}

#[test]
fn an_empty_index_compiles_to_an_empty_table() {
    assert_eq!(compile(&Index::default(), &settings()), Compiled::default());
}

#[test]
fn every_object_of_ours_has_a_verdict_even_an_undecodable_one() {
    let mut broken = fixture::route("a/broken");
    broken["spec"] = json!({});
    let compiled = fixture::compiled([
        broken,
        fixture::backend("a/eu"),
        fixture::quota("a/q"),
        fixture::secret("a/s", "k"),
        fixture::grant("a/g", "b"),
    ]);
    let judged: Vec<String> = compiled.verdicts.keys().map(ToString::to_string).collect();
    assert_eq!(
        judged,
        ["AIBackend a/eu", "AIRoute a/broken", "AIQuota a/q"]
    );
    let entries = compiled.verdicts.keys().filter_map(ObjectRef::entry);
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    assert_eq!(entries, ["backend/a/eu", "route/a/broken", "quota/a/q"]);
}

#[test]
fn a_repaired_object_comes_back() {
    let mut index = Index::default();
    let good = fixture::route("a/one");
    let mut broken = good.clone();
    broken["spec"]["rules"] = json!(7);
    index.apply(object(good.clone()));
    index.apply(object(broken));
    let damaged = compile(&index, &settings()).contents.routes;
    assert!(damaged.iter().all(|route| route.rejected.is_some()));
    assert_eq!(index.routes().count(), 0);
    index.apply(object(good));
    assert_eq!(compile(&index, &settings()).contents.routes.len(), 1);
}

#[test]
fn reset_replaces_one_kind_and_keeps_the_others() {
    let mut index = Index::default();
    for value in [
        fixture::route("a/one"),
        fixture::backend("a/eu"),
        fixture::quota("a/q"),
    ] {
        index.apply(object(value));
    }
    let replacements = vec![
        object(fixture::route("a/two")),
        object(fixture::backend("a/us")),
    ];
    index.reset(Kind::AiRoute, replacements);
    let names = |index: &Index| -> Vec<String> {
        let compiled = compile(index, &settings());
        compiled.verdicts.keys().map(ToString::to_string).collect()
    };
    assert_eq!(
        names(&index),
        ["AIBackend a/eu", "AIRoute a/two", "AIQuota a/q"]
    );
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "measures, and asserts a generous bound only"
)]
fn a_large_gateway_compiles_fast() {
    let mut index = Index::default();
    for i in 0..100 {
        index.apply(object(fixture::backend(&format!("team-{}/eu-{i}", i % 10))));
    }
    for i in 0..1000 {
        let name = format!("team-{}/key-{i}", i % 10);
        index.apply(object(fixture::secret(&name, &name)));
    }
    for i in 0..1000 {
        let mut route = fixture::route(&format!("team-{}/route-{i}", i % 10));
        let backend = format!("eu-{}", i % 100);
        route["spec"]["rules"][0]["backendRefs"][0]["name"] = json!(backend);
        route["spec"]["rules"][0]["matches"] = json!([{"models": [format!("model-{i}")]}]);
        route["spec"]["authentication"] =
            json!({"apiKeys": {"secretSelector": {"matchLabels": {"keys": "chat"}}}});
        index.apply(object(route));
    }
    let start = std::time::Instant::now();
    let compiled = compile(&index, &settings());
    let took = start.elapsed();
    println!("compiled in {took:?}");
    assert_eq!(compiled.contents.keys.len(), 1000);
    let routes = &compiled.contents.routes;
    assert!(
        routes
            .iter()
            .all(|route| route.rejected.is_none() && route.rules[0].targets.len() == 1)
    );
    // A few milliseconds when optimised; only a step that is quadratic would need seconds.
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
