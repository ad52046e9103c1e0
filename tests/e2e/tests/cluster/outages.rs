//! Everything that can fail, fails here: operators, their leader, a proxy, and the API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_support::{ControlPlane, eventually_ok};

use crate::installation::{ANN, GOOD, INTERN, INTERNS, Installation, LIMIT, SOON, Token, route};
use crate::load::Load;
use crate::parts::Proxy;

/// A leader that was killed is replaced within this time: the lease's fifteen seconds and two looks.
const TAKEOVER: Duration = Duration::from_secs(20);

/// A watch is back two seconds after the API server, and the change is in force a second later; the
/// machine is shared.
const BACK: Duration = Duration::from_secs(5);

/// A third of the requests during an outage of the API server, which is some twenty seconds.
const AWAY: u64 = 2_000;

/// Waits until the proxy follows this number of operators.
async fn follows(proxy: &Proxy, operators: f64) -> Result<()> {
    eventually_ok("the proxy to follow its operators", LIMIT, async || {
        let now = proxy.metric("tundish_channel_connected").await?;
        ensure!(now.to_bits() == operators.to_bits(), "it follows {now}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn traffic_and_restarts_go_on_without_operators_and_changes_follow_later() -> Result<()> {
    let (installation, operator, [first, second]) =
        Installation::start("no-operators", &[]).await?;
    installation.apply(&format!("{GOOD}---{INTERNS}")).await?;
    for object in ["air/chat", "aiq/interns"] {
        installation.wait(object, "condition=Ready").await?;
    }
    let other = installation.operator(1).await?;
    let mut proxies = [first, second];
    for proxy in &proxies {
        follows(proxy, 2.0).await?;
    }
    let mut load = Load::start(&proxies);
    load.goes_on(20).await?;
    operator.process.kill();
    other.process.kill();
    for proxy in &proxies {
        follows(proxy, 0.0).await?;
    }
    load.outlasts(200).await?;
    load.end().await?;

    // A proxy that dies now comes back with what it had.
    let mut load = Load::start(&proxies[..1]);
    eventually_ok("the last good table", LIMIT, async || {
        let kept = std::fs::read_to_string(installation.last_good("proxy-1"))?;
        let whole = kept.contains("interns") && kept.contains("\"replicas\":2");
        ensure!(whole, "it is {kept}");
        Ok(())
    })
    .await?;
    let [_, second] = &mut proxies;
    let restarted = installation.proxy("proxy-1", &Token::Own).await?;
    std::mem::replace(second, restarted).process.kill();
    second.ready().await?;
    second.answers((ANN, "gpt-4o"), 200, SOON).await?;
    assert_eq!(second.ask("guessed", "gpt-4o").await?.status, 401);
    assert_eq!(second.ask(ANN, "gpt-5").await?.status, 404);
    // Its part of a limit is still the half.
    for status in [200, 200, 429] {
        let answer = second.ask(INTERN, "gpt-4o").await?;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    load.goes_on(20).await?;
    load.end().await?;

    // Whatever was applied meanwhile is enforced once an operator is back, and so is the next change.
    let mut load = Load::start(&proxies);
    installation
        .apply(&route("meanwhile", "gpt-5", "sim"))
        .await?;
    let _operator = installation.operator(0).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-5"), 200, LIMIT).await?;
    }
    installation
        .apply(&route("afterwards", "gpt-6", "sim"))
        .await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-6"), 200, SOON).await?;
    }
    load.goes_on(20).await?;
    load.end().await?;
    Ok(())
}

#[tokio::test]
async fn when_the_leader_is_killed_changes_arrive_at_once_and_the_status_soon() -> Result<()> {
    let (installation, leader, proxies) = Installation::start("takeover", &[]).await?;
    installation.apply(GOOD).await?;
    installation.wait("air/chat", "condition=Ready").await?;
    let _second = installation.operator(1).await?;
    for proxy in &proxies {
        follows(proxy, 2.0).await?;
    }
    let holder = "jsonpath={.spec.holderIdentity}";
    let lease = ["get", "lease", "tundish-operator", "-o", holder];
    assert_eq!(installation.kubectl(&lease).await?.success()?, "operator-0");
    let mut load = Load::start(&proxies);
    leader.process.kill();

    installation.apply(&route("orphan", "gpt-5", "sim")).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-5"), 200, SOON).await?;
    }
    let ready = "condition=Ready";
    let plane = &installation.plane;
    plane
        .wait("takeover", "air/orphan", ready, TAKEOVER)
        .await?;
    assert_eq!(installation.kubectl(&lease).await?.success()?, "operator-1");
    let orphan = installation.get("air/orphan").await?;
    assert_eq!(orphan["status"]["programmed"], "all");
    load.goes_on(20).await?;
    load.end().await?;
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_not_noticed_by_clients() -> Result<()> {
    // Not the shared one: others need it.
    let plane = Arc::new(ControlPlane::start().await?);
    let installation = Installation::prepare(plane, "api-outage", &[]).await?;
    let operator = installation.operator(0).await?;
    let proxies = installation.proxies().await?;
    installation.apply(GOOD).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    }
    let mut load = Load::start(&proxies);
    load.goes_on(20).await?;
    installation.plane.stop_api_server();
    // Longer than a watch that waits longer and longer goes without a try.
    for _ in 0..3 {
        load.outlasts(AWAY).await?;
    }
    installation.plane.start_api_server().await?;
    installation.apply(&route("later", "gpt-5", "sim")).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-5"), 200, BACK).await?;
    }
    // It caught up by itself, and all of it.
    installation.wait("air/later", "condition=Ready").await?;
    load.end().await?;
    let ended = operator.process.terminate(LIMIT).await;
    assert!(ended.context("stop the operator")?.success());
    Ok(())
}

