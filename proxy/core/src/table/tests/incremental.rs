//! A table that was made by one change after the other is the table that is made of its last contents.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::admit::{Ask, admit, admit_for_some_model};
use crate::auth::{Caller, Credential, Key, KeyDigest};
use crate::names::{ModelPattern, ObjectName, Operation};
use crate::quota::Unit;
use crate::route::{HostPattern, Match};
use crate::table::{
    Authentication, Backend, Contents, FlatRule, FlatTarget, Quota, Route, Scope, Table, Target,
};
use crate::test_util::{self, deployment, key, limit, object, rule, target};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 3] = ["x.example", "y.example", "else"];
const PATTERNS: [&str; 3] = ["x.example", "*.example", "else"];
const MODELS: [Option<&str>; 4] = [Some("m-1"), Some("m-2"), Some("other"), None];

/// One object that is put or, without a form, deleted.
#[derive(Clone, Debug)]
enum Change {
    Backend(ObjectName, Option<Backend>),
    Route(ObjectName, Option<Route>),
    Quota(ObjectName, Option<Quota>),
    Key(ObjectName, Option<Key>),
}

/// What is declared at present.
#[derive(Default)]
struct Declared {
    backends: BTreeMap<ObjectName, Backend>,
    routes: BTreeMap<ObjectName, Route>,
    quotas: BTreeMap<ObjectName, Quota>,
    keys: BTreeMap<ObjectName, Key>,
}

fn any_name() -> impl Strategy<Value = ObjectName> {
    let parts = (select(&NAMESPACES[..]), select(&["1", "2", "3"][..]));
    parts.prop_map(|(namespace, name)| ObjectName::new(namespace, name))
}

fn any_match() -> impl Strategy<Value = Match> {
    let operations = vec![Operation::ChatCompletions, Operation::Embeddings];
    let parts = (
        subsequence(vec!["m-1", "m-2", "m-*", "*"], 0..=2),
        subsequence(operations, 0..=1),
    );
    parts.prop_map(|(models, operations)| Match {
        models: models.into_iter().filter_map(ModelPattern::parse).collect(),
        operations,
        ..Match::default()
    })
}

fn any_target() -> impl Strategy<Value = Target> {
    (any_name(), 0..3u32, 0..2u8).prop_map(|(backend, weight, priority)| Target {
        backend,
        weight,
        priority,
        ..target("b")
    })
}

fn any_route(name: ObjectName) -> impl Strategy<Value = Route> {
    let rules = vec((vec(any_match(), 0..=2), vec(any_target(), 0..=2)), 0..=3);
    let flag = || prop::bool::weighted(0.2);
    let parts = (
        subsequence(PATTERNS.to_vec(), 0..=2),
        subsequence(vec!["1", "2", "3"], 0..=3),
        (flag(), flag()),
        0..3i64,
        rules,
    );
    parts.prop_map(move |(hosts, keys, flags, created_s, rules)| {
        let namespace = name.namespace();
        let keys = keys.iter().map(|key| ObjectName::new(namespace, *key));
        let rules = rules.into_iter().enumerate();
        let rules = rules.map(|(index, (matches, targets))| {
            let mut rule = rule(&format!("rule-{index}"), targets);
            rule.matches = matches;
            rule
        });
        Route {
            name: name.clone(),
            created_s,
            hostnames: hosts.into_iter().filter_map(HostPattern::parse).collect(),
            authentication: Authentication {
                keys: keys.collect(),
                anonymous: flags.0,
                pass_through: flags.1,
                ..Authentication::default()
            },
            ..test_util::route("r", rules.collect())
        }
    })
}

fn any_quota(name: ObjectName) -> impl Strategy<Value = Quota> {
    let section = select(&[None, Some("rule-0"), Some("rule-1")][..]);
    let section = section.prop_map(|rule| rule.map(Arc::from));
    let namespaces = subsequence(NAMESPACES.to_vec(), 0..=2);
    let scope = prop_oneof![
        Just(Scope::Gateway),
        select(&NAMESPACES[..]).prop_map(|one| Scope::Namespace(one.into())),
        namespaces.prop_map(|all| Scope::Namespaces(all.into_iter().map(Arc::from).collect())),
        vec((any_name(), section), 0..=2).prop_map(Scope::Targets),
    ];
    (scope, 1..3u64).prop_map(move |(scope, amount)| {
        let limits = ["one", "two"].map(|name| limit(name, Unit::Requests, amount));
        Quota {
            name: name.clone(),
            scope,
            ..test_util::quota("q", limits.to_vec())
        }
    })
}

fn any_backend(name: ObjectName) -> impl Strategy<Value = Backend> {
    (1..4usize).prop_map(move |number| Backend {
        name: name.clone(),
        deployments: (0..number)
            .map(|one| deployment(&format!("m-{one}"), "other"))
            .collect(),
        ..test_util::backend("b")
    })
}

