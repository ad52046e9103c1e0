use http::StatusCode;
use operator_compile::Kind;
use proxy_admin::shutdown;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Update, Watches};
use crate::config::Scope;
use crate::health::Health;
use crate::scenario::{Call, LIMIT, Scenario, metrics, refusal};

/// An API server with one route, whose collection is at version 90. Watches never end.
fn cluster(grants: bool) -> Scenario {
    Scenario::default().hanging_watches().rule(move |call| {
        let page = match call.path.as_str() {
            "/apis/gateway.networking.k8s.io" if !grants => {
                return Some(refusal(StatusCode::NOT_FOUND, "NotFound"));
            }
            "/apis/gateway.networking.k8s.io" => group(),
            "/apis/gateway.networking.k8s.io/v1beta1" => json!({
                "kind": "APIResourceList", "groupVersion": "gateway.networking.k8s.io/v1beta1",
                "resources": [{"name": "referencegrants", "kind": "ReferenceGrant",
                    "namespaced": true, "singularName": "", "verbs": ["list"]}],
            }),
            path if path.ends_with("/airoutes") => list(
                call,
                &[json!({
                    "apiVersion": "tundish.dev/v1alpha1", "kind": "AIRoute",
                    "metadata": {"name": "chat", "namespace": "team", "resourceVersion": "70"},
                    "spec": {"rules": [{"name": "chat", "backendRefs": [{"name": "foundry"}]}]},
                })],
            ),
            _ => list(call, &[]),
        };
        Some((StatusCode::OK, page))
    })
}

fn group() -> Value {
    let version =
        json!({"groupVersion": "gateway.networking.k8s.io/v1beta1", "version": "v1beta1"});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": "gateway.networking.k8s.io",
        "versions": [version], "preferredVersion": version,
    })
}

/// The first request is for the version only; the listing after it is newer.
fn list(call: &Call, items: &[Value]) -> Value {
    let version = if call.query.contains("limit=1&") || call.query.ends_with("limit=1") {
        "90"
    } else {
        "95"
    };
    json!({
        "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items,
    })
}

async fn updates(scenario: &Scenario, scopes: Vec<Scope>, count: usize) -> Vec<Update> {
    let (sender, mut receiver) = mpsc::channel(16);
    let (_trigger, shutdown) = shutdown::channel();
    let watches = Watches {
        client: scenario.client(),
        scopes,
        updates: sender,
        metrics: metrics(),
        health: Health::default(),
        shutdown,
    };
    watches.start();
    let mut updates = Vec::new();
    while updates.len() < count {
        let update = tokio::time::timeout(LIMIT, receiver.recv()).await;
        updates.push(update.expect("in time").expect("the watches run"));
    }
    updates
}

#[tokio::test]
async fn the_version_of_a_listing_is_not_newer_than_the_listing() {
    let scenario = cluster(true);
    let updates = updates(&scenario, vec![None], 6).await;
    let mut kinds = Vec::new();
    for update in &updates {
        match update {
            Update::Listed {
                kind,
                scope,
                objects,
                version,
            } => {
                assert_eq!((scope, *version), (&None, 90), "{kind}");
                assert_eq!(objects.len(), usize::from(*kind == Kind::AiRoute), "{kind}");
                kinds.push(*kind);
            }
            Update::GrantsServed(served) => assert!(*served),
            Update::Applied(_)
            | Update::Deleted(_)
            | Update::Unreadable { .. }
            | Update::Gateways { .. }
            | Update::Unserved { .. } => {
                panic!("nothing changes here: {update:?}")
            }
        }
    }
    kinds.sort();
    assert_eq!(
        kinds,
        [
            Kind::AiBackend,
            Kind::AiRoute,
            Kind::AiQuota,
            Kind::Secret,
            Kind::ReferenceGrant
        ]
    );
}

#[tokio::test]
async fn a_cluster_without_reference_grants_is_reported_and_never_asked_for_them() {
    let scenario = cluster(false);
    let updates = updates(&scenario, vec![None], 5).await;
    assert!(
        updates
            .iter()
            .any(|one| matches!(one, Update::GrantsServed(false)))
    );
    let asked = scenario.calls(&http::Method::GET);
    assert!(
        asked
            .iter()
            .all(|call| !call.path.contains("referencegrants"))
    );
}

#[tokio::test]
async fn helm_releases_are_left_out_and_each_namespace_has_its_own_watch() {
    let scenario = cluster(false);
    let scopes = vec![Some("team".to_owned()), Some("other".to_owned())];
    updates(&scenario, scopes, 9).await;
    let asked = scenario.calls(&http::Method::GET);
    let secrets: Vec<&Call> = asked
        .iter()
        .filter(|call| call.path.ends_with("/secrets") && call.query.contains("fieldSelector"))
        .collect();
    assert!(!secrets.is_empty());
    for call in secrets {
        assert!(call.query.contains("type%21%3Dhelm.sh"), "{}", call.query);
        assert!(
            call.path.starts_with("/api/v1/namespaces/"),
            "{}",
            call.path
        );
    }
}
