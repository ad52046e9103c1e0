//! The life of a key on a real API server: made, rotated, expired, revoked.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tests_support::{binary, eventually_ok, http};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT, PROMISED, SOON};
use crate::parts::Proxy;

/// Keys that are revoked, one after the other.
const REVOKED: usize = 24;

/// How long the key lives whose expiry is waited for: longer than it takes to be in force.
const BRIEF: Duration = Duration::from_secs(8);

/// A new key of `tundish key new` with the label of [`GOOD`], and its Secret.
fn make(installation: &Installation, name: &str, more: &[&str]) -> Result<(String, String)> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["key", "new", name, "--label", "tundish.dev/keys=chat"]);
    command
        .args(["--namespace", &installation.namespace])
        .args(more);
    let made = command.output().context("run tundish key new")?;
    let shown = String::from_utf8(made.stderr)?;
    ensure!(made.status.success(), "{shown}");
    let key = shown.lines().last().context("no key is shown")?;
    Ok((key.to_owned(), String::from_utf8(made.stdout)?))
}

/// The status of a call with `key`.
async fn status(proxy: &Proxy, key: &str) -> Result<u16> {
    Ok(proxy.ask(key, "gpt-4o").await?.status)
}

/// Calls until `stop`, and fails at the first answer that is not 200. Returns how many there were.
async fn serves_until(proxy: &Proxy, key: &str, stop: &Notify) -> Result<usize> {
    let mut calls = 0;
    let stopped = stop.notified();
    tokio::pin!(stopped);
    loop {
        // A call that is given up may still count, so each one ends first.
        let status = status(proxy, key).await?;
        ensure!(status == 200, "call {calls} is refused: {status}");
        calls += 1;
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(calls),
            () = std::future::ready(()) => {}
        }
    }
}

#[tokio::test]
async fn a_deleted_secret_is_refused_by_every_replica_within_a_second() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("revocation", &[]).await?;
    installation.apply(GOOD).await?;
    let mut keys = Vec::new();
    let mut manifests = String::new();
    for index in 0..REVOKED {
        let name = format!("revoked-{index}");
        let (key, manifest) = make(&installation, &name, &[])?;
        assert!(!manifest.contains(&key), "the Secret has only the hash");
        manifests = format!("{manifests}---\n{manifest}");
        keys.push((name, key));
    }
    installation.apply(&manifests).await?;
    for proxy in &proxies {
        for (_, key) in &keys {
            proxy.answers((key, "gpt-4o"), 200, LIMIT).await?;
        }
    }

    let stop = Notify::new();
    let [first, _] = &proxies;
    let others = serves_until(first, ANN, &stop);
    let revocations = async {
        let mut delays = Vec::new();
        for (name, key) in &keys {
            let deleted = installation.kubectl(&["delete", "secret", name]).await?;
            let done = Instant::now();
            deleted.success()?;
            for proxy in &proxies {
                proxy.answers((key, "gpt-4o"), 401, LIMIT).await?;
                delays.push(done.elapsed());
            }
        }
        stop.notify_one();
        anyhow::Ok(delays)
    };
    let (calls, delays) = tokio::join!(others, revocations);
    ensure!(calls? > 0, "the other consumer called");
    let mut delays = delays?;
    delays.sort();
    let percentile = |percent: usize| delays.get((delays.len() - 1) * percent / 100).copied();
    let (half, p99) = (
        percentile(50).context("none")?,
        percentile(99).context("none")?,
    );
    println!("{} revocations: p50 {half:?}, p99 {p99:?}", delays.len());
    ensure!(
        half <= PROMISED && p99 <= SOON,
        "p50 is {half:?}, p99 {p99:?} of {delays:?}"
    );
    Ok(())
}

/// A limit that counts each consumer, and stops none.
const COUNTED: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: counted}
spec:
  targetRefs: [{name: chat}]
  per: [Consumer]
  limits: [{name: all, unit: Requests, limit: 1000000, window: Day}]
";

/// The requests of a proxy that count for the consumer `search`.
async fn counted(installation: &Installation, proxy: &Proxy) -> Result<u64> {
    let page: Value = http::get(&format!("{}/quota", proxy.admin)).await?.json()?;
    let subjects = page.pointer("/limits/0/subjects").and_then(Value::as_array);
    let name = format!("consumer={}/search", installation.namespace);
    let subjects = subjects.into_iter().flatten();
    let mut found = subjects.filter(|one| one["subject"] == name.as_str());
    let used = found
        .next()
        .map_or(0, |one| one["used"].as_u64().unwrap_or(0));
    ensure!(
        found.next().is_none(),
        "one consumer has two counters: {page}"
    );
    Ok(used)
}

