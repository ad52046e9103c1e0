//! From `kubectl apply` to both proxies: what is enforced, told, refused, and left alone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{ControlPlane, eventually_ok, http, paths, workspace};

use crate::gitops::know_external_secrets;
use crate::installation::{ANN, GOOD, INTERN, INTERNS, Installation, LIMIT, SOON, route};
use crate::load::Load;

#[tokio::test]
async fn what_kubectl_applies_is_enforced_by_both_proxies_and_told_in_the_status() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("enforced", &[]).await?;
    for proxy in &proxies {
        // Without a route it knows no consumer.
        let before = proxy.ask(ANN, "gpt-4o").await?;
        assert_eq!(before.status, 401, "{}", before.text());
    }
    installation.apply(GOOD).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, SOON).await?;
        assert_eq!(proxy.ask("guessed", "gpt-4o").await?.status, 401);
        assert_eq!(proxy.ask(ANN, "gpt-5").await?.status, 404);
    }
    installation.apply(&route("next", "gpt-5", "sim")).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-5"), 200, SOON).await?;
    }
    for object in ["aib/sim", "air/chat"] {
        installation.wait(object, "condition=Ready").await?;
    }
    let route = installation.get("air/chat").await?;
    assert_eq!(route["status"]["programmed"], "all");
    assert_eq!(route["status"]["observedGeneration"], 1);
    let conditions = route["status"]["conditions"].as_array().context("none")?;
    for wanted in ["Accepted", "ResolvedRefs", "Programmed", "Ready"] {
        let found = conditions.iter().find(|one| one["type"] == wanted);
        let found = found.with_context(|| format!("no {wanted}: {conditions:?}"))?;
        assert_eq!(found["status"], "True", "{found}");
        assert_eq!(found["observedGeneration"], 1, "{found}");
    }
    let columns = installation.kubectl(&["get", "tundish"]).await?.success()?;
    assert!(columns.contains("all"), "{columns}");

    // What is deleted is refused as soon.
    let delete = ["delete", "airoute", "next", "--wait=false"];
    installation.kubectl(&delete).await?.success()?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-5"), 404, SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_object_is_refused_or_told_and_disturbs_nobody() -> Result<()> {
    let (installation, operator, proxies) = Installation::start("bad-objects", &[]).await?;
    installation.apply(GOOD).await?;
    for proxy in &proxies {
        proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    }
    let mut load = Load::start(&proxies);

    // What one object can tell, the API server refuses, with the field.
    let negative = route("negative", "gpt-5", "sim").replace(
        "\"deployment\":\"gpt-4o\"",
        "\"deployment\":\"gpt-4o\",\"weight\":-1",
    );
    let refused = installation.try_apply(&negative).await?.failure()?;
    assert!(
        refused.contains("spec.rules[0].backendRefs[0].weight"),
        "{refused}"
    );
    let misspelled = route("misspelled", "gpt-5", "sim").replace("backendRefs", "backends");
    let refused = installation.try_apply(&misspelled).await?.failure()?;
    assert!(refused.contains("spec.rules[0].backends"), "{refused}");

    // A missing reference shows in a condition, in one event, and to the client.
    installation
        .apply(&route("broken", "gpt-5", "missing"))
        .await?;
    installation
        .wait("air/broken", "condition=ResolvedRefs=false")
        .await?;
    let broken = installation.get("air/broken").await?;
    let conditions = broken["status"]["conditions"].as_array().context("none")?;
    let resolved = conditions.iter().find(|one| one["type"] == "ResolvedRefs");
    let resolved = resolved.context("no ResolvedRefs")?;
    assert_eq!(resolved["reason"], "BackendNotFound", "{resolved}");
    let message = resolved["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("spec.rules[0].backendRefs[0]"),
        "{message}"
    );
    eventually_ok("the event", LIMIT, async || {
        let selector = "--field-selector=involvedObject.name=broken,type=Warning";
        let events = ["get", "events", selector, "-o", "name"];
        let events = installation.kubectl(&events).await?.success()?;
        ensure!(events.lines().count() == 1, "there is {events:?}");
        Ok(())
    })
    .await?;
    for proxy in &proxies {
        // It keeps what it matches, and answers an error: nothing broader takes its traffic.
        let answer = proxy.ask(ANN, "gpt-5").await?;
        assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
    }

    load.goes_on(100).await?;
    load.end().await?;
    // The rights that the chart gives were enough for all of this.
    let log = operator.process.log().to_lowercase();
    assert!(!log.contains("forbidden"), "{log}");
    Ok(())
}

/// Runs a client of `tests/e2e/clients` and reads what it saw.
async fn client(program: &Path, script: &str, gateway: &str) -> Result<Value> {
    let clients = paths::clients()?;
    let script = workspace().join("tests/e2e/clients").join(script);
    let mut command = tokio::process::Command::new(program);
    command.current_dir(clients).arg(script);
    command.args([gateway, ANN, INTERN, "gpt-4o"]);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).context("read what the client saw")
}

