use std::sync::Arc;

use http::Method;
use operator_compile::{Kind, ObjectRef};
use proxy_core::names::ObjectName;
use serde_json::json;

use super::*;
use crate::scenario::{Scenario, metrics};
use crate::stored_status::StoredObject;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/team/leases";

fn claims(scenario: &Scenario, installation: &str) -> Arc<Claims> {
    Arc::new(Claims::new(
        scenario.client(),
        installation,
        Arc::default(),
        metrics(),
    ))
}

fn holder(scenario: &Scenario) -> String {
    let stored = scenario.stored.lock();
    let lease = stored.get(&format!("{LEASES}/{CLAIM}"));
    let holder = lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str());
    holder.unwrap_or_default().to_owned()
}

async fn hold(claims: &Claims) -> bool {
    claims.hold("team").await.expect("the API server answers")
}

#[tokio::test(start_paused = true)]
async fn the_first_installation_holds_a_namespace_and_the_second_does_not() {
    let scenario = Scenario::default().storing(LEASES);
    let (first, second) = (claims(&scenario, "blue"), claims(&scenario, "green"));
    assert!(hold(&first).await);
    assert!(!hold(&second).await);
    assert_eq!(holder(&scenario), "blue");
    // Another replica of the first one.
    assert!(hold(&claims(&scenario, "blue")).await);
    // One that is renewed stays.
    for _ in 0..8 {
        tokio::time::advance(RENEWAL).await;
        first.renew().await;
        second.renew().await;
        assert!(!hold(&second).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_renewed_passes_to_the_other_installation() {
    let scenario = Scenario::default().storing(LEASES);
    let (first, second) = (claims(&scenario, "blue"), claims(&scenario, "green"));
    assert!(hold(&first).await);
    assert!(!hold(&second).await);
    let gained = second.gained();
    tokio::time::advance(LIFE - LOOK).await;
    second.renew().await;
    assert!(!hold(&second).await);
    tokio::time::advance(LOOK).await;
    second.renew().await;
    assert!(hold(&second).await && gained.has_changed().expect("it is open"));
    assert_eq!(holder(&scenario), "green");
    // The first one comes back, and is the second now.
    first.renew().await;
    assert!(!hold(&first).await);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_deleted_is_free() {
    let scenario = Scenario::default().storing(LEASES);
    let (first, second) = (claims(&scenario, "blue"), claims(&scenario, "green"));
    assert!(hold(&first).await);
    assert!(!hold(&second).await);
    scenario.stored.lock().clear();
    second.renew().await;
    assert!(hold(&second).await);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_the_claim_statuses_are_written() {
    let forbidden = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
    });
    let scenario = Scenario::default()
        .rule(move |_call| Some((http::StatusCode::FORBIDDEN, forbidden.clone())));
    let claims = claims(&scenario, "blue");
    assert!(hold(&claims).await && hold(&claims).await);
    assert_eq!(scenario.calls(&Method::GET).len(), 1, "it asks rarely");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_objects_is_claimed_before_a_status_is_due() {
    let scenario = Scenario::default().storing(LEASES);
    let object = ObjectRef::new(Kind::AiRoute, ObjectName::new("team", "chat"));
    let mut stored = StoredObjects::default();
    stored.insert(object, StoredObject::default());
    let stored = Arc::new(SyncMutex::new(stored));
    let claims = Claims::new(scenario.client(), "blue", stored, metrics());
    claims.renew().await;
    assert_eq!(holder(&scenario), "blue");
}
