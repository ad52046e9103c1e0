use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendAuth, BackendKind, Contents, Deployment, Retry, Route, Rule, Table, Target};
use crate::names::{ObjectName, Secret};
use crate::tokens::Price;

fn backend(auth: BackendAuth) -> Backend {
    let deployment = |name: &str, model: &str| Deployment {
        name: name.into(),
        model: model.into(),
        price: Price::default(),
    };
    Backend {
        name: ObjectName::new("ns", "b"),
        kind: BackendKind::Foundry,
        endpoint: "https://b.example".into(),
        api_version: None,
        auth,
        deployments: vec![
            deployment("ptu", "gpt-4o"),
            deployment("gpt-4o", "gpt-4o-2024"),
        ],
        ca: None,
        server_name: None,
        connect_timeout: Duration::ZERO,
        first_byte_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
    }
}

fn route(deployment: Option<&str>) -> Route {
    Route {
        name: ObjectName::new("ns", "r"),
        created_s: 0,
        hostnames: Vec::new(),
        authentication: super::Authentication::default(),
        rejected: None,
        rules: vec![Arc::new(Rule {
            name: "rule".into(),
            matches: Vec::new(),
            targets: vec![Target {
                backend: ObjectName::new("ns", "b"),
                deployment: deployment.map(Into::into),
                weight: 1,
                priority: 0,
            }],
            retry: Retry::default(),
            request_timeout: None,
            first_token_timeout: None,
        })],
    }
}

fn check(declared: Option<&str>, model: &str, expect: Option<&str>) {
    let backends = vec![backend(BackendAuth::None)];
    let contents = Contents::new(backends, vec![route(declared)], Vec::new(), Vec::new());
    let table = Table::new(contents);
    let endpoint = table.rules()[0].targets[0].endpoint(model);
    assert_eq!(endpoint.map(|one| &*one.deployment.name), expect);
}

#[test]
fn a_deployment_is_the_declared_one_or_the_namesake_or_the_first_of_the_model() {
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