#[tokio::test]
async fn the_official_sdks_answer_stream_and_understand_the_quota() -> Result<()> {
    let (installation, _operator, proxies) = Installation::start("sdks", &[]).await?;
    installation.apply(&format!("{GOOD}---{INTERNS}")).await?;
    installation.wait("aiq/interns", "condition=Ready").await?;
    installation.wait("air/chat", "condition=Ready").await?;
    let python = paths::clients()?.join("venv/bin/python");
    let runs = [
        (python.as_path(), "openai_client.py", 5),
        (Path::new("node"), "openai_client.mjs", 2),
    ];
    // Each on a replica of its own: the part of the other one is not touched.
    for (proxy, (program, script, count)) in proxies.iter().zip(runs) {
        let seen = client(program, script, &proxy.url).await?;
        let each = seen["clients"].as_object().context("no clients")?;
        assert_eq!(each.len(), count, "{seen}");
        for (name, one) in each {
            let answer = one["answer"].as_str().context("no answer")?;
            assert!(answer.contains("tundish"), "{name}: {one}");
            assert_eq!(one["stream"], answer, "{name}: the stream says the same");
        }
        let spent = &seen["spent"];
        assert_eq!(spent["class"], "RateLimitError", "{seen}");
        assert_eq!(spent["status"], 429, "{seen}");
        assert_eq!(spent["param"], "sdks/interns/four-a-minute", "{seen}");
        let wait = spent["retry_after"].as_str().context("no retry-after")?;
        assert!((1..=68).contains(&wait.parse::<u64>()?), "{wait}");
        assert_eq!(seen["wrong key"]["class"], "AuthenticationError", "{seen}");
        assert_eq!(seen["unknown model"]["class"], "NotFoundError", "{seen}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_whole_when_its_proxy_is_told_to_stop() -> Result<()> {
    // Three seconds of a stream.
    let slow = ["--completion-tokens", "60", "--token-interval", "50ms"];
    let (installation, _operator, [mut proxy, other]) = Installation::start("drain", &slow).await?;
    installation.apply(GOOD).await?;
    proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    let body = json!({
        "model": "gpt-4o",
        "stream": true,
        "messages": [{"role": "user", "content": "What is a tundish?"}],
    });
    let url = format!("{}/v1/chat/completions", proxy.url);
    let mut stream = http::stream_json(&url, &[("api-key", ANN)], body.to_string()).await?;
    assert_eq!(stream.status, 200);
    let first = stream.next().await?.context("an empty stream")?;
    proxy.process.ask_to_stop()?;
    eventually_ok("the proxy to take no more connections", LIMIT, async || {
        ensure!(http::get(&proxy.url).await.is_err(), "it does");
        Ok(())
    })
    .await?;
    let rest = stream.whole().await?;
    let text = format!("{}{}", String::from_utf8_lossy(&first.bytes), rest.text());
    assert_eq!(text.matches("\"content\":").count(), 61, "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(proxy.process.wait(LIMIT).await?.success());
    // It is no longer counted, and the other one goes on.
    other.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    installation
        .wait("air/chat", "jsonpath={.status.programmed}=all")
        .await
}

#[tokio::test]
async fn every_example_is_accepted_by_the_api_server() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let installation = Installation::prepare(plane, "examples", &[]).await?;
    let plane = &installation.plane;
    know_external_secrets(plane).await?;
    let mut applied = Vec::new();
    for folder in std::fs::read_dir(workspace().join("examples"))? {
        let folder = folder?.path();
        for file in std::fs::read_dir(&folder)? {
            let file = file?.path();
            if file.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let manifests = std::fs::read_to_string(&file)?;
            let named = manifests
                .lines()
                .find_map(|line| line.trim().strip_prefix("namespace: "));
            let own = folder.file_name().and_then(|name| name.to_str());
            let own = format!("example-{}", own.context("the name is not text")?);
            let namespace = named.unwrap_or(&own);
            installation.plane.namespace(namespace, &[]).await?;
            let path = file.to_str().context("the path is not text")?;
            let apply = ["apply", "--server-side", "--validate=strict"];
            let apply = [&apply, ["-n", namespace, "-f", path].as_slice()].concat();
            installation.plane.kubectl(&apply).await?.success()?;
            applied.push(path.to_owned());
        }
    }
    for wanted in [
        "quickstart/route.yaml",
        "cluster/route.yaml",
        "keys/external-secrets.yaml",
    ] {
        let found = applied.iter().any(|path| path.ends_with(wanted));
        assert!(found, "{wanted} is not among {applied:?}");
    }
    Ok(())
}
