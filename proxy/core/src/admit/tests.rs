use std::sync::Arc;

use http::HeaderMap;

mod credentials;
mod tokens;

use super::{Ask, Judged, admit, admit_for_some_model, authenticate, models};
use crate::auth::{Key, KeyDigest};
use crate::names::{Code, ModelPattern, Moment, Operation};
use crate::quota::{Per, Unit};
use crate::route::Match;
use crate::table::{
    Authentication, Backend, Contents, Quota, Route, Rule, Scope, Secrets, Table, Target,
};
use crate::test_util::{self, consumer, deployment, key, limit, object, target};

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
            keys: vec![object("ann")].into(),
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

fn credentials<'a>(keys: &[&'a str]) -> Vec<Judged<'a>> {
    keys.iter().map(|key| Judged::key(key)).collect()
}

/// The route that serves, or the code of the refusal.
fn decide(table: &Table, credential: Option<&str>, model: &str) -> Result<String, Code> {
    let headers = HeaderMap::new();
    let caller = authenticate(table, "h", &credentials(credential.as_slice()), NOW)
        .map(|one| one.caller)
        .map_err(|denial| denial.code)?;
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
    for_bob.consumers.names = vec![consumer("bob")];
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
    let caller = authenticate(&table, "h", &credentials(&["ann"]), NOW)
        .expect("known")
        .caller;
    let headers = HeaderMap::new();
    let applied = |model: &str| -> Vec<String> {
        let permit = admit(&table, &caller, &ask(&headers, model)).expect("admitted");
        permit
            .limits(permit.facts(&caller, Some(model)))
            .map(|l| l.name.quota.name().to_owned())
            .collect()
    };
    assert_eq!(applied("gpt-4o"), ["all", "rule"]);
    assert_eq!(applied("gpt-4o-mini"), ["all", "mini", "rule"]);
}

/// What a quota with `per: [Model]` counts, by the model that a client names.
fn counted(targets: Vec<Target>, models: &[&str], model: &str) -> Option<String> {
    let mut quota = quota("q", Scope::Gateway);
    quota.per = vec![Per::Model];
    let patterns = models.iter().map(|model| ModelPattern::parse(model));
    quota.models = patterns.map(|one| one.expect("a pattern")).collect();
    let mut route = route("a", 0, "*");
    Arc::make_mut(&mut route.rules[0]).targets = targets;
    let table = table_with(vec![route], vec![quota]);
    let caller = authenticate(&table, "h", &credentials(&["ann"]), NOW)
        .expect("known")
        .caller;
    let headers = HeaderMap::new();
    let permit = admit(&table, &caller, &ask(&headers, model)).expect("admitted");
    let facts = permit.facts(&caller, Some(model));
    let limit = permit.limits(facts).next()?;
    Some(limit.subject_text(&facts))
}

fn fixed(deployment: &str, priority: u8, weight: u32) -> Target {
    Target {
        deployment: Some(deployment.into()),
        priority,
        weight,
        ..target("eu")
    }
}

#[test]
fn quotas_match_and_count_the_model_as_it_is_deployed() {
    let mini = Some("model=gpt-4o-mini".to_owned());
    // A rule that names the deployment: whatever the client calls it.
    for name in ["gpt-0", "gpt-49", "GPT-4o-mini", "gpt-4o-mini ", "mini-ptu"] {
        let targets = || vec![fixed("mini-ptu", 0, 1)];
        assert_eq!(counted(targets(), &[], name), mini, "{name}");
        assert_eq!(counted(targets(), &["gpt-4o-mini"], name), mini, "{name}");
        assert_eq!(counted(targets(), &["o3"], name), None, "{name}");
    }
    // One that does not: by the deployment's name or its model.
    for name in ["mini-ptu", "gpt-4o-mini"] {
        assert_eq!(counted(vec![target("eu")], &["gpt-4o-mini"], name), mini);
    }
    // As the client named it, too.
    assert_eq!(counted(vec![target("eu")], &["mini-*"], "mini-ptu"), mini);
    assert_eq!(counted(vec![fixed("gpt-4o", 0, 1)], &["x"], "gpt-4o"), None);
    // Names without a deployment make no counters of their own.
    let nothing = Some("model=".to_owned());
    assert_eq!(counted(vec![target("eu")], &[], "gpt-9"), nothing);
}

