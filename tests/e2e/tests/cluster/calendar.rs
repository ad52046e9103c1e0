//! A calendar quota without a store: what was used counts until the period ends, whoever used it dies.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests_support::{binary, eventually_ok};

use crate::installation::{ANN, GOOD, Installation, LIMIT, Operator, Token};
use crate::parts::Proxy;

/// Requests that are allowed in a month. Not a day: no midnight must fall into a test.
const ALLOWED: u64 = 20;

const QUOTA: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: twenty}
spec:
  targetRefs: [{name: chat}]
  limits: [{name: month, unit: Requests, limit: 20, window: Month}]
";

/// A checkpoint is written every thirty seconds.
const CHECKPOINT: Duration = Duration::from_secs(50);

/// What `tundish quota` tells, asked of an operator.
async fn quota(operator: &Operator) -> Result<Value> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["quota", "--admin", &operator.admin, "-o", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits until the operator shows this number of replicas and this use over all of them.
async fn told(operator: &Operator, replicas: u64, used: u64) -> Result<()> {
    let what = format!("{used} used, with {replicas} replicas");
    eventually_ok(&what, LIMIT, async || {
        let quota = quota(operator).await?;
        let number = |pointer: &str| quota.pointer(pointer).and_then(Value::as_u64);
        let sum = number("/limits/0/subjects/0/used");
        ensure!(
            sum.unwrap_or(0) == used && number("/replicas") == Some(replicas),
            "{quota}"
        );
        Ok(())
    })
    .await
}

/// Calls that must be answered.
async fn use_up(proxy: &Proxy, calls: u64) -> Result<()> {
    for _ in 0..calls {
        let answer = proxy.ask(ANN, "gpt-4o").await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    Ok(())
}

/// Calls each proxy until it refuses, and counts what was admitted.
async fn admitted<'a>(proxies: impl IntoIterator<Item = &'a Proxy>) -> Result<u64> {
    let mut admitted = 0;
    for proxy in proxies {
        loop {
            let answer = proxy.ask(ANN, "gpt-4o").await?;
            match answer.status {
                200 => admitted += 1,
                429 => break,
                other => anyhow::bail!("{other}: {}", answer.text()),
            }
            ensure!(admitted <= ALLOWED, "there is no end");
        }
    }
    Ok(admitted)
}

#[tokio::test]
async fn what_a_killed_proxy_used_still_counts_and_is_told() -> Result<()> {
    let (installation, operator, [first, second]) = Installation::start("calendar", &[]).await?;
    installation.apply(&format!("{GOOD}---{QUOTA}")).await?;
    for object in ["air/chat", "aiq/twenty"] {
        installation.wait(object, "condition=Ready").await?;
    }
    use_up(&first, 6).await?;
    use_up(&second, 3).await?;
    // From here on nothing is used that was not reported: the bound is what was used since.
    told(&operator, 2, 9).await?;
    first.process.kill();
    told(&operator, 1, 9).await?;
    let mut third = installation.proxy("proxy-2", &Token::Own).await?;
    third.ready().await?;
    told(&operator, 2, 9).await?;
    // It is ready once it has a table, and the carried amounts come before that.
    let more = admitted([&second, &third]).await?;
    assert_eq!(9 + more, ALLOWED, "all of the eleven that are left");
    told(&operator, 2, 9 + more).await?;

    let mut command = Command::new(binary("tundish")?);
    command.args(["quota", "--admin", &operator.admin]);
    let table = String::from_utf8(command.output()?.stdout)?;
    assert!(table.contains("calendar/twenty/month"), "{table}");
    assert!(
        table.contains("2 of 2 have reported to the operator"),
        "{table}"
    );
    Ok(())
}

#[tokio::test]
async fn when_everything_dies_at_once_the_checkpoint_still_counts() -> Result<()> {
    let (installation, operator, [first, second]) =
        Installation::start("calendar-restart", &[]).await?;
    installation.apply(&format!("{GOOD}---{QUOTA}")).await?;
    for object in ["air/chat", "aiq/twenty"] {
        installation.wait(object, "condition=Ready").await?;
    }
    use_up(&first, 6).await?;
    use_up(&second, 3).await?;
    told(&operator, 2, 9).await?;
    eventually_ok("a checkpoint of all nine", CHECKPOINT, async || {
        let map = installation
            .get("configmap/tundish-quota-checkpoint")
            .await?;
        let text = map.pointer("/data/counters.json").and_then(Value::as_str);
        let text = text.unwrap_or("{}");
        let kept: Value = serde_json::from_str(text)?;
        let used = kept.pointer("/counters/0/u").and_then(Value::as_array);
        let used: Vec<u64> = used
            .into_iter()
            .flatten()
            .filter_map(|one| one.pointer("/1").and_then(Value::as_u64))
            .collect();
        ensure!(used.iter().sum::<u64>() == 9, "{text}");
        Ok(())
    })
    .await?;
    for process in [operator.process, first.process, second.process] {
        process.kill();
    }

    let operator = installation.operator(0).await?;
    // As pods of a new rollout: other names, and no file of their predecessors.
    let mut proxies = Vec::new();
    for name in ["proxy-2", "proxy-3"] {
        let mut proxy = installation.proxy(name, &Token::Own).await?;
        proxy.ready().await?;
        proxies.push(proxy);
    }
    // Once the old ones are given up: until then each has a part of four.
    told(&operator, 2, 9).await?;
    for proxy in &proxies {
        eventually_ok("a half for each", LIMIT, async || {
            let part = proxy.metric("tundish_limit_amount{").await?;
            ensure!(part.to_string() == (ALLOWED / 2).to_string(), "{part}");
            Ok(())
        })
        .await?;
    }
    let more = admitted(&proxies).await?;
    assert!(9 + more <= ALLOWED, "{more} more");
    assert!(more >= 8, "only {more} more of the eleven that are left");
    told(&operator, 2, 9 + more).await?;
    Ok(())
}
