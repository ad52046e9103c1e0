//! Proxies that share a store: one count, and a condition that says when the store is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests_support::{ControlPlane, Redis, eventually_ok};
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT};

const QUOTA: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: eleven}
spec:
  targetRefs: [{name: chat}]
  onStoreLoss: Deny
  limits: [{name: month, unit: Requests, limit: 11, window: Month}]
";

/// A status follows the loss by this much; the operator promises five seconds.
const TOLD: Duration = Duration::from_secs(7);

/// Waits until the quota has the condition, or has it no more.
async fn unavailable(installation: &Installation, wanted: bool) -> Result<()> {
    eventually_ok("the condition follows the store", LIMIT, async || {
        let quota = installation.get("aiq/eleven").await?;
        let conditions = quota
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let says = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "StoreUnavailable" && condition["status"] == "True"
        });
        ensure!(says == wanted, "{quota}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn proxies_share_a_month_and_the_quota_says_that_its_store_is_away() -> Result<()> {
    let mut redis = Redis::start_with(&["--appendonly", "yes"])?;
    let mut installation =
        Installation::prepare(ControlPlane::shared().await?, "store", &[]).await?;
    installation.quota_store = Some(redis.url());
    let _operator = installation.operator(0).await?;
    let [first, second] = installation.proxies().await?;
    installation.apply(&format!("{GOOD}---{QUOTA}")).await?;
    for object in ["air/chat", "aiq/eleven"] {
        installation.wait(object, "condition=Ready").await?;
    }
    // All by one of them: there are no parts.
    for _ in 0..8 {
        let answer = first.ask(ANN, "gpt-4o").await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    unavailable(&installation, false).await?;

    redis.kill();
    let lost = Instant::now();
    unavailable(&installation, true).await?;
    assert!(lost.elapsed() < TOLD, "after {:?}", lost.elapsed());
    let refused = second.ask(ANN, "gpt-4o").await?;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.text().contains("store"), "{}", refused.text());

    redis.restart()?;
    unavailable(&installation, false).await?;
    let mut admitted = 0;
    eventually_ok("the limit is spent", LIMIT, async || {
        let answer = second.ask(ANN, "gpt-4o").await?;
        if answer.status == 200 {
            admitted += 1;
        }
        ensure!(
            answer.text().contains("is spent"),
            "{} {}",
            answer.status,
            answer.text()
        );
        Ok(())
    })
    .await?;
    assert_eq!(admitted, 3, "the store remembers the eight");
    Ok(())
}
