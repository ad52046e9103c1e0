//! Replicas that stop, and quotas that are edited, deleted and applied again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_support::{Redis, Replica, Replicas, eventually_ok, http};

use crate::load::{LIMIT, burst, call, charged, light, quota, start, times};

/// A change on disk is in force within a second.
const FOLLOWED: Duration = Duration::from_secs(2);

fn monthly(consumer: &str, amount: u64) -> String {
    let limit = format!("{{name: calls, unit: Requests, limit: {amount}, window: Month}}");
    quota(consumer, "Share", &limit)
}

fn minutely(consumer: &str, amount: u64) -> String {
    let limit = format!("{{name: calls, unit: Requests, limit: {amount}, window: Minute}}");
    quota(consumer, "Share", &limit)
}

/// The amount of a consumer's limit as a replica enforces it; `None` if there is no such limit.
async fn amount(replica: &Replica, consumer: &str) -> Result<Option<u64>> {
    let page: Value = http::get(&format!("{}/quota", replica.admin))
        .await?
        .json()?;
    let name = format!("default/{consumer}/calls");
    let limits = page
        .get("limits")
        .and_then(Value::as_array)
        .context("limits")?;
    let limit = limits
        .iter()
        .find(|limit| limit.get("limit").is_some_and(|known| *known == name));
    Ok(limit.and_then(|limit| limit.get("amount")?.as_u64()))
}

/// Writes the quotas, and waits until every replica follows.
async fn apply(
    replicas: &Replicas,
    text: &str,
    consumer: &str,
    expected: Option<u64>,
) -> Result<()> {
    std::fs::write(replicas.manifests().join("quota.yaml"), text)?;
    for replica in replicas.all() {
        eventually_ok("the quotas are in force", FOLLOWED, async || {
            let amount = amount(replica, consumer).await?;
            ensure!(amount == expected, "{amount:?} instead of {expected:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_that_is_stopped_gives_back_what_it_had_borrowed() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let quotas = monthly("team", 100_000);
    let mut replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    // Of a calendar period a replica keeps what it borrowed for five seconds.
    let mut used = burst(times(replicas.at(0), 7), "team", 1).await?.admitted();
    for _ in 0..4 {
        used += burst(times(replicas.at(1), 20), "team", 1)
            .await?
            .admitted();
    }
    assert_eq!(used, 87);
    let held = charged(&redis, "team")?;
    assert!(held > used, "nothing is borrowed ahead: {held}");
    for index in [1, 0] {
        let status = replicas.terminate(index, LIMIT).await?;
        assert!(status.success(), "{status}");
    }
    assert_eq!(charged(&redis, "team")?, used, "{held} before");
    Ok(())
}

#[tokio::test]
async fn a_lowered_limit_refuses_at_once_on_every_replica() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let replicas = start(
        2,
        &redis.url(),
        &minutely("team", 1_000),
        &["--no-access-log"],
        &[],
    )
    .await?;
    // Only one knows them by itself.
    assert_eq!(
        burst(times(replicas.at(0), 50), "team", 1)
            .await?
            .admitted(),
        50
    );
    apply(&replicas, &minutely("team", 20), "team", Some(20)).await?;
    for replica in replicas.all() {
        let called = call(&replica.chat_url(), "team", 1).await?;
        assert_eq!(called.status, 429, "{called:?}");
        let message = called
            .body
            .pointer("/error/message")
            .and_then(Value::as_str);
        assert!(
            message.is_some_and(|text| text.contains("of 20 Requests used")),
            "{called:?}"
        );
    }
    // Raised again, the rest is there.
    apply(&replicas, &minutely("team", 60), "team", Some(60)).await?;
    let outcomes = burst(times(replicas.at(1), 30), "team", 1).await?;
    outcomes.check()?;
    assert_eq!(outcomes.admitted(), 10);
    Ok(())
}

/// Deletes and applies a spent quota again.
async fn again(replicas: &Replicas, quotas: &str) -> Result<()> {
    let mut admitted = 0;
    for replica in replicas.all() {
        admitted += burst(times(replica, 20), "team", 1).await?.admitted();
    }
    assert_eq!(admitted, 15);
    apply(replicas, &minutely("another", 1), "team", None).await?;
    apply(replicas, quotas, "team", Some(15)).await?;
    for replica in replicas.all() {
        let called = call(&replica.chat_url(), "team", 1).await?;
        assert_eq!(called.status, 429, "{called:?}");
    }
    Ok(())
}

#[tokio::test]
async fn deleting_and_applying_a_quota_again_does_not_begin_it_anew() -> Result<()> {
    let _turn = light().await;
    let quotas = minutely("team", 15);
    let alone = Replicas::start(1, &quotas, &["--no-access-log"], &[]).await?;
    again(&alone, &quotas).await?;
    let redis = Redis::start()?;
    let replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    again(&replicas, &quotas).await
}
