//! Credentials: rotated while requests run, and those of a proxy that does not belong here.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests_support::{ControlPlane, eventually_ok, http};
use tokio::time::Instant;

use crate::installation::{ANN, GOOD, Installation, LIMIT, PROMISED, Token};

/// A Secret as `kubectl apply` rotates it.
fn secret(name: &str, labels: &str, data: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, labels: {{{labels}}}}}, \
         stringData: {{{data}}}}}"
    )
}

/// How often a Secret is rotated: beside all other tests the machine may be busy for a second.
const ROUNDS: usize = 4;

/// Some rotation is in force within the promised time.
fn is_prompt(took: &[Duration]) -> Result<()> {
    let is_kept = took.iter().any(|one| *one < PROMISED);
    ensure!(is_kept, "a rotation is in force after {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_rotated_secret_is_used_within_a_second_and_without_a_restart() -> Result<()> {
    let (installation, _operator, mut proxies) = Installation::start("rotation", &[]).await?;
    installation.apply(GOOD).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    }

    // The backend's: Foundry takes only the new key, so the old one shows.
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let key = format!("sim-key-{round}");
        installation.sim.take_only(&[&key]).await?;
        for proxy in &proxies {
            let answer = proxy.ask(ANN, "gpt-4o").await?;
            assert_ne!(answer.status, 200, "the key before is taken no more");
        }
        let rotated = secret("sim", "", &format!("api-key: {key}"));
        installation.apply(&rotated).await?;
        let applied = Instant::now();
        for proxy in &proxies {
            proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
        }
        took.push(applied.elapsed());
    }
    is_prompt(&took)?;

    // A consumer's.
    let mut took = Vec::new();
    let mut before = ANN.to_owned();
    for round in 0..ROUNDS {
        let key = format!("ann-key-{round}");
        let rotated = secret("ann", "tundish.dev/keys: chat", &format!("key: {key}"));
        installation.apply(&rotated).await?;
        let applied = Instant::now();
        for proxy in &proxies {
            proxy.answers((&key, "gpt-4o"), 200, LIMIT).await?;
            assert_eq!(proxy.ask(&before, "gpt-4o").await?.status, 401);
        }
        took.push(applied.elapsed());
        before = key;
    }
    is_prompt(&took)?;
    for proxy in &mut proxies {
        assert!(proxy.process.ended()?.is_none(), "the same process");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_without_the_right_token_gets_no_table() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let installation = Installation::prepare(plane, "strangers", &[]).await?;
    let _operator = installation.operator(0).await?;
    installation.apply(GOOD).await?;
    let strangers = [
        (
            "wrong-audience",
            Token::Other("tundish-proxy", "vault"),
            "401",
        ),
        ("wrong-account", Token::Other("stranger", "tundish"), "403"),
        ("no-token", Token::Missing, "401"),
    ];
    for (name, token, status) in strangers {
        let mut proxy = installation.proxy(name, &token).await?;
        let refusal = "subscription refused";
        let line = proxy.process.wait_for_line(refusal, LIMIT).await?;
        assert!(line.contains(status), "{name}: {line}");
        let revision = proxy.metric("tundish_table_revision").await?;
        assert_eq!(revision.to_bits(), 0.0_f64.to_bits(), "{name} has a table");
        let ready = http::get(&format!("{}/readyz", proxy.admin)).await?;
        assert_eq!(ready.status, 503, "{name}: {}", ready.text());
        let answer = proxy.ask(ANN, "gpt-4o").await?;
        assert_eq!(answer.status, 503, "{name}: {}", answer.text());
    }
    // None of them was counted.
    let mut proxy = installation.proxy("proxy-0", &Token::Own).await?;
    proxy.ready().await?;
    proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    eventually_ok("the status", LIMIT, async || {
        let route = installation.get("air/chat").await?;
        let programmed = &route["status"]["programmed"];
        ensure!(programmed == "all", "it is {programmed}");
        Ok(())
    })
    .await
}
