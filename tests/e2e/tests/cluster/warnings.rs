//! Events of `warnAt`: one for a counter, level and window, whichever proxy or operator says so first.

use anyhow::{Result, ensure};
use tests_support::{ControlPlane, Redis, eventually_ok};

use crate::installation::{ANN, GOOD, Installation, LIMIT};

const QUOTA: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: ten}
spec:
  targetRefs: [{name: chat}]
  per: [Consumer]
  warnAt: [50, 80]
  limits: [{name: month, unit: Requests, limit: 10, window: Month}]
";

/// The notes of all events about the quota.
async fn notes(installation: &Installation) -> Result<Vec<String>> {
    let events = [
        "get",
        "events",
        "--field-selector=involvedObject.name=ten,type=Warning,reason=QuotaWarning",
        "-o",
        "jsonpath={range .items[*]}{.message}{'\\n'}{end}",
    ];
    let text = installation.kubectl(&events).await?.success()?;
    let mut notes: Vec<String> = text.lines().map(str::to_owned).collect();
    notes.sort();
    Ok(notes)
}

async fn noted(installation: &Installation, expect: &[String]) -> Result<()> {
    eventually_ok("the events of the quota", LIMIT, async || {
        let notes = notes(installation).await?;
        ensure!(notes == expect, "there are {notes:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_level_is_one_event_over_two_proxies_and_two_operators() -> Result<()> {
    let redis = Redis::start_with(&[])?;
    let mut installation =
        Installation::prepare(ControlPlane::shared().await?, "warnings", &[]).await?;
    installation.quota_store = Some(redis.url());
    let leader = installation.operator(0).await?;
    let _follower = installation.operator(1).await?;
    let [first, second] = installation.proxies().await?;
    installation.apply(&format!("{GOOD}---{QUOTA}")).await?;
    for object in ["air/chat", "aiq/ten"] {
        installation.wait(object, "condition=Ready").await?;
    }
    let note = |used: u64, level: u64| {
        let subject = format!("consumer={}/ann", installation.namespace);
        format!("limit month: {used} of 10 Requests of {subject} are used, {level}% or more")
    };
    for _ in 0..5 {
        let answer = first.ask(ANN, "gpt-4o").await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    noted(&installation, &[note(5, 50)]).await?;

    // The other proxy finds the same level, and another operator leads.
    leader.process.terminate(LIMIT).await?;
    for _ in 0..3 {
        let answer = second.ask(ANN, "gpt-4o").await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    noted(&installation, &[note(5, 50), note(8, 80)]).await
}