#[test]
fn of_several_targets_the_first_of_the_first_tier_is_the_deployed_model() {
    let spill = vec![fixed("gpt-4o", 1, 1), fixed("mini-ptu", 0, 1)];
    assert_eq!(
        counted(spill, &[], "m").as_deref(),
        Some("model=gpt-4o-mini")
    );
    let unused = vec![fixed("gpt-4o", 0, 0), fixed("mini-ptu", 1, 1)];
    assert_eq!(
        counted(unused, &[], "m").as_deref(),
        Some("model=gpt-4o-mini")
    );
    let in_order = vec![fixed("gpt-4o", 0, 1), fixed("mini-ptu", 0, 9)];
    assert_eq!(counted(in_order, &[], "m").as_deref(), Some("model=gpt-4o"));
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
        let caller = authenticate(&table, "h", &credentials(&["ann"]), NOW)
            .expect("known")
            .caller;
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
        let caller = authenticate(&table, "h", &credentials(&[key]), NOW)
            .expect("known")
            .caller;
        let operations = [Operation::ChatCompletions];
        let models = models(&table, &caller, "h", &headers, &operations).into_iter();
        models
            .map(|one| format!("{} is {}", one.name, one.model))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        listed("ann"),
        ["gpt-4o is gpt-4o", "gpt-4o-mini is gpt-4o-mini"]
    );
    assert!(listed("bob").is_empty());
}

// === namespaces ===

/// A route of `namespace` for the models of `pattern`, to the backend of the namespace `ns`.
fn route_of(name: &str, pattern: &str, authentication: Authentication) -> Route {
    Route {
        name: object(name),
        authentication,
        ..route(name, 0, pattern)
    }
}

fn keys(secrets: &[&str]) -> Authentication {
    let mut keys: Vec<_> = secrets.iter().map(|one| object(one)).collect();
    keys.sort();
    Authentication {
        keys: keys.into(),
        ..Authentication::default()
    }
}

const ANONYMOUS: Authentication = Authentication {
    keys: Secrets::NONE,
    issuers: Vec::new(),
    anonymous: true,
    pass_through: false,
    unreadable: false,
};

const PASS_THROUGH: Authentication = Authentication {
    anonymous: false,
    pass_through: true,
    keys: Secrets::NONE,
    issuers: Vec::new(),
    unreadable: false,
};

/// The consumers `a/ann`, `a/bob` and `b/eve`, whose keys are their names.
fn shared_host(routes: Vec<Route>) -> Table {
    let keys = ["a/ann", "a/bob", "b/eve"].map(key).to_vec();
    Table::new(Contents::new(vec![backend()], routes, Vec::new(), keys))
}

#[test]
fn a_specific_route_for_one_team_is_not_bypassed_by_a_broad_one_for_all() {
    let table = shared_host(vec![
        route_of("a/broad", "*", keys(&["a/ann", "a/bob"])),
        route_of("a/specific", "gpt-4o", keys(&["a/bob"])),
    ]);
    assert_eq!(decide(&table, Some("bob"), "gpt-4o"), Ok("specific".into()));
    assert_eq!(decide(&table, Some("ann"), "gpt-4o"), Err(Code::Forbidden));
    assert_eq!(decide(&table, Some("ann"), "other"), Ok("broad".into()));
}