/// ConfigMaps that are made to have more versions: a new control plane has some hundreds by itself.
const VERSIONS: usize = 600;

#[tokio::test]
async fn proxies_follow_operators_whose_versions_went_back() -> Result<()> {
    const NAME: &str = "restored";
    let before = Arc::new(ControlPlane::start().await?);
    let installation = Installation::prepare(Arc::clone(&before), NAME, &[]).await?;
    let maps = (0..VERSIONS).map(|number| {
        let metadata = json!({"name": format!("map-{number}"), "namespace": NAME});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    });
    let maps = json!({"apiVersion": "v1", "kind": "List", "items": maps.collect::<Vec<_>>()});
    let file = installation.folder().join("maps.json");
    std::fs::write(&file, maps.to_string())?;
    let file = file.to_str().context("the path is text")?;
    installation
        .kubectl(&["create", "-f", file])
        .await?
        .success()?;
    installation.apply(GOOD).await?;
    let operator = installation.operator(0).await?;
    let mut proxy = installation.proxy("proxy-0", &Token::Own).await?;
    proxy.ready().await?;
    proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    let revision = proxy.metric("tundish_table_revision").await?;
    drop((operator, proxy));

    // Restored from a backup: the same objects, with lower versions.
    let after = Arc::new(ControlPlane::start().await?);
    let restored = Installation::prepare(after, NAME, &[]).await?;
    restored.apply(&GOOD.replace(ANN, INTERN)).await?;
    std::fs::copy(
        installation.last_good("proxy-0"),
        restored.last_good("proxy-0"),
    )?;
    let mut operator = restored.operator(0).await?;
    let mut proxy = restored.proxy("proxy-0", &Token::Own).await?;
    proxy.ready().await?;
    operator
        .process
        .wait_for_line("an epoch begins", LIMIT)
        .await?;
    proxy.answers((INTERN, "gpt-4o"), 200, LIMIT).await?;
    proxy.answers((ANN, "gpt-4o"), 401, LIMIT).await?;
    let later = proxy.metric("tundish_table_revision").await?;
    ensure!(later > revision, "{later} after {revision}");

    // An operator that starts again is in the same epoch, and changes go on.
    operator.process.kill();
    let _operator = restored.operator(0).await?;
    restored.apply(&route("more", "more", "sim")).await?;
    proxy.answers((INTERN, "more"), 200, LIMIT).await
}
