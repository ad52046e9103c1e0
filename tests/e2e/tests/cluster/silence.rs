//! Proxies that come, go, and fall silent while their pods are there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{ControlPlane, Process, eventually_ok, http};

use crate::installation::{ANN, GOOD, INTERN, INTERNS, Installation, LIMIT, SOON, Token, route};
use crate::parts::Proxy;

/// The label of the pods that stand for those of the chart.
const SELECTOR: &str = "tundish.dev/part=proxy";

/// A proxy of the chart's, and the pod that it is in.
struct InPod {
    proxy: Proxy,
    pod: String,
}

/// A pod that runs and is ready; what is in it is a process of the test. Gives its uid.
async fn pod(installation: &Installation, name: &str) -> Result<String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"tundish.dev/part": "proxy"}},
        "spec": {"containers": [{"name": "proxy", "image": "registry.invalid/tundish:1"}]},
    });
    let account = [
        "wait",
        "--for=create",
        "serviceaccount/default",
        "--timeout=30s",
    ];
    installation.kubectl(&account).await?.success()?;
    installation.apply(&pod.to_string()).await?;
    let object = format!("pod/{name}");
    installation.wait(&object, "condition=Ready").await?;
    let pod = installation.get(&object).await?;
    let uid = pod.pointer("/metadata/uid").and_then(Value::as_str);
    Ok(uid.context("the pod has no uid")?.to_owned())
}

async fn in_pod(installation: &Installation, pod_name: &str) -> Result<InPod> {
    let uid = pod(installation, pod_name).await?;
    let mut proxy = installation.proxy(&uid, &Token::Own).await?;
    proxy.ready().await?;
    Ok(InPod {
        proxy,
        pod: pod_name.to_owned(),
    })
}

/// Waits until the operator counts this number of proxies in a state.
async fn counts(admin: &str, state: &str, expected: f64) -> Result<()> {
    let what = format!("{expected} proxies to be {state}");
    let line = format!("tundish_operator_proxies{{state=\"{state}\"}}");
    eventually_ok(&what, LIMIT, async || {
        let found = metric(admin, &line).await?;
        ensure!(found.to_bits() == expected.to_bits(), "there are {found}");
        Ok(())
    })
    .await
}

async fn metric(admin: &str, name: &str) -> Result<f64> {
    let page = http::get(&format!("{admin}/metrics")).await?.text();
    let lines = page.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next());
    values
        .map(|value| value.parse::<f64>().context("read a metric"))
        .sum()
}

fn condition(object: &Value, name: &str) -> Value {
    let conditions = object.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array);
    let mut found = conditions.into_iter().flatten();
    found
        .find(|one| one.get("type").is_some_and(|word| word == name))
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn a_silent_proxy_counts_and_keeps_its_part_until_its_pod_is_gone() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    let mut installation = Installation::prepare(plane, "silence", &[]).await?;
    installation
        .environment
        .push(("TUNDISH_PROXY_PODS", SELECTOR.to_owned()));
    let operator = installation.operator(0).await?;
    let first = in_pod(&installation, "proxy-a").await?;
    let second = in_pod(&installation, "proxy-b").await?;
    installation.apply(&format!("{GOOD}---{INTERNS}")).await?;
    for object in ["air/chat", "aiq/interns"] {
        installation.wait(object, "condition=Ready").await?;
    }
    counts(&operator.admin, "current", 2.0).await?;
    assert_eq!(
        installation.get("air/chat").await?["status"]["programmed"],
        "all"
    );
    let writes = metric(&operator.admin, "tundish_operator_status_writes").await?;

    // A third one rewrites no status, coming or going.
    let third = in_pod(&installation, "proxy-c").await?;
    counts(&operator.admin, "current", 3.0).await?;
    gone(&installation, third).await?;
    counts(&operator.admin, "current", 2.0).await?;
    let after = metric(&operator.admin, "tundish_operator_status_writes").await?;
    assert_eq!(
        after.to_bits(),
        writes.to_bits(),
        "{writes} writes became {after}"
    );

    // One that is gone without a goodbye, while its pod runs.
    second.proxy.process.kill();
    counts(&operator.admin, "silent", 1.0).await?;
    installation.apply(&route("next", "gpt-5", "sim")).await?;
    first.proxy.answers((ANN, "gpt-5"), 200, SOON).await?;
    let behind = "jsonpath={.status.programmed}=1/2";
    installation.wait("air/next", behind).await?;
    let next = installation.get("air/next").await?;
    let programmed = condition(&next, "Programmed");
    assert_eq!(programmed["status"], "False", "{programmed}");
    assert_eq!(programmed["reason"], "ProxiesBehind", "{programmed}");
    let message = programmed["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("in force on 1 of 2 proxies; proxy proxy-b silent since 20"),
        "{message}"
    );
    assert_eq!(condition(&next, "Ready")["reason"], "ProxiesBehind");
    // What it has is in force.
    assert_eq!(
        installation.get("air/chat").await?["status"]["programmed"],
        "all"
    );
    // Two of four a minute are its part.
    for status in [200, 200, 429] {
        let answer = first.proxy.ask(INTERN, "gpt-4o").await?;
        assert_eq!(answer.status, status, "{}", answer.text());
    }

    // Also for an operator that has never heard of it.
    let other = installation.operator(1).await?;
    counts(&other.admin, "silent", 1.0).await?;

    let delete = ["delete", "pod", &second.pod, "--force", "--grace-period=0"];
    installation.kubectl(&delete).await?.success()?;
    for admin in [&operator.admin, &other.admin] {
        counts(admin, "silent", 0.0).await?;
    }
    installation.wait("air/next", "condition=Ready").await?;
    Ok(())
}

