use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::registry::Registry;
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::{clock, task};
use serde_json::{Value, json};

use super::super::loopback::{Loopback, current};
use super::super::signer::{Signer, expectation};
use super::super::token::{Expectation, Rejected};
use super::{KeySource, Keys, Outside};
use crate::exchange::Client;
use crate::metrics::Metrics;

const SOON: Duration = Duration::from_secs(10);

fn follow(issuer: &Loopback, unknown_after: Duration) -> (Arc<Keys>, Trigger) {
    let source = issuer.source();
    let outside = Arc::new(Outside {
        client: Client::unbounded(),
        inside: Client::unbounded(),
        api_server: None,
    });
    let fetches = Metrics::register(&mut Registry::default()).fetches_of(&source.issuer);
    let place = KeySource::of(&source).unwrap();
    let keys = Arc::new(Keys {
        unknown_after,
        ..Keys::new(place, outside, None, fetches)
    });
    let (trigger, shutdown) = shutdown::channel();
    let running = Arc::clone(&keys);
    task::spawn("keys", async move { running.run(shutdown).await });
    (keys, trigger)
}

async fn judge(keys: &Keys, token: &str) -> Result<(), Rejected> {
    let until = clock::instant() + SOON;
    let judged = keys.judge(token, &expectation(), until).await;
    judged.map(|_claims| ())
}

#[tokio::test]
async fn the_first_token_waits_for_the_keys() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let (keys, _trigger) = follow(&issuer, Duration::from_secs(30));
    assert_eq!(judge(&keys, &signer.sign(&current())).await, Ok(()));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    let nothing = Expectation {
        issuer: "other".into(),
        audiences: Vec::new(),
    };
    let token = signer.sign(&current());
    let judged = keys.judge(&token, &nothing, clock::instant());
    assert_eq!(judged.await.unwrap_err(), Rejected::Issuer);
}

#[tokio::test]
async fn a_new_key_is_found_and_made_up_names_cost_one_fetch() {
    let (first, second) = (Signer::elliptic("a"), Signer::elliptic("b"));
    let issuer = Loopback::start(json!({"keys": [first.listed()]})).await;
    let wait = Duration::from_millis(400);
    let (keys, _trigger) = follow(&issuer, wait);
    assert_eq!(judge(&keys, &first.sign(&current())).await, Ok(()));
    *issuer.keys.lock() = json!({"keys": [first.listed(), second.listed()]});
    assert_eq!(judge(&keys, &second.sign(&current())).await, Ok(()));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
    // Too soon after that: no wait, and no other fetch.
    let third = Signer::elliptic("c");
    *issuer.keys.lock() = json!({"keys": [first.listed(), second.listed(), third.listed()]});
    let unknown = judge(&keys, &third.sign(&current())).await;
    assert_eq!(unknown, Err(Rejected::UnknownKey));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
    tokio::time::sleep(wait + Duration::from_millis(100)).await;
    let mut judging = tokio::task::JoinSet::new();
    for number in 0..50 {
        let token = if number % 2 == 0 {
            third.sign(&current())
        } else {
            Signer::elliptic("made-up").sign(&current())
        };
        let keys = Arc::clone(&keys);
        judging.spawn(async move { (number % 2 == 0, judge(&keys, &token).await) });
    }
    for (is_good, judged) in judging.join_all().await {
        assert_eq!(judged.is_ok(), is_good, "{judged:?}");
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_last_good_keys_outlive_their_issuer() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let (keys, _trigger) = follow(&issuer, Duration::ZERO);
    assert_eq!(judge(&keys, &signer.sign(&current())).await, Ok(()));
    for broken in [Value::Null, json!({"keys": []}), json!("<html>")] {
        *issuer.keys.lock() = broken;
        let made_up = Signer::elliptic("made-up").sign(&current());
        assert_eq!(judge(&keys, &made_up).await, Err(Rejected::UnknownKey));
        assert_eq!(judge(&keys, &signer.sign(&current())).await, Ok(()));
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn another_issuers_description_or_keys_in_the_clear_are_not_followed() {
    let signer = Signer::elliptic("a");
    let issuer = Loopback::start(json!({"keys": [signer.listed()]})).await;
    let uri = format!("{}/keys?p=1", issuer.url);
    for description in [
        json!({"issuer": "https://other.example", "jwks_uri": uri}),
        json!({"jwks_uri": uri}),
        json!({"issuer": issuer.url, "jwks_uri": "http://other.example/keys"}),
        json!({"issuer": issuer.url}),
    ] {
        *issuer.description.lock() = description;
        let (keys, _trigger) = follow(&issuer, Duration::from_secs(30));
        let judged = judge(&keys, &signer.sign(&current())).await;
        assert_eq!(judged, Err(Rejected::UnknownKey));
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 0);
}
