//! Other amounts for some consumers, in limits that replicas share.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{Redis, http};

use crate::load::{burst, light, start, times};

/// 20 requests a minute for each consumer, 60 for `batch`, none for `banned`.
const QUOTAS: &str = "
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: each}
spec:
  targetRefs: [{name: chat}]
  match: {consumers: {names: [team, batch, banned]}}
  per: [Consumer]
  limits: [{name: calls, unit: Requests, limit: 20, window: Minute}]
  overrides:
  - {consumers: {names: [batch]}, limits: [{name: calls, limit: 60}]}
  - {consumers: {names: [banned]}, limits: [{name: calls, limit: 0}]}
---
apiVersion: v1
kind: Secret
metadata: {name: team, labels: {tundish.dev/keys: chat}}
stringData: {key: team-key}
---
apiVersion: v1
kind: Secret
metadata: {name: batch, labels: {tundish.dev/keys: chat}}
stringData: {key: batch-key}
---
apiVersion: v1
kind: Secret
metadata: {name: banned, labels: {tundish.dev/keys: chat}}
stringData: {key: banned-key}
";

#[tokio::test]
async fn replicas_together_admit_each_consumer_its_own_amount() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let replicas = start(2, &redis.url(), QUOTAS, &["--no-access-log"], &[]).await?;
    for (consumer, amount) in [("team", 20), ("batch", 60), ("banned", 0)] {
        let mut admitted = 0;
        for _ in 0..4 {
            for replica in replicas.all() {
                let outcomes = burst(times(replica, 12), consumer, 1).await?;
                outcomes.check()?;
                admitted += outcomes.admitted();
            }
        }
        assert_eq!(admitted, amount, "{consumer}");
    }
    // Each replica shows the whole amount, since the store counts for both.
    let page: Value = http::get(&format!("{}/quota", replicas.at(0).admin))
        .await?
        .json()?;
    let limits = page.get("limits").and_then(Value::as_array);
    let mut limits = limits.context("limits")?.iter();
    let limit = limits.find(|one| one.get("limit").is_some_and(|l| l == "default/each/calls"));
    let subjects = limit.and_then(|one| one.get("subjects")?.as_array());
    let subjects = subjects.context("subjects")?.iter();
    let mut amounts: Vec<_> = subjects
        .map(|one| (one.get("used").cloned(), one.get("amount").cloned()))
        .collect();
    amounts.sort_by_key(|(used, _)| used.as_ref().and_then(Value::as_u64));
    let expect = [(Some(20.into()), None), (Some(60.into()), Some(60.into()))];
    ensure!(amounts == expect, "{amounts:?}");
    Ok(())
}
