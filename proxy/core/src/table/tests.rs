use std::time::Duration;

use super::{Backend, BackendAuth, BackendKind, Deployment};
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
        ca_pem: None,
        server_name: None,
        connect_timeout: Duration::ZERO,
        first_byte_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
    }
}

fn check(declared: Option<&str>, model: Option<&str>, expect: Option<&str>) {
    let backend = backend(BackendAuth::None);
    assert_eq!(
        backend.deployment(declared, model).map(|d| &*d.name),
        expect
    );
}

#[test]
fn a_deployment_is_the_declared_one_or_the_namesake_or_the_first_of_the_model() {
    check(Some("ptu"), Some("anything"), Some("ptu"));
    check(Some("gone"), Some("gpt-4o"), None);
    check(None, Some("gpt-4o"), Some("gpt-4o"));
    check(None, Some("gpt-4o-2024"), Some("gpt-4o"));
    check(None, Some("claude"), None);
    check(None, None, None);
}

#[test]
fn no_debug_output_shows_a_backends_key() {
    let shown = format!("{:?}", backend(BackendAuth::ApiKey(Secret::new("s3cret"))));
    assert!(!shown.contains("s3cret"), "{shown}");
}
