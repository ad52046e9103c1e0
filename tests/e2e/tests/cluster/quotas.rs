//! A quota over two replicas without a store: each enforces its half, and the sum is never exceeded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::http::Connection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT, chat};
use crate::load::PATH;

/// Requests that are allowed in a minute.
const LIMIT_OF_QUOTA: u64 = 2_000;

/// Requests that are made.
const CALLS: u64 = 10_000;

/// Kept connections to each replica.
const CONNECTIONS: usize = 64;

const QUOTA: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: two-thousand}
spec:
  targetRefs: [{name: chat}]
  limits: [{name: minute, unit: Requests, limit: 2000, window: Minute}]
";

#[tokio::test]
async fn ten_thousand_concurrent_calls_over_two_replicas_never_exceed_the_quota() -> Result<()> {
    let (installation, _operator, proxies) =
        Installation::start("quota", &["--record", "0"]).await?;
    installation.apply(&format!("{GOOD}---{QUOTA}")).await?;
    for object in ["air/chat", "aiq/two-thousand"] {
        installation.wait(object, "condition=Ready").await?;
    }
    let [admitted, refused] = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for proxy in &proxies {
        // Each replica gets its half of the calls.
        let open = Arc::new(AtomicU64::new(CALLS / 2));
        for _ in 0..CONNECTIONS {
            let (url, open) = (proxy.url.clone(), Arc::clone(&open));
            let (admitted, refused) = (Arc::clone(&admitted), Arc::clone(&refused));
            tasks.spawn(async move {
                let mut connection = Connection::open(&url).await?;
                let body = chat("gpt-4o");
                let take = |left: u64| left.checked_sub(1);
                while open
                    .try_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    let asked = connection.post_json(PATH, &[("api-key", ANN)], body.clone());
                    let answer = asked.await?;
                    match answer.status {
                        200 => admitted.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        other => anyhow::bail!("{other}: {}", answer.text()),
                    };
                }
                Ok(())
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("the load")??;
    }
    let took = begun.elapsed();
    let [admitted, refused] = [admitted, refused].map(|count| count.load(Ordering::Relaxed));
    // Else a second window would have begun, and the figures would say nothing.
    ensure!(
        took < Duration::from_secs(55),
        "too slow a machine: {took:?}"
    );
    assert_eq!(admitted + refused, CALLS);
    assert!(admitted <= LIMIT_OF_QUOTA, "{admitted} admitted");
    assert!(
        admitted * 100 >= LIMIT_OF_QUOTA * 97,
        "only {admitted} of {LIMIT_OF_QUOTA} admitted in {took:?}"
    );
    // The other side saw the same.
    assert_eq!(installation.sim.answered().await?, admitted);
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 429, LIMIT).await?;
    }
    Ok(())
}
