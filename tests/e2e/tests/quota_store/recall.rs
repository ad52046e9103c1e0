//! What others hold and do not use, when a replica lacks it.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::{Redis, Replicas};

use crate::load::{burst, call, charged, light, quota, start, times};

/// The store's URL for a user who may do what docs/quota-store.md lists, and no more.
fn with_documented_rights(redis: &Redis) -> Result<String> {
    const DOCS: &str = include_str!("../../../../docs/quota-store.md");
    let rights = DOCS.lines().find_map(|line| {
        let rights = line.trim_start().strip_prefix("`~{PREFIX}:*")?;
        rights.split('`').next()
    });
    let rights = rights.context("the rights that a user of the store needs")?;
    let rights = format!("~{{PREFIX}}:*{rights}").replace("PREFIX", "tundish");
    let mut words = vec!["ACL", "SETUSER", "gateway", "on", ">secret"];
    words.extend(rights.split(' '));
    redis.command(&words)?;
    Ok(format!("redis://gateway:secret@127.0.0.1:{}", redis.port()))
}

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
    let store = with_documented_rights(&redis)?;
    let replicas = start(3, &store, &quotas, &["--no-access-log"], &[]).await?;
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
    assert!(recalls >= 1.0, "no replica was asked to return");

    for replica in replicas.all() {
        let refused = burst(times(replica, 3), "team", 1).await?;
        assert_eq!(refused.refused(), 3);
    }
    assert_eq!(charged(&redis, "team")?, 600);
    assert_eq!(redis.command(&["ACL", "LOG"])?, "", "something was denied");
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
