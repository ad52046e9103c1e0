use operator_compile::Tenants;

use super::{Config, Timing};

fn config(watched: &[&str]) -> Config {
    Config {
        own_namespace: "gateway".to_owned(),
        host_grants: Vec::new(),
        identity_grants: operator_compile::IdentityGrants::Namespaces(Vec::new()),
        reach: proxy_core::reach::Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        watch_namespaces: watched.iter().map(|one| (*one).to_owned()).collect(),
        identity: "a".to_owned(),
        lease: Timing::KUBERNETES,
        proxy_pods: None,
        checkpoint: "kept".to_owned(),
        snapshot: None,
    }
}

#[test]
fn the_own_namespace_is_always_watched_and_no_namespace_twice() {
    assert_eq!(config(&[]).scopes(), [None]);
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        config(&["b", "a", "b"]).scopes(),
        [some("a"), some("b"), some("gateway")]
    );
    assert_eq!(config(&["gateway"]).scopes(), [some("gateway")]);
}

#[test]
fn namespaces_could_claim_callers_of_each_other_as_soon_as_two_are_watched() {
    let tenants = |watched: &[&str]| config(watched).settings().tenants;
    assert_eq!(tenants(&[]), Tenants::Many);
    assert_eq!(tenants(&["gateway"]), Tenants::One);
    assert_eq!(tenants(&["a", "gateway", "a"]), Tenants::One);
    assert_eq!(tenants(&["a", "b"]), Tenants::Many);
}
