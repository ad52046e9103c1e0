use std::sync::Arc;

use http::HeaderMap;

use super::{Ask, admit, authenticate, models};
use crate::names::{Code, ModelPattern, Moment, Operation};
use crate::quota::Unit;
use crate::route::Match;
use crate::table::{Authentication, Backend, Contents, Quota, Route, Rule, Scope, Table};
use crate::test_util::{self, deployment, key, limit, object, target};

const NOW: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 0,
};

fn backend() -> Backend {
    Backend {
        deployments: vec![
            deployment("mini-ptu", "gpt-4o-mini"),
            deployment("gpt-4o", "gpt-4o"),
        ],
        ..test_util::backend("eu")
    }
}

fn route(name: &str, created_s: i64, pattern: &str) -> Route {
    let rule = Rule {
        matches: vec![Match {
            models: vec![ModelPattern::parse(pattern).expect("a pattern")],
            ..Match::default()
        }],
        ..test_util::rule("r", vec![target("eu")])
    };
    Route {
        created_s,
        authentication: Authentication {
            keys: vec![object("ann")],
            ..Authentication::default()
        },
        ..test_util::route(name, vec![rule])
    }
}

fn quota(name: &str, scope: Scope) -> Quota {
    Quota {
        scope,
        ..test_util::quota(name, vec![limit("l", Unit::Requests, 1)])
    }
}

fn table(routes: Vec<Route>) -> Table {
    table_with(routes, Vec::new())
}

fn table_with(routes: Vec<Route>, quotas: Vec<Quota>) -> Table {
    let keys = vec![key("ann"), key("bob")];
    Table::new(Contents::new(vec![backend()], routes, quotas, keys))
}

fn ask<'a>(headers: &'a HeaderMap, model: &'a str) -> Ask<'a> {
    Ask {
        host: "h",
        operation: Operation::ChatCompletions,
        model: Some(model),
        headers,
    }
}

/// The route that serves, or the code of the refusal.
fn decide(table: &Table, credential: Option<&str>, model: &str) -> Result<String, Code> {
    let headers = HeaderMap::new();
    let caller = authenticate(table, "h", credential, NOW).map_err(|denial| denial.code)?;
    admit(table, &caller, &ask(&headers, model))
        .map(|permit| permit.route.name.name().to_owned())
        .map_err(|denial| denial.code)
}

#[test]
fn a_route_without_authentication_refuses_every_caller() {
    let mut closed = route("a", 0, "*");
    closed.authentication = Authentication::default();
    let table = table(vec![closed]);
    assert_eq!(decide(&table, None, "m"), Err(Code::MissingCredential));
    assert_eq!(decide(&table, Some("?"), "m"), Err(Code::InvalidCredential));
    assert_eq!(decide(&table, Some("ann"), "m"), Err(Code::Forbidden));
}

#[test]
fn a_known_consumer_of_another_route_is_forbidden() {
    let table = table(vec![route("a", 0, "*")]);
    assert_eq!(decide(&table, Some("ann"), "m"), Ok("a".into()));
    assert_eq!(decide(&table, Some("bob"), "m"), Err(Code::Forbidden));
}

#[test]
fn anonymous_admits_every_caller_and_pass_through_every_credential() {
    let (mut open, mut pass) = (route("open", 0, "open"), route("pass", 0, "pass"));
    open.authentication = Authentication {
        anonymous: true,
        ..Authentication::default()
    };
    pass.authentication = Authentication {
        pass_through: true,
        ..Authentication::default()
    };
    let table = table(vec![open, pass]);
    assert_eq!(decide(&table, None, "open"), Ok("open".into()));
    assert_eq!(decide(&table, None, "pass"), Err(Code::MissingCredential));
    assert_eq!(
        decide(&table, Some("foundry-key"), "pass"),
        Ok("pass".into())
    );
}

#[test]
fn a_stranger_learns_nothing_about_models() {
    let table = table(vec![route("a", 0, "gpt-4o")]);
    assert_eq!(
        decide(&table, Some("?"), "no-such-model"),
        Err(Code::InvalidCredential)
    );
    assert_eq!(
        decide(&table, Some("ann"), "no-such-model"),
        Err(Code::ModelNotFound)
    );
}

#[test]
fn a_rejected_route_keeps_its_matches_from_a_broader_one() {
    let mut broken = route("broken", 0, "gpt-4o");
    broken.rejected = Some("a bad reference".into());
    let table = table(vec![route("broad", 0, "*"), broken]);
    assert_eq!(
        decide(&table, Some("ann"), "gpt-4o"),
        Err(Code::RouteRejected)
    );
    assert_eq!(decide(&table, Some("ann"), "other"), Ok("broad".into()));
}