#[test]
fn the_same_holds_for_callers_without_a_key() {
    let table = shared_host(vec![
        route_of("a/broad", "*", ANONYMOUS),
        route_of("a/specific", "gpt-4o", keys(&["a/bob"])),
    ]);
    let denied = Err(Code::MissingCredential);
    assert_eq!(decide(&table, None, "gpt-4o"), denied);
    assert_eq!(decide(&table, None, "other"), Ok("broad".into()));
    let denied = Err(Code::InvalidCredential);
    assert_eq!(decide(&table, Some("?"), "gpt-4o"), denied);
}

#[test]
fn a_route_of_unreadable_authentication_holds_its_models_and_says_so_to_its_namespace() {
    let mut unreadable = route_of("a/unreadable", "gpt-4o", Authentication::default());
    unreadable.authentication.unreadable = true;
    unreadable.rejected = Some("it cannot be read".into());
    let rejected = Err(Code::RouteRejected);
    for broad in [keys(&["a/ann"]), ANONYMOUS, PASS_THROUGH] {
        let table = shared_host(vec![
            route_of("a/broad", "*", broad.clone()),
            unreadable.clone(),
        ]);
        let knows = !broad.pass_through;
        assert_eq!(decide(&table, Some("ann"), "gpt-4o"), rejected);
        assert_eq!(decide(&table, Some("ann"), "other").is_ok(), knows);
        for stranger in [None, Some("?")] {
            assert!(decide(&table, stranger, "gpt-4o").is_err());
        }
        // It is no consumer of the namespace, so it learns nothing of the routes there.
        assert_eq!(decide(&table, Some("eve"), "gpt-4o"), Err(Code::Forbidden));
    }
    // Alone on its host it still answers for its namespace.
    let table = shared_host(vec![unreadable]);
    assert_eq!(decide(&table, Some("ann"), "gpt-4o"), rejected);
    assert_eq!(decide(&table, Some("eve"), "gpt-4o"), Err(Code::Forbidden));
    assert_eq!(decide(&table, Some("ann"), "o"), Err(Code::ModelNotFound));
}

#[test]
fn no_route_takes_the_callers_of_another_namespace() {
    // Rejected, with its own keys, for everybody: more specific and older in every way.
    for evil in [keys(&["b/eve"]), ANONYMOUS, PASS_THROUGH] {
        let mut specific = route_of("b/evil", "gpt-4o", evil.clone());
        specific.created_s = -1;
        for rejected in [None, Some("in error".into())] {
            specific.rejected = rejected;
            let mut table = vec![route_of("a/chat", "gpt-*", keys(&["a/ann"]))];
            table.push(specific.clone());
            let table = shared_host(table);
            assert_eq!(decide(&table, Some("ann"), "gpt-4o"), Ok("chat".into()));
            assert_eq!(decide(&table, Some("ann"), "o"), Err(Code::ModelNotFound));
        }
    }
    // Both serve the same models of the same host, each its own callers.
    let table = shared_host(vec![
        route_of("a/chat", "*", keys(&["a/ann"])),
        route_of("b/talk", "*", keys(&["b/eve"])),
    ]);
    assert_eq!(decide(&table, Some("ann"), "m"), Ok("chat".into()));
    assert_eq!(decide(&table, Some("eve"), "m"), Ok("talk".into()));
    assert_eq!(decide(&table, Some("bob"), "m"), Err(Code::Forbidden));
}

#[test]
fn a_key_is_never_passed_through() {
    let both = Authentication {
        pass_through: true,
        ..keys(&["a/ann"])
    };
    let table = shared_host(vec![route_of("a/pass", "*", both)]);
    for known in ["ann", "bob", "eve"] {
        assert_eq!(decide(&table, Some(known), "m"), Err(Code::Forbidden));
    }
    assert_eq!(decide(&table, Some("foundry-key"), "m"), Ok("pass".into()));
}

#[test]
fn a_consumer_may_call_where_everybody_may() {
    let table = shared_host(vec![route_of("a/open", "*", ANONYMOUS)]);
    assert_eq!(decide(&table, Some("eve"), "m"), Ok("open".into()));
    assert_eq!(decide(&table, Some("ann"), "m"), Ok("open".into()));
}