/// Ends a proxy as a rollout does: its pod is being deleted before it is asked to stop.
async fn gone(installation: &Installation, one: InPod) -> Result<()> {
    let delete = ["delete", "pod", &one.pod, "--force", "--grace-period=0"];
    installation.kubectl(&delete).await?.success()?;
    let ended = one.proxy.process.terminate(LIMIT).await?;
    ensure!(ended.success(), "it ended with {ended}");
    Ok(())
}

/// Waits until a log has a line with all these words.
async fn says(process: &Process, words: &[&str], limit: Duration) -> Result<()> {
    eventually_ok(&format!("a line with {words:?}"), limit, async || {
        let log = process.log();
        let found = log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(found, "it is {log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_proxy_without_operators_says_so_and_leaves_the_balancer_if_it_should() -> Result<()> {
    const AGE: Duration = Duration::from_secs(35);
    let plane = ControlPlane::shared().await?;
    let mut installation = Installation::prepare(plane, "no-contact", &[]).await?;
    let operator = installation.operator(0).await?;
    let age = AGE.as_secs().to_string();
    installation
        .environment
        .push(("TUNDISH_MAX_TABLE_AGE", age));
    let mut proxy = installation.proxy("proxy-0", &Token::Own).await?;
    proxy.ready().await?;
    installation.apply(GOOD).await?;
    proxy.answers((ANN, "gpt-4o"), 200, LIMIT).await?;
    operator.process.kill();

    let limit = AGE + LIMIT;
    says(
        &proxy.process,
        &["WARN", "no operator is in contact"],
        limit,
    )
    .await?;
    says(&proxy.process, &["WARN", "out of reach", "refused"], limit).await?;
    eventually_ok("the proxy to be unready", limit, async || {
        let ready = http::get(&format!("{}/readyz", proxy.admin)).await?;
        ensure!(ready.status == 503, "{}: {}", ready.status, ready.text());
        Ok(())
    })
    .await?;
    assert_eq!(
        proxy.metric("tundish_table_stale").await?.to_bits(),
        1.0_f64.to_bits()
    );
    // Clients that are still there are served.
    assert_eq!(proxy.ask(ANN, "gpt-4o").await?.status, 200);

    let _operator = installation.operator(0).await?;
    says(
        &proxy.process,
        &["INFO", "an operator answers again"],
        LIMIT,
    )
    .await?;
    says(
        &proxy.process,
        &["INFO", "in contact with an operator again"],
        LIMIT,
    )
    .await?;
    proxy.ready().await
}
