//! An issuer for tests, as a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use proxy_admin::{clock, task};
use proxy_core::auth::Source;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::signer::claims;

/// An issuer on loopback, whose answers a test changes.
pub(super) struct Loopback {
    pub(super) url: String,
    pub(super) keys: Arc<Mutex<Value>>,
    pub(super) description: Arc<Mutex<Value>>,
    /// Requests for keys.
    pub(super) asked: Arc<AtomicUsize>,
    /// The heads of all requests.
    pub(super) heads: Arc<Mutex<Vec<String>>>,
}

impl Loopback {
    pub(super) async fn start(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tenant", listener.local_addr().unwrap());
        let issuer = Self {
            keys: Arc::new(Mutex::new(keys)),
            description: Arc::new(Mutex::new(
                json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/keys?p=1")}),
            )),
            asked: Arc::default(),
            heads: Arc::default(),
            url,
        };
        let (keys, description) = (Arc::clone(&issuer.keys), Arc::clone(&issuer.description));
        let (asked, heads) = (Arc::clone(&issuer.asked), Arc::clone(&issuer.heads));
        task::spawn("issuer", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                heads.lock().push(head.clone());
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

    /// As a route lists it.
    pub(super) fn source(&self) -> Source {
        Source {
            issuer: self.url.as_str().into(),
            jwks_uri: None,
        }
    }
}

/// Claims that are good now.
pub(super) fn current() -> Value {
    let now = clock::now().unix_ms / 1_000;
    let mut claims = claims();
    claims["exp"] = json!(now + 3600);
    claims["nbf"] = json!(now);
    claims
}
