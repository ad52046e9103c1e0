mod incremental;

use super::{Backend, BackendAuth, Contents, Quota, QuotaFacts, Scope, Table};
use crate::auth::Caller;
use crate::names::Secret;
use crate::quota::{Per, Unit};
use crate::test_util::{self, deployment, key, limit, route, rule, target};

fn backend(auth: BackendAuth) -> Backend {
    Backend {
        auth,
        deployments: vec![
            deployment("ptu", "gpt-4o"),
            deployment("gpt-4o", "gpt-4o-2024"),
        ],
        ..test_util::backend("b")
    }
}

fn check(declared: Option<&str>, model: &str, expect: Option<&str>) {
    let mut target = target("b");
    target.deployment = declared.map(Into::into);
    let contents = Contents::new(
        vec![backend(BackendAuth::None)],
        vec![route("r", vec![rule("rule", vec![target])])],
        Vec::new(),
        Vec::new(),
    );
    let table = Table::new(contents);
    let endpoint = table.rules()[0].targets[0].endpoint(model);
    assert_eq!(endpoint.map(|one| &*one.deployment.name), expect);
}

#[test]
fn a_target_uses_its_deployment_or_the_namesake_or_the_first_of_the_model() {
    check(Some("ptu"), "anything", Some("ptu"));
    check(Some("gone"), "gpt-4o", None);
    check(None, "gpt-4o", Some("gpt-4o"));
    check(None, "gpt-4o-2024", Some("gpt-4o"));
    check(None, "claude", None);
}

#[test]
fn what_one_namespace_labels_spends_nothing_of_another() {
    let quota = Quota {
        per: vec![Per::Attribute],
        attribute: "team".into(),
        ..test_util::quota("q", vec![limit("l", Unit::Requests, 1)])
    };
    let contents = Contents::new(Vec::new(), Vec::new(), vec![quota], Vec::new());
    let table = Table::new(contents);
    let route = route("r", Vec::new());
    let subject = |secret: &str, team: Option<&str>| {
        let mut key = key(secret);
        key.attributes = team
            .map(|team| ("team".into(), team.into()))
            .into_iter()
            .collect();
        let (caller, limit) = (Caller::of(&key), &table.limits()[0]);
        let facts = QuotaFacts {
            caller: &caller,
            route: &route,
            model: None,
            deployed_model: None,
        };
        (limit.subject_key(&facts), limit.subject_text(&facts))
    };
    let search = subject("a/ann", Some("search"));
    assert_eq!(search.1, "team=a/search");
    assert_eq!(subject("a/bob", Some("search")), search);
    assert_ne!(subject("b/eve", Some("search")).0, search.0);
    // Those without the attribute share one counter, as before.
    assert_eq!(subject("b/eve", None), subject("a/ann", None));
}

#[test]
fn a_platforms_quota_covers_chosen_namespaces_with_a_counter_for_each() {
    let quota = Quota {
        scope: Scope::Namespaces(vec!["a".into(), "b".into()]),
        per: vec![Per::Namespace, Per::Consumer],
        ..test_util::quota("q", vec![limit("l", Unit::Requests, 1)])
    };
    let routes = ["a/r", "b/r", "c/r"].map(|name| route(name, vec![rule("rule", Vec::new())]));
    let contents = Contents::new(Vec::new(), routes.to_vec(), vec![quota], Vec::new());
    let table = Table::new(contents);
    let caller = Caller::anonymous();
    let subjects = table.rules().iter().map(|flat| {
        let limits = flat.limits.iter();
        let facts = QuotaFacts {
            caller: &caller,
            route: &flat.route,
            model: None,
            deployed_model: None,
        };
        let each = limits.map(move |limit| limit.subject_text(&facts));
        each.collect::<Vec<_>>()
    });
    let subjects: Vec<_> = subjects.collect();
    let of = |namespace| vec![format!("namespace={namespace} consumer=anonymous")];
    assert_eq!(subjects, [of("a"), of("b"), Vec::new()]);
}

#[test]
fn no_debug_output_shows_a_backends_key() {
    let shown = format!("{:?}", backend(BackendAuth::ApiKey(Secret::new("s3cret"))));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_process_that_panics_with_its_table_shows_no_key() {
    const PANICS: &str = "TUNDISH_TEST_PANICS";
    if std::env::var_os(PANICS).is_some() {
        let backends = vec![backend(BackendAuth::ApiKey(Secret::new("s3cret")))];
        let contents = Contents::new(backends, Vec::new(), Vec::new(), Vec::new());
        panic!("the child ends here: {:?}", Table::new(contents));
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"));
    let name = "table::tests::a_process_that_panics_with_its_table_shows_no_key";
    child.args(["--exact", name, "--nocapture"]);
    child.env(PANICS, "1").env("RUST_BACKTRACE", "full");
    let output = child.output().expect("it starts");
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("the child ends here: Table"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}
