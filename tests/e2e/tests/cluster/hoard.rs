//! Tenants with large Secrets: the operator keeps what it needs of them, and finds the rest again when an
//! AIBackend comes to refer to it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{ControlPlane, Process, peak_of, resident_of};

use crate::installation::{GOOD, Installation, LIMIT};

/// The namespace of the tenant.
const TENANT: &str = "hoard-tenant";

/// Large Secrets of each sort.
const EACH: usize = 30;

/// Their size: the most that the API server takes is 1 MiB in all.
const SIZE: usize = 1_000_000;

/// Secrets in one request: it has a limit, too.
const BATCH: usize = 8;

/// What an operator may have more in memory for all of them, at any time. They are 90 MB.
const ALLOWED: usize = 40_000_000;

/// An AIBackend that takes its key from entry `ENTRY` of a large Secret.
const BACKEND: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: SIM
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: opaque-0, key: ENTRY}}}
  deployments: [{name: gpt-4o, model: gpt-4o}]
";

/// A Secret of a megabyte; of the sort `keyed`, with the key of a consumer.
fn large(sort: &str, number: usize) -> Value {
    let mut entries = BTreeMap::from([
        ("bulk", "x".repeat(SIZE)),
        ("good", "sim-key".to_owned()),
        ("bad", "another-key".to_owned()),
    ]);
    let mut labels = BTreeMap::new();
    if sort == "keyed" {
        entries.insert("key", format!("tenant-{number}"));
        labels.insert("tundish.dev/keys", "chat");
    }
    let kind = if sort == "release" {
        "helm.sh/release.v1"
    } else {
        "Opaque"
    };
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": entries,
        "metadata": {"name": format!("{sort}-{number}"), "namespace": TENANT, "labels": labels},
    })
}

async fn hoard(installation: &Installation) -> Result<()> {
    let sorts = ["opaque", "keyed", "release"];
    let all = sorts
        .iter()
        .flat_map(|sort| (0..EACH).map(|number| large(sort, number)));
    let all: Vec<Value> = all.collect();
    for batch in all.chunks(BATCH) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": batch});
        let file = installation.folder().join("batch.json");
        std::fs::write(&file, list.to_string())?;
        let path = file.to_str().context("the path is text")?;
        installation
            .plane
            .kubectl(&["create", "-f", path])
            .await?
            .success()?;
    }
    Ok(())
}

/// The memory of an operator at present, if it stays within bounds.
fn kept(what: &str, operator: &Process, before: usize) -> Result<()> {
    let (now, peak) = (resident_of(operator)?, peak_of(operator)?);
    ensure!(
        peak < before + ALLOWED,
        "{what}: {peak} bytes at most, {now} now, {before} without"
    );
    Ok(())
}

#[tokio::test]
async fn an_operator_keeps_of_secrets_what_it_needs_and_finds_what_is_referred_to_later()
-> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.namespace(TENANT, &[]).await?;
    let values = [format!("watch.namespaces={{{TENANT}}}")];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut installation = Installation::prepare_with(plane, "hoard", &[], &values).await?;
    installation.watched = vec![TENANT];
    let follower = installation.operator(0).await?;
    let without = peak_of(&follower.process)?;

    hoard(&installation).await?;
    let later = installation.operator(1).await?;
    kept("one that watched them come", &follower.process, without)?;
    kept("one that found them", &later.process, without)?;

    let [first, second] = installation.proxies().await?;
    // A key that was kept, and entries of another Secret that were not until they are referred to.
    installation.namespace = TENANT.to_owned();
    let route = GOOD.rsplit("---").next().context("it has a route")?;
    installation.apply(route).await?;
    for (entry, status) in [("good", 200), ("bad", 502), ("good", 200)] {
        installation.apply(&BACKEND.replace("ENTRY", entry)).await?;
        for proxy in [&first, &second] {
            proxy.answers(("tenant-3", "gpt-4o"), status, LIMIT).await?;
        }
    }
    // A Secret that is referred to has new contents.
    let patch = json!({"stringData": {"good": "another-key"}}).to_string();
    installation
        .kubectl(&["patch", "secret", "opaque-0", "-p", &patch])
        .await?
        .success()?;
    first.answers(("tenant-3", "gpt-4o"), 502, LIMIT).await?;

    // Each in turn is referred to in full: none stays.
    for number in 0..EACH {
        let backend = BACKEND.replace("opaque-0", &format!("opaque-{number}"));
        installation
            .apply(&backend.replace("ENTRY", "bulk"))
            .await?;
    }
    // An API key of a megabyte is none, so the last one is in no table; a further change shows that it was read.
    installation.apply(&BACKEND.replace("ENTRY", "api")).await?;
    installation
        .wait("aib/sim", "condition=ResolvedRefs=False")
        .await?;
    kept("one that watched", &follower.process, without)?;
    kept("the other", &later.process, without)
}
