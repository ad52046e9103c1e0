use http::Method;

use super::{ensure_state_keys, key};
use crate::scenario::Scenario;

const SECRETS: &str = "/api/v1/namespaces/gateway/secrets";

#[tokio::test]
async fn the_first_operator_makes_the_key_and_the_next_leaves_it() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    for _ in 0..2 {
        ensure_state_keys(&client, "gateway")
            .await
            .expect("it is made");
    }
    assert_eq!(scenario.calls(&Method::POST).len(), 1);
}

#[tokio::test]
async fn the_empty_secret_of_the_chart_is_filled_once() {
    let scenario = Scenario::default().storing(SECRETS);
    let client = scenario.client();
    let made_by_chart = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tundish-state-keys", "namespace": "gateway", "resourceVersion": "1"},
    });
    let path = format!("{SECRETS}/tundish-state-keys");
    scenario.stored.lock().insert(path, made_by_chart);
    for _ in 0..2 {
        ensure_state_keys(&client, "gateway")
            .await
            .expect("it is filled");
    }
    assert_eq!(scenario.calls(&Method::POST).len(), 0, "it needs no create");
    assert_eq!(scenario.calls(&Method::PUT).len(), 1);
}

#[test]
fn a_key_is_a_line_that_proxies_take_and_another_each_time() {
    let one = key();
    assert_eq!(one.lines().count(), 1);
    assert_eq!(one.trim().len(), 64);
    assert_ne!(one, key());
}
