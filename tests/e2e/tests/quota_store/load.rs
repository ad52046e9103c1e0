//! Calls to replicas, and what came of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Redis, Replica, Replicas, eventually_ok, http};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Long enough for a debug build beside others; nothing that is measured waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Of the cores: tests with many replicas run alone, so that they measure the gateway and not each
/// other.
static ROOM: Semaphore = Semaphore::const_new(2);

/// For a test with up to three replicas.
pub(crate) async fn light() -> SemaphorePermit<'static> {
    ROOM.acquire().await.expect("never closed")
}

/// For a test that measures, or has more replicas.
pub(crate) async fn alone() -> SemaphorePermit<'static> {
    // All of it.
    ROOM.acquire_many(2).await.expect("never closed")
}

/// A quota for one consumer, which it creates; the key is `NAME-key`.
pub(crate) fn quota(consumer: &str, on_store_loss: &str, limits: &str) -> String {
    format!(
        "
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {{name: {consumer}}}
spec:
  targetRefs: [{{name: chat}}]
  match: {{consumers: {{names: [{consumer}]}}}}
  onStoreLoss: {on_store_loss}
  limits: [{limits}]
---
apiVersion: v1
kind: Secret
metadata: {{name: {consumer}, labels: {{tundish.dev/keys: chat}}}}
stringData: {{key: {consumer}-key}}
---"
    )
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) status: u16,
    pub(crate) tokens: u64,
    pub(crate) body: Value,
    pub(crate) took: Duration,
    /// What a refusal says.
    pub(crate) retry_after: Option<Duration>,
}

/// One chat of `consumer`, with at most this number of output tokens. Where the replica itself has too much to do,
/// it comes again later, as an SDK does.
pub(crate) async fn call(url: &str, consumer: &str, max_tokens: u64) -> Result<Called> {
    loop {
        let called = call_once(url, consumer, max_tokens).await?;
        let code = called.body.pointer("/error/code").and_then(Value::as_str);
        match (code, called.retry_after) {
            (Some("overloaded"), Some(wait)) => sleep(wait).await,
            _ => return Ok(called),
        }
    }
}

async fn call_once(url: &str, consumer: &str, max_tokens: u64) -> Result<Called> {
    let body = json!({
        "model": "gpt-5", "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let key = format!("{consumer}-key");
    let began = Instant::now();
    let answer = http::post_json(url, &[("api-key", &key)], body.to_string()).await?;
    let took = began.elapsed();
    let body: Value = answer.json()?;
    let retry_after = answer
        .header("retry-after-ms")
        .map(str::parse)
        .transpose()?;
    Ok(Called {
        retry_after: retry_after.map(Duration::from_millis),
        status: answer.status,
        tokens: body
            .pointer("/usage/total_tokens")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        body,
        took,
    })
}

/// Calls at the same time, each to the URL of its number.
pub(crate) async fn burst(
    urls: impl IntoIterator<Item = String>,
    consumer: &str,
    max_tokens: u64,
) -> Result<Outcomes> {
    let mut calls = JoinSet::new();
    for url in urls {
        let consumer = consumer.to_owned();
        calls.spawn(async move { call(&url, &consumer, max_tokens).await });
    }
    let mut outcomes = Outcomes::default();
    while let Some(ended) = calls.join_next().await {
        outcomes.0.push(ended??);
    }
    Ok(outcomes)
}

/// `count` times this replica.
pub(crate) fn times(replica: &Replica, count: usize) -> Vec<String> {
    vec![replica.chat_url(); count]
}

/// `count` URLs, of which the first replica gets `percent`, and the others the rest in turn.
pub(crate) fn skewed(replicas: &Replicas, count: usize, percent: usize) -> Vec<String> {
    let others = replicas.all().len() - 1;
    (0..count)
        .map(|call| {
            let first = others == 0 || (call * percent) % 100 < percent;
            let index = if first { 0 } else { 1 + call % others };
            replicas.at(index).chat_url()
        })
        .collect()
}

/// What came of several calls.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(pub(crate) Vec<Called>);

impl Outcomes {
    pub(crate) fn admitted(&self) -> u64 {
        self.with(200)
    }

    /// Fails if one came to something else than 200 or 429.
    pub(crate) fn check(&self) -> Result<()> {
        for called in &self.0 {
            ensure!([200, 429].contains(&called.status), "{called:?}");
        }
        Ok(())
    }

    pub(crate) fn refused(&self) -> u64 {
        self.with(429)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.0.iter().map(|called| called.tokens).sum()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.0
            .iter()
            .map(|called| called.took)
            .max()
            .unwrap_or_default()
    }

    fn with(&self, status: u16) -> u64 {
        let count = self
            .0
            .iter()
            .filter(|called| called.status == status)
            .count();
        u64::try_from(count).expect("few")
    }
}

/// Requests and tokens that the simulated Foundry billed.
pub(crate) async fn billed(replicas: &Replicas) -> Result<(u64, u64)> {
    let billed: Value = http::get(&format!("{}/_sim/billed", replicas.sim))
        .await?
        .json()?;
    let deployments = billed
        .get("deployments")
        .and_then(Value::as_object)
        .context("deployments")?;
    let sum = |field: &str| -> u64 {
        let fields = deployments
            .values()
            .filter_map(|one| one.get(field)?.as_u64());
        fields.sum()
    };
    Ok((
        sum("requests"),
        sum("prompt_tokens") + sum("completion_tokens"),
    ))
}

/// Replicas that share a store, once each counts all of them.
pub(crate) async fn start(
    count: usize,
    store: &str,
    quotas: &str,
    more: &[&str],
    simulator: &[&str],
) -> Result<Replicas> {
    let mut arguments = vec!["--quota-store", store];
    arguments.extend(more);
    let replicas = Replicas::start(count, quotas, &arguments, simulator).await?;
    for replica in replicas.all() {
        up(replica, LIMIT).await?;
        let expected = u32::try_from(count)?;
        eventually_ok("all replicas are counted", LIMIT, async || {
            let counted = replica.metric("tundish_quota_store_replicas").await?;
            ensure!(counted >= f64::from(expected), "{counted} of {expected}");
            Ok(())
        })
        .await?;
    }
    Ok(replicas)
}

/// Waits until a replica sees the store.
pub(crate) async fn up(replica: &Replica, limit: Duration) -> Result<()> {
    sees(replica, 1.0, limit).await
}

/// Waits until a replica sees that the store is away.
pub(crate) async fn down(replica: &Replica, limit: Duration) -> Result<()> {
    sees(replica, 0.0, limit).await
}

async fn sees(replica: &Replica, expected: f64, limit: Duration) -> Result<()> {
    eventually_ok("the store is seen as it is", limit, async || {
        let up = replica.metric("tundish_quota_store_up").await?;
        ensure!((up - expected).abs() < 0.5, "up is {up}");
        Ok(())
    })
    .await
}

/// What the store has charged of the only counter of `quota`: rolling or calendar, debt included.
pub(crate) fn charged(redis: &Redis, quota: &str) -> Result<u64> {
    let keys = redis.command(&["KEYS", &format!("*:default/{quota}/*")])?;
    let mut sum = 0;
    for key in keys.lines() {
        for field in ["s", "u", "d"] {
            let value = redis.command(&["HGET", key, field])?;
            sum += value.parse::<u64>().unwrap_or(0);
        }
    }
    Ok(sum)
}