fn any_key(name: ObjectName) -> impl Strategy<Value = Key> {
    (0..3usize).prop_map(move |number| Key {
        digest: KeyDigest::of(&format!("key-{number}")),
        ..key(&name.to_string())
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    any_name().prop_flat_map(move |name| {
        let [a, b, c, d] = [(); 4].map(|()| name.clone());
        let backend = prop::option::weighted(0.75, any_backend(name.clone()));
        let route = prop::option::weighted(0.75, any_route(name.clone()));
        let quota = prop::option::weighted(0.75, any_quota(name.clone()));
        let key = prop::option::weighted(0.75, any_key(name));
        prop_oneof![
            1 => backend.prop_map(move |form| Change::Backend(a.clone(), form)),
            3 => route.prop_map(move |form| Change::Route(b.clone(), form)),
            1 => quota.prop_map(move |form| Change::Quota(c.clone(), form)),
            1 => key.prop_map(move |form| Change::Key(d.clone(), form)),
        ]
    })
}

fn set<T>(all: &mut BTreeMap<ObjectName, T>, name: ObjectName, form: Option<T>) {
    match form {
        Some(form) => all.insert(name, form),
        None => all.remove(&name),
    };
}

impl Declared {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Backend(name, form) => set(&mut self.backends, name, form),
            Change::Route(name, form) => set(&mut self.routes, name, form),
            Change::Quota(name, form) => set(&mut self.quotas, name, form),
            Change::Key(name, form) => set(&mut self.keys, name, form),
        }
    }

    fn contents(&self) -> Contents {
        Contents::new(
            self.backends.values().cloned().collect(),
            self.routes.values().cloned().collect(),
            self.quotas.values().cloned().collect(),
            self.keys.values().cloned().collect(),
        )
    }
}

/// Everything that a rule has.
fn described(flat: &FlatRule) -> String {
    let FlatRule {
        route,
        rule,
        targets,
        limits,
        max_price,
    } = flat;
    let target = |target: &FlatTarget| {
        let endpoints = target.endpoints().map(|one| (one.name(), &one.deployment));
        let endpoints = format!("{:?}", endpoints.collect::<Vec<_>>());
        (
            target.backend.clone(),
            target.weight,
            target.priority,
            endpoints,
        )
    };
    let targets: Vec<_> = targets.iter().map(target).collect();
    format!("{route:?} {rule:?} {targets:?} {limits:?} {max_price:?}")
}

/// What a table says to callers of all kinds who ask for everything.
fn answers(table: &Table) -> Vec<String> {
    let headers = HeaderMap::new();
    let known = (0..3).filter_map(|number| {
        let shown = format!("key-{number}");
        let found = table.ring().find(&Credential::of(&shown));
        found.map(|(_, caller)| Arc::clone(caller))
    });
    let mut callers: Vec<Arc<Caller>> = known.collect();
    let strange = Caller::unknown(&KeyDigest::of("strange"));
    callers.extend([Caller::anonymous().into(), strange.into()]);
    let mut answers = Vec::new();
    for (caller, host) in callers.iter().flat_map(|one| HOSTS.map(|host| (one, host))) {
        for model in MODELS {
            let ask = Ask {
                host,
                operation: Operation::ChatCompletions,
                model,
                headers: &headers,
            };
            let one = admit(table, caller, &ask);
            let one = one.map(|permit| (permit.index, described(permit.flat)));
            let some = admit_for_some_model(table, caller, &ask, |place| place % 2 == 0);
            let some = some.map(|found| found.map(|one| (one.index, described(one.flat))));
            answers.push(format!(
                "{} {host} {model:?}: {one:?} {some:?}",
                caller.full_name
            ));
        }
    }
    answers
}

fn all(table: &Table) -> (Vec<String>, String, String) {
    let rules = table.rules().iter().map(|flat| described(flat));
    let (limits, endpoints) = (table.limits(), table.endpoints());
    (
        rules.collect(),
        format!("{limits:?}"),
        format!("{endpoints:?}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_table_after_changes_is_the_table_of_its_contents(
        changes in vec(vec(any_change(), 1..4), 1..12)
    ) {
        let mut declared = Declared::default();
        let mut table = Table::default();
        for burst in changes {
            burst.into_iter().for_each(|change| declared.apply(change));
            let next = Table::after(&table, declared.contents());
            let whole = Table::new(declared.contents());
            prop_assert_eq!(next.contents(), whole.contents());
            prop_assert_eq!(all(&next), all(&whole));
            prop_assert_eq!(answers(&next), answers(&whole));
            table = next;
        }
    }
}

#[test]
fn a_change_of_one_route_leaves_everything_else_in_place() {
    let mut declared = Declared::default();
    for name in NAMESPACES.map(|namespace| ObjectName::new(namespace, "1")) {
        let backend = Backend {
            name: name.clone(),
            ..test_util::backend("b")
        };
        let quota = Quota {
            name: name.clone(),
            ..test_util::quota("q", vec![limit("one", Unit::Requests, 1)])
        };
        let target = Target {
            backend: name.clone(),
            ..target("b")
        };
        let route = Route {
            name: name.clone(),
            ..test_util::route("r", vec![rule("rule", vec![target])])
        };
        let key = key(&name.to_string());
        declared.apply(Change::Backend(name.clone(), Some(backend)));
        declared.apply(Change::Quota(name.clone(), Some(quota)));
        declared.apply(Change::Route(name.clone(), Some(route)));
        declared.apply(Change::Key(name, Some(key)));
    }
    let before = Table::new(declared.contents());
    let changed = object("b/1");
    let route = declared.routes.get_mut(&changed).unwrap();
    route.hostnames = HostPattern::parse("x.example").into_iter().collect();
    let after = Table::after(&before, declared.contents());
    assert!(Arc::ptr_eq(&before.ring, &after.ring));
    assert!(Arc::ptr_eq(&before.limits, &after.limits));
    assert!(Arc::ptr_eq(&before.endpoints, &after.endpoints));
    for (old, new) in before.rules().iter().zip(after.rules()) {
        let is_changed = new.route.name == changed;
        assert_eq!(Arc::ptr_eq(old, new), !is_changed, "{}", new.route.name);
    }
}
