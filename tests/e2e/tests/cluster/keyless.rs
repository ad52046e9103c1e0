//! Backends without keys, from the object to the token that a proxy shows.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{AUDIENCE, CLIENT, SECRET, SUBJECT, TENANT};
use tests_support::{eventually_ok, http};

use crate::installation::{ANN, GOOD, Installation, LIMIT, Token};

/// [`GOOD`]'s backend with another credential.
fn backend(auth: &Value) -> String {
    json!({
        "apiVersion": "tundish.dev/v1alpha1",
        "kind": "AIBackend",
        "metadata": {"name": "sim"},
        "spec": {
            "type": "Foundry",
            "endpoint": "SIM",
            "allowPlaintext": true,
            "auth": auth,
            "deployments": [{"name": "gpt-4o", "model": "gpt-4o"}],
        },
    })
    .to_string()
}

#[tokio::test]
async fn every_identity_reaches_the_backend_and_outlives_the_operator() -> Result<()> {
    let (installation, operator, proxies) = Installation::start("keyless", &[]).await?;
    let sim = &installation.sim;
    let wanted = json!({"subject": SUBJECT, "audience": AUDIENCE, "lifetime_s": 3600});
    let url = format!("{}/_sim/assertions", sim.url);
    let assertion: Value = http::post_json(&url, &[], wanted.to_string())
        .await?
        .json()?;
    let assertion = assertion["token"].as_str().context("a token")?;
    std::fs::write(installation.assertion(), assertion)?;
    installation.apply(GOOD).await?;
    // No key is taken any more.
    sim.take_only(&[]).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"},
        "stringData": {"client": SECRET}});
    installation.apply(&secret.to_string()).await?;
    let application = json!({"tenantID": TENANT, "clientID": CLIENT,
        "secretRef": {"name": "app", "key": "client"}});
    for auth in [
        json!({"type": "ClientSecret", "clientSecret": application}),
        json!({"type": "ManagedIdentity"}),
        json!({"type": "WorkloadIdentity"}),
    ] {
        // Of two types, one after the other, kubectl leaves no member of the first.
        installation
            .kubectl(&["delete", "aib", "sim"])
            .await?
            .success()?;
        installation.apply(&backend(&auth)).await?;
        installation.wait("aib/sim", "condition=Ready").await?;
        for proxy in &proxies {
            proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
        }
    }
    let requests: Value = http::get(&format!("{}/_sim/requests", sim.url))
        .await?
        .json()?;
    let requests = requests.as_array().context("a list")?;
    let last = requests
        .iter()
        .rev()
        .find(|one| one["deployment"] == "gpt-4o");
    let shown = last.context("a call")?["key"].as_str().unwrap_or_default();
    assert_eq!(shown, format!("entra-{CLIENT}"));

    // The name of an identity is in the last good table, and is all that a new process needs.
    let [first, second] = proxies;
    drop((operator, second));
    first.process.kill();
    let mut again = installation.proxy("proxy-0", &Token::Own).await?;
    again.ready().await?;
    again.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    Ok(())
}

#[tokio::test]
async fn an_identity_without_a_token_is_seen_by_answer_metric_and_status() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("unknown", &[]).await?;
    installation.apply(GOOD).await?;
    let unknown = "99999999-0000-4000-8000-000000000000";
    let auth = json!({"type": "ManagedIdentity", "managedIdentity": {"clientID": unknown}});
    installation
        .kubectl(&["delete", "aib", "sim"])
        .await?
        .success()?;
    installation.apply(&backend(&auth)).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 502, LIMIT).await?;
        let answer: Value = proxy.ask(ANN, "gpt-4o").await?.json()?;
        assert_eq!(answer["error"]["code"], "backend_credential_refused");
        eventually_ok("the metric", LIMIT, async || {
            let refused = proxy.metric("tundish_backend_token_requests_total").await?;
            ensure!(refused > 0.0, "it is {refused}");
            Ok(())
        })
        .await?;
    }
    // Entra's own word is in the status, until the mistake is mended.
    let application = json!({"tenantID": TENANT, "clientID": CLIENT,
        "secretRef": {"name": "app", "key": "client"}});
    let auth = json!({"type": "ClientSecret", "clientSecret": application});
    let secret = |value: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"},
            "stringData": {"client": value}})
        .to_string()
    };
    installation.apply(&secret("the-secrets-id")).await?;
    installation
        .kubectl(&["delete", "aib", "sim"])
        .await?
        .success()?;
    installation.apply(&backend(&auth)).await?;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")]}";
    eventually_ok("the condition", LIMIT, async || {
        let shown = installation
            .kubectl(&["get", "aib", "sim", "-o", ready])
            .await?;
        let condition: Value = serde_json::from_str(&shown.success()?)?;
        ensure!(condition["reason"] == "NoToken", "{condition}");
        let message = condition["message"].as_str().unwrap_or_default();
        ensure!(message.contains("AADSTS7000215"), "{message}");
        ensure!(message.contains("put the secret's value"), "{message}");
        Ok(())
    })
    .await?;
    installation.apply(&secret(SECRET)).await?;
    installation.wait("aib/sim", "condition=Ready").await?;
    Ok(())
}
