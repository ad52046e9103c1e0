use http::{Method, StatusCode};
use operator_publish::{Denial, Reviewer};
use serde_json::{Value, json};

use super::TokenReviewer;
use crate::scenario::{Scenario, metrics, refusal};

fn reviewer(scenario: &Scenario) -> TokenReviewer {
    TokenReviewer::new(
        scenario.client(),
        "tundish",
        "gateway",
        "tundish-proxy",
        metrics(),
    )
}

/// An API server that answers every review with this status.
fn answering(status: Value) -> Scenario {
    Scenario::default().rule(move |call| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {}, "spec": call.body["spec"], "status": status,
        });
        call.path
            .ends_with("/tokenreviews")
            .then_some((StatusCode::CREATED, review))
    })
}

fn good() -> Value {
    json!({
        "authenticated": true,
        "audiences": ["tundish"],
        "user": {
            "username": "system:serviceaccount:gateway:tundish-proxy",
            "extra": {
                "authentication.kubernetes.io/pod-name": ["proxy-0"],
                "authentication.kubernetes.io/pod-uid": ["0f-1e"],
            },
        },
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut status = good();
    *status.pointer_mut(field).expect("the field is there") = value;
    status
}

#[tokio::test]
async fn a_good_token_names_its_pod() {
    let scenario = answering(good());
    let replica = reviewer(&scenario).review("a-token").await;
    assert_eq!(replica.expect("it is good").as_deref(), Some("0f-1e"));
    let asked = scenario.calls(&Method::POST);
    assert_eq!(
        asked[0].body["spec"],
        json!({"token": "a-token", "audiences": ["tundish"]})
    );
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_names_none() {
    let scenario = answering(with("/user/extra", json!({})));
    let replica = reviewer(&scenario).review("t").await.expect("it is good");
    assert_eq!(replica, None);
}

#[tokio::test]
async fn a_token_that_is_not_authenticated_is_denied() {
    for status in [json!({}), with("/authenticated", json!(false))] {
        let denied = reviewer(&answering(status)).review("t").await;
        assert!(
            matches!(denied, Err(Denial::Unauthenticated(_))),
            "{denied:?}"
        );
    }
}

#[tokio::test]
async fn an_authenticated_token_for_another_audience_is_denied() {
    for audiences in [json!([]), json!(["https://kubernetes.default.svc"])] {
        let status = with("/audiences", audiences);
        let denied = reviewer(&answering(status)).review("t").await;
        assert!(
            matches!(denied, Err(Denial::WrongAudience { .. })),
            "{denied:?}"
        );
    }
}

#[tokio::test]
async fn only_the_exact_service_account_is_accepted() {
    for name in ["tundish-proxy2", "tundish", "TUNDISH-PROXY"] {
        let name = format!("system:serviceaccount:gateway:{name}");
        let status = with("/user/username", json!(name));
        let denied = reviewer(&answering(status)).review("t").await;
        assert!(
            matches!(denied, Err(Denial::WrongAccount { .. })),
            "{denied:?}"
        );
    }
}

#[tokio::test]
async fn an_api_server_that_refuses_to_review_is_not_a_bad_token() {
    let scenario = Scenario::default().rule(|_| Some(refusal(StatusCode::FORBIDDEN, "Forbidden")));
    let denied = reviewer(&scenario).review("t").await;
    assert!(matches!(denied, Err(Denial::Unavailable(_))), "{denied:?}");
}
