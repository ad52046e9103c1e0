use http::Method;

use super::{ensure_state_keys, made};
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

#[test]
fn a_key_is_a_line_that_proxies_take_and_another_each_time() {
    let key = || made("gateway").string_data.expect("text")["keys"].clone();
    let one = key();
    assert_eq!(one.lines().count(), 1);
    assert_eq!(one.trim().len(), 64);
    assert_ne!(one, key());
}