#[test]
fn the_older_route_wins_a_tie_and_then_the_name() {
    let table = table(vec![
        route("a", 2, "m"),
        route("b", 1, "m"),
        route("c", 1, "m"),
    ]);
    assert_eq!(decide(&table, Some("ann"), "m"), Ok("b".into()));
}

#[test]
fn a_rule_whose_backends_are_all_missing_has_none() {
    let mut lost = route("a", 0, "*");
    Arc::make_mut(&mut lost.rules[0]).targets[0].backend = object("gone");
    assert_eq!(
        decide(&table(vec![lost]), Some("ann"), "m"),
        Err(Code::NoBackend)
    );
}

#[test]
fn limits_apply_by_scope_model_and_consumer() {
    let mut for_mini = quota("mini", Scope::Gateway);
    for_mini.models = vec![ModelPattern::parse("gpt-4o-mini").expect("a pattern")];
    let mut for_bob = quota("bob", Scope::Gateway);
    for_bob.consumers.names = vec!["bob".into()];
    let quotas = vec![
        quota("all", Scope::Gateway),
        for_bob,
        for_mini,
        quota("other-ns", Scope::Namespace("other".into())),
        quota(
            "rule",
            Scope::Targets(vec![(object("a"), Some("r".into()))]),
        ),
        quota(
            "other-rule",
            Scope::Targets(vec![(object("a"), Some("x".into()))]),
        ),
    ];
    let table = table_with(vec![route("a", 0, "*")], quotas);
    let caller = authenticate(&table, "h", Some("ann"), NOW).expect("known");
    let headers = HeaderMap::new();
    let applied = |model: &str| -> Vec<String> {
        let permit = admit(&table, &caller, &ask(&headers, model)).expect("admitted");
        permit
            .limits(&caller, Some(model))
            .map(|l| l.name.quota.name().to_owned())
            .collect()
    };
    assert_eq!(applied("gpt-4o"), ["all", "rule"]);
    assert_eq!(applied("gpt-4o-mini"), ["all", "mini", "rule"]);
}

#[test]
fn an_unsupported_quota_denies_its_scope_and_nothing_else() {
    let decide = |scope: Scope, models: &[&str], model: &str| {
        let mut quota = Quota {
            scope,
            ..test_util::quota("new", vec![limit("l", Unit::Requests, 1)])
        };
        quota.unsupported = Some("it needs the feature colour".into());
        let patterns = models.iter().map(|model| ModelPattern::parse(model));
        quota.models = patterns.map(|one| one.expect("a pattern")).collect();
        let table = table_with(vec![route("a", 0, "*")], vec![quota]);
        let caller = authenticate(&table, "h", Some("ann"), NOW).expect("known");
        let headers = HeaderMap::new();
        let admitted = admit(&table, &caller, &ask(&headers, model));
        admitted
            .map(|_| ())
            .map_err(|denial| (denial.code, denial.message))
    };
    let refused = Err((
        Code::RouteRejected,
        "the quota ns/new cannot be enforced: it needs the feature colour".to_owned(),
    ));
    let rule = |name_of_rule: Option<&str>| {
        Scope::Targets(vec![(object("a"), name_of_rule.map(Into::into))])
    };
    assert_eq!(decide(Scope::Gateway, &[], "gpt-4o"), refused);
    assert_eq!(
        decide(Scope::Namespace("ns".into()), &[], "gpt-4o"),
        refused
    );
    assert_eq!(decide(rule(Some("r")), &["gpt-*"], "gpt-4o"), refused);
    assert_eq!(decide(rule(None), &[], "gpt-4o"), refused);
    assert_eq!(
        decide(Scope::Namespace("other".into()), &[], "gpt-4o"),
        Ok(())
    );
    assert_eq!(decide(rule(Some("x")), &[], "gpt-4o"), Ok(()));
    assert_eq!(decide(Scope::Gateway, &["gpt-4o-mini"], "gpt-4o"), Ok(()));
}

#[test]
fn lists_the_models_that_a_caller_can_reach() {
    let table = table(vec![route("a", 0, "gpt-4o*")]);
    let headers = HeaderMap::new();
    let listed = |key: &str| {
        let caller = authenticate(&table, "h", Some(key), NOW).expect("known");
        models(
            &table,
            &caller,
            "h",
            &headers,
            &[Operation::ChatCompletions],
        )
    };
    assert_eq!(listed("ann"), ["gpt-4o".into(), "gpt-4o-mini".into()]);
    assert!(listed("bob").is_empty());
}