#[test]
fn names_and_attributes_of_a_rule_mean_consumers_of_its_namespace() {
    let mut vip = route_of("a/vip", "gpt-4o", ANONYMOUS);
    let rule = Arc::make_mut(&mut vip.rules[0]);
    rule.matches[0].consumers.names = vec![consumer("a/vip")];
    let mut team = route_of("a/team", "gpt-4o", ANONYMOUS);
    let rule = Arc::make_mut(&mut team.rules[0]);
    rule.matches[0].consumers.attributes = vec![("team".into(), "search".into())];
    let both = |namespace: &str| {
        let named = key(&format!("{namespace}/vip"));
        let mut labelled = key(&format!("{namespace}/labelled"));
        labelled.attributes = vec![("team".into(), "search".into())];
        vec![labelled, named]
    };
    let decide = |namespace: &str, key: &str| {
        let broad = route_of("a/broad", "*", ANONYMOUS);
        let routes = vec![broad, team.clone(), vip.clone()];
        let contents = Contents::new(vec![backend()], routes, Vec::new(), both(namespace));
        decide(&Table::new(contents), Some(key), "gpt-4o")
    };
    assert_eq!(decide("a", "vip"), Ok("vip".into()));
    assert_eq!(decide("b", "vip"), Ok("broad".into()));
    assert_eq!(decide("a", "labelled"), Ok("team".into()));
    assert_eq!(decide("b", "labelled"), Ok("broad".into()));
}

/// The route that serves a request without a model, by a rule that is as `reaches`.
fn decide_without_model(
    table: &Table,
    credential: Option<&str>,
    reaches: impl Fn(usize) -> bool,
) -> Result<Option<String>, Code> {
    let headers = HeaderMap::new();
    let caller = authenticate(table, "h", &credentials(credential.as_slice()), NOW)
        .map(|one| one.caller)
        .map_err(|denial| denial.code)?;
    let ask = Ask {
        model: None,
        ..ask(&headers, "")
    };
    admit_for_some_model(table, &caller, &ask, reaches)
        .map(|permit| permit.map(|permit| permit.route.name.name().to_owned()))
        .map_err(|denial| denial.code)
}

#[test]
fn without_a_model_the_first_rule_counts_that_reaches_what_is_asked_for() {
    let mut other = route("other", 2, "gpt-*");
    other.authentication.keys = vec![object("bob")].into();
    let mut open = route("open", 3, "*");
    open.authentication = Authentication {
        anonymous: true,
        ..Authentication::default()
    };
    let routes = vec![
        route("one", 0, "gpt-4o"),
        route("two", 1, "mini-*"),
        other,
        open,
    ];
    let table = table(routes);
    let decide = |credential, rule: Option<usize>| {
        let reaches = |index| rule.is_none_or(|rule| index == rule);
        decide_without_model(&table, credential, reaches).expect("no refusal")
    };
    assert_eq!(decide(Some("ann"), None).as_deref(), Some("one"));
    assert_eq!(decide(Some("ann"), Some(1)).as_deref(), Some("two"));
    assert_eq!(decide(Some("ann"), Some(2)), None, "it is another's");
    assert_eq!(decide(Some("bob"), Some(2)).as_deref(), Some("other"));
    assert_eq!(decide(Some("bob"), Some(0)), None);
    assert_eq!(decide(None, None).as_deref(), Some("open"));
    assert_eq!(decide(None, Some(0)), None);
    assert_eq!(decide(Some("unknown"), None).as_deref(), Some("open"));
}

#[test]
fn without_a_model_a_rejected_route_serves_nothing() {
    let mut rejected = route("rejected", 0, "gpt-4o");
    rejected.rejected = Some("broken".into());
    let table = table(vec![rejected, route("two", 1, "gpt-4o")]);
    assert_eq!(
        decide_without_model(&table, Some("ann"), |_| true),
        Err(Code::RouteRejected)
    );
}