#[tokio::test]
async fn a_rotated_key_counts_with_the_old_one_and_loses_no_request() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("key-rotation", &[]).await?;
    let (old, manifest) = make(&installation, "search", &[])?;
    installation
        .apply(&format!("{GOOD}---\n{COUNTED}---\n{manifest}"))
        .await?;
    let [proxy, other] = &proxies;
    for proxy in &proxies {
        proxy.answers((&old, "gpt-4o"), 200, LIMIT).await?;
    }

    // Both are good for a while, as the owner moves from one to the other.
    let (new, manifest) = make(&installation, "search-2", &["--consumer", "search"])?;
    let stop = Notify::new();
    let swap = async {
        installation.apply(&manifest).await?;
        for proxy in &proxies {
            proxy.answers((&new, "gpt-4o"), 200, SOON).await?;
        }
        stop.notify_one();
        anyhow::Ok(())
    };
    let (calls, swapped) = tokio::join!(serves_until(proxy, &old, &stop), swap);
    swapped?;
    ensure!(calls? > 0, "the old key was in use");
    let before = counted(&installation, proxy).await?;
    for key in [&old, &new, &old, &new] {
        assert_eq!(status(proxy, key).await?, 200);
    }
    assert_eq!(counted(&installation, proxy).await?, before + 4);

    // The old one goes, and no call of the new one notices.
    let revoke = async {
        installation
            .kubectl(&["delete", "secret", "search"])
            .await?
            .success()?;
        for proxy in &proxies {
            proxy.answers((&old, "gpt-4o"), 401, SOON).await?;
        }
        stop.notify_one();
        anyhow::Ok(())
    };
    let (calls, revoked) = tokio::join!(serves_until(proxy, &new, &stop), revoke);
    revoked?;
    ensure!(calls? > 0, "the new key was in use");
    assert_eq!(status(other, &new).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_key_is_refused_from_its_expiry_on_and_elsewhere_always() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("key-expiry", &[]).await?;
    let [proxy, _] = &proxies;
    installation.apply(GOOD).await?;
    let end = Timestamp::now() + BRIEF;
    let (key, manifest) = make(&installation, "brief", &["--expires", &end.to_string()])?;
    installation.apply(&manifest).await?;
    proxy.answers((&key, "gpt-4o"), 200, LIMIT).await?;
    // No object changes any more: the clock alone decides.
    eventually_ok("the expiry", LIMIT, async || {
        let answer = proxy.ask(&key, "gpt-4o").await?;
        let text = answer.text();
        ensure!(
            answer.status == 401 && text.contains("expired_credential"),
            "{text}"
        );
        Ok(())
    })
    .await?;

    // One that is mistyped says so, and one of another namespace does not exist here.
    let damaged = proxy
        .ask(&key.replace("_key-expiry_", "_key-expiri_"), "gpt-4o")
        .await?;
    assert_eq!(damaged.status, 401);
    assert!(
        damaged.text().contains("mistyped or cut off"),
        "{}",
        damaged.text()
    );
    let elsewhere = Command::new(binary("tundish")?)
        .args([
            "key",
            "new",
            "ann",
            "-n",
            "another",
            "-l",
            "tundish.dev/keys=chat",
        ])
        .output()?;
    let shown = String::from_utf8(elsewhere.stderr)?;
    let stolen = String::from_utf8(elsewhere.stdout)?.replace("\"another\"", "\"key-expiry\"");
    installation
        .apply(&stolen.replace("name: \"ann\"", "name: \"copy\""))
        .await?;
    // Known to be in force, since it comes behind the copy.
    let (next, manifest) = make(&installation, "next", &[])?;
    installation.apply(&manifest).await?;
    proxy.answers((&next, "gpt-4o"), 200, LIMIT).await?;
    let key = shown.lines().last().context("no key is shown")?;
    let refused = proxy.ask(key, "gpt-4o").await?;
    assert_eq!(refused.status, 401, "{}", refused.text());
    Ok(())
}
