use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::{clock, task};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::signer::{Signer, claims, expectation};
use super::super::token::{Expectation, Rejected};
use super::{KeySource, Keys};

const SOON: Duration = Duration::from_secs(10);

/// An issuer on loopback, whose answers a test changes.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    description: Arc<Mutex<Value>>,
    /// Requests for keys.
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tenant", listener.local_addr().unwrap());
        let issuer = Self {
            keys: Arc::new(Mutex::new(keys)),
            description: Arc::new(Mutex::new(
                json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/keys?p=1")}),
            )),
            asked: Arc::default(),
            url,
        };
        let (keys, description) = (Arc::clone(&issuer.keys), Arc::clone(&issuer.description));
        let asked = Arc::clone(&issuer.asked);
        task::spawn("issuer", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let body = if head.starts_with("GET /tenant/keys?p=1 ") {
                    asked.fetch_add(1, Ordering::Relaxed);
                    keys.lock().clone()
                } else {
                    assert!(head.starts_with("GET /tenant/.well-known/openid-configuration "));
                    description.lock().clone()
                };
                let status = if body.is_null() { "503 Away" } else { "200 OK" };
                let body = body.to_string();
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        issuer
    }

    fn follow(&self, unknown_after: Duration) -> (Arc<Keys>, Trigger) {
        let source = KeySource::Discovery(self.url.parse().unwrap());
        let keys = Arc::new(Keys {
            unknown_after,
            ..Keys::new(source)
        });
        let (trigger, shutdown) = shutdown::channel();
        let running = Arc::clone(&keys);
        task::spawn("keys", async move { running.run(shutdown).await });
        (keys, trigger)
    }
}

/// Claims that are good now.
fn current() -> Value {
    let now = clock::now().unix_ms / 1_000;
    let mut claims = claims();
    claims["exp"] = json!(now + 3600);
    claims["nbf"] = json!(now);
    claims
}

async fn judge(keys: &Keys, token: &str) -> Result<(), Rejected> {
    let until = clock::instant() + SOON;
    let judged = keys.judge(token, &expectation(), until).await;
    judged.map(|_claims| ())
}

#[tokio::test]
async fn the_first_token_waits_for_the_keys() {
    let signer = Signer::elliptic("a");
    let issuer = Issuer::start(json!({"keys": [signer.listed()]})).await;
    let (keys, _trigger) = issuer.follow(Duration::from_secs(30));
    assert_eq!(judge(&keys, &signer.sign(&current())).await, Ok(()));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    let nothing = Expectation::default();
    let token = signer.sign(&current());
    let judged = keys.judge(&token, &nothing, clock::instant());
    assert_eq!(judged.await.unwrap_err(), Rejected::Issuer);
}

#[tokio::test]
async fn a_new_key_is_found_and_made_up_names_cost_one_fetch() {
    let (first, second) = (Signer::elliptic("a"), Signer::elliptic("b"));
    let issuer = Issuer::start(json!({"keys": [first.listed()]})).await;
    let wait = Duration::from_millis(400);
    let (keys, _trigger) = issuer.follow(wait);
    assert_eq!(judge(&keys, &first.sign(&current())).await, Ok(()));
    *issuer.keys.lock() = json!({"keys": [first.listed(), second.listed()]});
    // Too soon after the last fetch: no wait, and no other fetch.
    let unknown = judge(&keys, &second.sign(&current())).await;
    assert_eq!(unknown, Err(Rejected::UnknownKey));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep(wait + Duration::from_millis(100)).await;
    let mut judging = tokio::task::JoinSet::new();
    for number in 0..50 {
        let token = if number % 2 == 0 {
            second.sign(&current())
        } else {
            Signer::elliptic("made-up").sign(&current())
        };
        let keys = Arc::clone(&keys);
        judging.spawn(async move { (number % 2 == 0, judge(&keys, &token).await) });
    }
    for (is_good, judged) in judging.join_all().await {
        assert_eq!(judged.is_ok(), is_good, "{judged:?}");
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_last_good_keys_outlive_their_issuer() {
    let signer = Signer::elliptic("a");
    let issuer = Issuer::start(json!({"keys": [signer.listed()]})).await;
    let (keys, _trigger) = issuer.follow(Duration::ZERO);
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
    let issuer = Issuer::start(json!({"keys": [signer.listed()]})).await;
    let uri = format!("{}/keys?p=1", issuer.url);
    for description in [
        json!({"issuer": "https://other.example", "jwks_uri": uri}),
        json!({"jwks_uri": uri}),
        json!({"issuer": issuer.url, "jwks_uri": "http://other.example/keys"}),
        json!({"issuer": issuer.url}),
    ] {
        *issuer.description.lock() = description;
        let (keys, _trigger) = issuer.follow(Duration::from_secs(30));
        let judged = judge(&keys, &signer.sign(&current())).await;
        assert_eq!(judged, Err(Rejected::UnknownKey));
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 0);
}
