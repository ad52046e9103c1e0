use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use operator_compile::{Kind, Object};
use proxy_admin::shutdown::{self, Shutdown};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Observed, Update, Watches};
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
            "/apis/tundish.dev" => json!({"name": "tundish.dev", "versions": []}),
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

fn watches(
    scenario: &Scenario,
    scopes: Vec<Scope>,
    updates: mpsc::Sender<Update>,
    shutdown: Shutdown,
) -> Watches {
    Watches {
        client: scenario.client(),
        scopes,
        updates,
        metrics: metrics(),
        health: Health::default(),
        shutdown,
    }
}

async fn updates(scenario: &Scenario, scopes: Vec<Scope>, count: usize) -> Vec<Update> {
    let (sender, mut receiver) = mpsc::channel(16);
    let (_trigger, shutdown) = shutdown::channel();
    watches(scenario, scopes, sender, shutdown).start();
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
            | Update::Reread(_)
            | Update::Unreadable { .. }
            | Update::Gateways { .. }
            | Update::Epoch { .. }
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

/// A Secret with the entries `key`, `used` and `bulk`, at a version.
fn secret(version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "mixed", "namespace": "team", "resourceVersion": version},
        "data": {"key": "a2V5", "used": "dXNlZA==", "bulk": "YnVsaw=="},
    })
}

/// An AIBackend that takes its key from this entry.
fn backend(version: &str, entry: &str) -> Value {
    json!({
        "apiVersion": "tundish.dev/v1alpha1", "kind": "AIBackend",
        "metadata": {"name": "foundry", "namespace": "team", "resourceVersion": version},
        "spec": {
            "type": "Foundry", "endpoint": "https://contoso.services.ai.azure.com",
            "auth": {"type": "APIKey", "apiKey": {"secretRef": {"name": "mixed", "key": entry}}},
            "deployments": [{"name": "gpt-4o"}],
        },
    })
}

fn entries(secret: &Observed) -> Vec<String> {
    let Object::Secret(secret) = &secret.content else {
        panic!("{secret:?} is no Secret")
    };
    secret
        .data
        .iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

/// Entries of the Secret, as they are reported while the AIBackend's reference changes from `used` to `bulk`, until
/// `bulk` is there. `read` is the answer to a request for the Secret by itself.
async fn reported(read: StatusCode) -> Vec<(&'static str, Vec<String>)> {
    // The reference changes when Secrets were listed without it.
    let is_listed = AtomicBool::new(false);
    let scenario = Scenario::default().rule(move |call| {
        let is_watch = call.query.contains("watch=true");
        if call.path.ends_with("/secrets") && call.query.contains("limit=16") {
            is_listed.store(true, Ordering::Relaxed);
        }
        let page = match (call.path.as_str(), is_watch) {
            (path, false) if path.ends_with("/secrets") => list(call, &[secret("80")]),
            (path, false) if path.ends_with("/aibackends") => list(call, &[backend("81", "used")]),
            (path, true) if path.ends_with("/aibackends") && is_listed.load(Ordering::Relaxed) => {
                json!({"type": "MODIFIED", "object": backend("96", "bulk")})
            }
            ("/api/v1/namespaces/team/secrets/mixed", _) if read == StatusCode::OK => secret("80"),
            ("/api/v1/namespaces/team/secrets/mixed", _) => return Some(refusal(read, "Refused")),
            (_, true) | ("/apis/gateway.networking.k8s.io", _) => {
                return Some(refusal(StatusCode::TOO_MANY_REQUESTS, "Busy"));
            }
            _ => list(call, &[]),
        };
        Some((StatusCode::OK, page))
    });
    let (sender, mut receiver) = mpsc::channel(16);
    let (_trigger, shutdown) = shutdown::channel();
    watches(&scenario, vec![None], sender, shutdown).start();
    let mut reported = Vec::new();
    loop {
        let update = tokio::time::timeout(LIMIT, receiver.recv()).await;
        let update = update.expect("in time").expect("the watches run");
        if let Update::Listed {
            kind: Kind::Secret,
            objects,
            ..
        } = &update
        {
            reported.extend(objects.iter().map(|one| ("listed", entries(one))));
        }
        if let Update::Reread(secret) = &update {
            reported.push(("read again", entries(secret)));
        }
        if let Update::Applied(backend) = &update {
            reported.push((backend.object.kind.as_str(), Vec::new()));
        }
        let is_there = |(_, entries): &(_, Vec<String>)| entries.iter().any(|one| one == "bulk");
        let is_applied = reported.iter().any(|(what, _)| *what == "AIBackend");
        if is_applied && reported.iter().any(is_there) {
            return reported;
        }
    }
}

#[tokio::test]
async fn a_secret_is_read_again_before_an_ai_backend_that_needs_more_of_it() {
    let reported = reported(StatusCode::OK).await;
    let place = |wanted: &str| reported.iter().position(|(what, _)| *what == wanted);
    let again = place("read again").expect("it was read again");
    assert!(
        again < place("AIBackend").expect("it was reported"),
        "{reported:?}"
    );
    assert_eq!(reported[again].1, ["bulk", "key"]);
}

#[tokio::test]
async fn secrets_are_listed_again_if_one_cannot_be_read() {
    let reported = reported(StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(
        reported.iter().all(|(what, _)| *what != "read again"),
        "{reported:?}"
    );
}
