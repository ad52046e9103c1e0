//! A proxy that starts while the operators and the API server are away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests_support::http;
use tests_support::{ControlPlane, eventually_ok};
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT, SOON, Token};
use crate::parts::Proxy;

/// From the start of the process to the first answer, which the operators' head start of 0.5 s is in.
const START: Duration = Duration::from_secs(5);

/// A second consumer of [`GOOD`]'s route.
const BOB: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: bob, labels: {tundish.dev/keys: chat}}
stringData: {key: bob-key}
";

/// The parts in the installation's Secrets, as kubelet reads them.
async fn stored(installation: &Installation) -> Result<Vec<Option<Vec<u8>>>> {
    let mut parts = Vec::new();
    for number in 0..4 {
        let secret = format!("secret/tundish-snapshot-{number}");
        let secret = installation.get(&secret).await?;
        let part = secret.pointer("/data/part").and_then(Value::as_str);
        let part = part.map(|part| STANDARD.decode(part)).transpose()?;
        parts.push(part);
    }
    Ok(parts)
}

/// Waits until the Secrets have the table that is in force in this proxy, the first one.
pub(crate) async fn newest(
    installation: &Installation,
    proxy: &Proxy,
) -> Result<Vec<Option<Vec<u8>>>> {
    eventually_ok("the newest snapshot", LIMIT, async || {
        let revision = proxy.metric("tundish_table_revision").await?;
        let kept = std::fs::read_to_string(installation.last_good("proxy-0"))?;
        // A snapshot, and the changes after it.
        let newest = kept.lines().last().context("an empty file")?;
        let kept: Value = serde_json::from_str(newest)?;
        let of_kept = kept.get("revision").and_then(Value::as_f64);
        ensure!(of_kept == Some(revision), "{kept}");
        let parts = stored(installation).await?;
        let first = parts.first().cloned().flatten().context("no part yet")?;
        let head = first.split(|byte| *byte == b'\n').next();
        let head: Value = serde_json::from_slice(head.context("no head")?)?;
        ensure!(head.get("revision") == kept.get("revision"), "it is {head}");
        Ok(parts)
    })
    .await
}

/// Mounts `parts` as kubelet does: a new folder, and one link that is replaced.
pub(crate) fn mount(folder: &Path, parts: &[Option<Vec<u8>>]) -> Result<()> {
    let data = tempfile::Builder::new().prefix("..").tempdir_in(folder)?;
    let data = data.keep();
    for (number, part) in parts.iter().enumerate() {
        let (name, link) = (format!("part-{number}"), PathBuf::from("..data"));
        if let Some(part) = part {
            std::fs::write(data.join(&name), part)?;
            std::os::unix::fs::symlink(link.join(&name), folder.join(&name)).ok();
        }
    }
    let fresh = folder.join("..data_tmp");
    std::os::unix::fs::symlink(data, &fresh)?;
    std::fs::rename(fresh, folder.join("..data"))?;
    Ok(())
}

#[tokio::test]
async fn a_new_proxy_serves_the_stored_table_without_operators_and_api_server() -> Result<()> {
    // Not the shared one: others need it.
    let plane = Arc::new(ControlPlane::start().await?);
    let mut installation = Installation::prepare(plane, "cold-start", &[]).await?;
    let operator = installation.operator(0).await?;
    let proxies = installation.proxies().await?;
    installation.apply(&format!("{GOOD}---{BOB}")).await?;
    for proxy in &proxies {
        proxy.answers(("bob-key", "gpt-4o"), 200, LIMIT).await?;
    }
    newest(&installation, &proxies[0]).await?;
    installation
        .kubectl(&["delete", "secret", "bob"])
        .await?
        .success()?;
    for proxy in &proxies {
        proxy.answers(("bob-key", "gpt-4o"), 401, SOON).await?;
    }
    let parts = newest(&installation, &proxies[0]).await?;
    assert_eq!(parts.iter().flatten().count(), 1, "one part is enough");

    installation.plane.stop_api_server();
    operator.process.kill();
    let folder = tempfile::tempdir()?;
    mount(folder.path(), &parts)?;
    let mounted = folder.path().display().to_string();
    installation
        .environment
        .push(("TUNDISH_SNAPSHOT_DIR", mounted));
    let started = Instant::now();
    let mut proxy = installation.proxy("cold", &Token::Missing).await?;
    proxy.ready().await?;
    let answer = proxy.ask(ANN, "gpt-4o").await?;
    let took = started.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(took < START, "{took:?}");
    for key in ["bob-key", "guessed"] {
        assert_eq!(proxy.ask(key, "gpt-4o").await?.status, 401, "{key}");
    }
    let ready = http::get(&format!("{}/readyz", proxy.admin)).await?.text();
    assert!(ready.contains("serving the snapshot of "), "{ready}");
    let log = proxy.process.log();
    assert!(log.contains("serving from the mounted snapshot"), "{log}");
    assert!(log.contains("age_seconds"), "{log}");
    println!("a new proxy served after {took:?}");

    // One that finds half of it is not ready until kubelet has the rest.
    let cut = parts
        .iter()
        .flatten()
        .map(|part| part[..part.len() / 2].to_vec());
    mount(folder.path(), &cut.map(Some).collect::<Vec<_>>())?;
    let mut other = installation.proxy("waiting", &Token::Missing).await?;
    let line = "the mounted snapshot cannot be used";
    let line = other.process.wait_for_line(line, LIMIT).await?;
    assert!(line.contains("ERROR"), "{line}");
    assert!(line.contains("start an operator"), "{line}");
    let ready = http::get(&format!("{}/readyz", other.admin)).await?;
    assert_eq!(ready.status, 503);
    mount(folder.path(), &parts)?;
    other.ready().await?;
    other.answers((ANN, "gpt-4o"), 200, SOON).await?;

    // Once everything is back, changes arrive again.
    installation.plane.start_api_server().await?;
    let _operator = installation.operator(0).await?;
    let [first, _] = &proxies;
    first.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    Ok(())
}

#[tokio::test]
async fn an_operator_that_is_back_replaces_the_snapshot_of_a_new_proxy() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let mut installation = Installation::prepare(plane, "snapshot-replaced", &[]).await?;
    let operator = installation.operator(0).await?;
    let proxies = installation.proxies().await?;
    installation.apply(GOOD).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    }
    let parts = newest(&installation, &proxies[0]).await?;
    let folder = tempfile::tempdir()?;
    mount(folder.path(), &parts)?;
    operator.process.kill();
    let mounted = folder.path().display().to_string();
    installation
        .environment
        .push(("TUNDISH_SNAPSHOT_DIR", mounted));
    let mut proxy = installation.proxy("replacement", &Token::Own).await?;
    proxy.ready().await?;
    proxy.answers((ANN, "gpt-4o"), 200, SOON).await?;
    // A key that is deleted now holds until an operator says so.
    installation
        .kubectl(&["delete", "secret", "ann"])
        .await?
        .success()?;
    assert_eq!(proxy.ask(ANN, "gpt-4o").await?.status, 200);
    let _operator = installation.operator(0).await?;
    proxy.answers((ANN, "gpt-4o"), 401, LIMIT).await?;
    let ready = http::get(&format!("{}/readyz", proxy.admin)).await?.text();
    assert_eq!(ready, "ok\n");
    Ok(())
}
