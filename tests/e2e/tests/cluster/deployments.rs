//! A backend that refuses the gateway, from the answers that proxies get to its status and the operator's page.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{eventually_ok, http};

use crate::installation::{ANN, GOOD, Installation, LIMIT, SIM_KEY};
use crate::parts::Proxy;

/// A state is written when it has lasted for thirty seconds; a report takes two.
const WRITTEN: Duration = Duration::from_secs(60);

/// A second backend, and [`GOOD`]'s route to both.
const BOTH: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: other}
spec:
  type: Foundry
  endpoint: SIM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: api-key}}}
  deployments: [{name: other, model: gpt-4o}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: [gpt-4o]}]
    backendRefs: [{name: sim}, {name: other}]
";

/// Waits for the status of a backend while callers call.
async fn told(
    installation: &Installation,
    proxies: &[Proxy; 2],
    (name, deployments, reason): (&str, &str, &str),
    limit: Duration,
) -> Result<Value> {
    let what = format!("{name} to be {deployments} and {reason}");
    eventually_ok(&what, limit, async || {
        for proxy in proxies {
            let answer = proxy.ask(ANN, "gpt-4o").await?;
            ensure!(answer.status == 200, "{}", answer.text());
        }
        let backend = installation.get(&format!("aib/{name}")).await?;
        let conditions = backend.pointer("/status/conditions");
        let mut conditions = conditions.and_then(Value::as_array).into_iter().flatten();
        let is = |one: &Value, field: &str, text: &str| one.get(field).is_some_and(|it| it == text);
        let ready = conditions.find(|one| is(one, "type", "Ready")).cloned();
        let ready = ready.unwrap_or_default();
        ensure!(is(&ready, "reason", reason), "{backend}");
        let serving = backend.pointer("/status/deployments");
        ensure!(serving.is_some_and(|it| it == deployments), "{backend}");
        Ok(ready)
    })
    .await
}

#[tokio::test]
async fn a_refused_credential_is_seen_in_the_status_until_it_is_taken_again() -> Result<()> {
    let sim = ["--deployment", "gpt-4o", "--deployment", "other=gpt-4o"];
    let (installation, operator, proxies) = Installation::start("deployments", &sim).await?;
    let faults = format!("{}/_sim/faults", installation.sim.url);
    let refused = json!([{"deployment": "gpt-4o", "status": 401}]).to_string();
    let put = http::request("PUT".parse()?, &faults, &[], refused).await?;
    ensure!(put.status == 204, "{}", put.text());
    installation.apply(GOOD).await?;
    installation.apply(BOTH).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    }
    let out = ("sim", "0/1 serving", "CredentialRefused");
    let ready = told(&installation, &proxies, out, WRITTEN).await?;
    let message = ready["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("check that auth has a valid key"),
        "{message}"
    );
    let well = ("other", "1/1 serving", "Ready");
    told(&installation, &proxies, well, LIMIT).await?;

    let page: Value = http::get(&format!("{}/backends", operator.admin))
        .await?
        .json()?;
    assert_eq!(
        (&page["replicas"], &page["reporting"]),
        (&json!(2), &json!(2))
    );
    let [other, sim] = &page["deployments"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
    else {
        panic!("two deployments: {page}");
    };
    assert_eq!(
        (&other["state"], &other["proxies"]["have"]),
        (&json!("In"), &json!(2))
    );
    assert_eq!(
        (&sim["state"], &sim["proxies"]["have"]),
        (&json!("Out"), &json!(0))
    );
    assert_eq!(sim["reason"], "CredentialRefused");

    let delete = http::request("DELETE".parse()?, &faults, &[], String::new()).await?;
    ensure!(delete.status == 204, "{}", delete.text());
    // Another key is tried at once, without a wait for the next probe.
    installation.sim.take_only(&[SIM_KEY, "second-key"]).await?;
    let second = GOOD.replace("api-key: sim-key", "api-key: second-key");
    let mut documents = second.split("---");
    let secret = documents.find(|one| one.contains("second-key"));
    installation.apply(secret.context("the Secret")?).await?;
    let well = ("sim", "1/1 serving", "Ready");
    told(&installation, &proxies, well, WRITTEN).await?;
    Ok(())
}
