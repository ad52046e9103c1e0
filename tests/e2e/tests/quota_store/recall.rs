//! What others hold and do not use, when a replica lacks it.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::{Redis, Replicas};

use crate::load::{burst, call, charged, light, quota, start, times};

/// What all replicas but the first hold unused then.
async fn warm(replicas: &Replicas, redis: &Redis, rounds: usize) -> Result<(u64, u64)> {
    let mut used = 0;
    for _ in 0..rounds {
        for replica in replicas.all().iter().skip(1) {
            used += burst(times(replica, 20), "team", 1).await?.admitted();
        }
    }
    Ok((used, charged(redis, "team")?.saturating_sub(used)))
}

#[tokio::test]
async fn nothing_is_refused_while_others_hold_what_they_do_not_use() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    // Of a calendar period a replica keeps what it borrowed for five seconds.
    let quotas = quota(
        "team",
        "Deny",
        "{name: calls, unit: Requests, limit: 600, window: Month}",
    );
    let replicas = start(3, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    let (used, held) = warm(&replicas, &redis, 4).await?;
    assert!(held > 0, "nothing is borrowed ahead of {used}");

    let rest = 600 - used;
    let outcomes = burst(times(replicas.at(0), usize::try_from(rest)?), "team", 1).await?;
    outcomes.check()?;
    assert_eq!(outcomes.admitted(), rest, "{held} were held by others");
    let mut recalls = 0.0;
    for replica in replicas.all().iter().skip(1) {
        recalls += replica.metric("tundish_quota_store_recalls_total").await?;
    }
    assert!(recalls >= 1.0, "nobody was asked to give back");

    for replica in replicas.all() {
        let refused = burst(times(replica, 3), "team", 1).await?;
        assert_eq!(refused.refused(), 3);
    }
    assert_eq!(charged(&redis, "team")?, 600);
    Ok(())
}

#[tokio::test]
async fn a_refusal_names_when_it_fits_though_others_held_something() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let quotas = quota(
        "team",
        "Deny",
        "{name: calls, unit: Requests, limit: 200, window: Second}",
    );
    let replicas = start(3, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    for round in 0..5 {
        warm(&replicas, &redis, 2).await?;
        let outcomes = burst(times(replicas.at(0), 300), "team", 1).await?;
        outcomes.check()?;
        let called = call(&replicas.at(0).chat_url(), "team", 1).await?;
        if called.status == 200 {
            // The machine was so busy that the second had passed.
            continue;
        }
        let wait = called.retry_after.context("a refusal names its wait")?;
        // Two windows, since up to half of the limit may count 0.4 s longer.
        assert!(wait <= Duration::from_millis(1_700), "{wait:?}");
        tokio::time::sleep(wait).await;
        let called = call(&replicas.at(0).chat_url(), "team", 1).await?;
        assert_eq!(called.status, 200, "round {round}, after {wait:?}");
    }
    Ok(())
}
