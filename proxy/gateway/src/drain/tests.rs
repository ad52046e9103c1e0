use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use http::HeaderValue;
use prometheus_client::registry::Registry;
use proxy_admin::clock;

use super::quiet;
use crate::exchange::Exchange;
use crate::state::Core;
use crate::test_support::gateway;

fn core() -> Arc<Core> {
    let gateway = gateway(&mut Registry::default());
    Arc::new(Core::new(Arc::clone(gateway.shared())))
}

#[tokio::test]
async fn a_drain_waits_for_an_exchange_without_a_connection() {
    let core = core();
    let exchange = Exchange::begin(&core, HeaderValue::from_static("id"), clock::instant());
    let waits = tokio::time::timeout(Duration::from_millis(100), quiet(&core));
    assert!(waits.await.is_err());
    drop(exchange);
    assert!(quiet(&core).now_or_never().is_some());
}

#[tokio::test]
async fn a_drain_waits_only_shortly_for_an_idle_connection() {
    let core = core();
    core.clients.fetch_add(1, Ordering::Relaxed);
    let waits = tokio::time::timeout(Duration::from_millis(100), quiet(&core));
    assert!(waits.await.is_err(), "its last bytes may not be written");
    let waits = tokio::time::timeout(Duration::from_secs(10), quiet(&core));
    assert!(waits.await.is_ok(), "it carries no exchange");
}
