use super::{Backend, BackendAuth, Contents, Table};
use crate::names::Secret;
use crate::test_util::{self, deployment, route, rule, target};

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
fn no_debug_output_shows_a_backends_key() {
    let shown = format!("{:?}", backend(BackendAuth::ApiKey(Secret::new("s3cret"))));
    assert!(!shown.contains("s3cret"), "{shown}");
}
