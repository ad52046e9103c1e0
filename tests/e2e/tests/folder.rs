//! The folder of manifests, as `tundish run` follows it and `tundish check` reads it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_support::{Process, Quickstart, binary, eventually, free_port, http, workspace};

const LIMIT: Duration = Duration::from_secs(20);

async fn status(quickstart: &Quickstart) -> Result<u16> {
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let key = [("api-key", "search-team-key")];
    let answer = http::post_json(&quickstart.chat_url(), &key, body.to_string()).await?;
    // The key is good; the quota is another matter.
    Ok(if answer.status == 429 {
        200
    } else {
        answer.status
    })
}

/// Calls during this time; no key may be refused.
async fn stays_good(quickstart: &Quickstart, span: Duration) -> Result<()> {
    let calls = async {
        loop {
            let status = status(quickstart).await?;
            ensure!(status == 200, "status {status}");
        }
    };
    match tokio::time::timeout(span, calls).await {
        Ok(ended) => ended,
        Err(_elapsed) => Ok(()),
    }
}

fn move_manifests(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        std::fs::rename(&path, to.join(path.file_name().context("a name")?))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_emptied_or_deleted_folder_keeps_the_last_table() -> Result<()> {
    let mut quickstart = Quickstart::start(&[]).await?;
    let manifests = quickstart.manifests();
    let aside = tempfile::tempdir_in(manifests.parent().context("a parent")?)?;
    for problem in ["the folder has no manifest", "cannot read the folder"] {
        assert_eq!(status(&quickstart).await?, 200);
        move_manifests(&manifests, aside.path())?;
        if problem.starts_with("cannot") {
            std::fs::remove_dir(&manifests)?;
        }
        let line = quickstart.run.wait_for_line(problem, LIMIT).await?;
        assert!(line.contains("WARN") && line.contains("keeping"), "{line}");
        // Longer than a removed file is waited for.
        stays_good(&quickstart, Duration::from_secs(3)).await?;
        std::fs::create_dir_all(&manifests)?;
        move_manifests(aside.path(), &manifests)?;
        let back = "the folder of manifests is back";
        let times = if problem.starts_with("cannot") { 2 } else { 1 };
        eventually("the folder is back", LIMIT, async || {
            (quickstart.run.log().matches(back).count() == times).then_some(())
        })
        .await?;
    }
    let log = quickstart.run.log();
    assert_eq!(log.matches("keeping what is in force").count(), 2, "{log}");
    assert_eq!(log.matches("table in force").count(), 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn half_a_checkout_revokes_no_one_and_a_removed_file_does() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let consumers = quickstart.manifests().join("consumers.yaml");
    let text = std::fs::read_to_string(&consumers)?;
    // As a checkout does it: the files go, and come back one by one.
    for path in ["consumers.yaml", "route.yaml"].map(|name| quickstart.manifests().join(name)) {
        let text = std::fs::read_to_string(&path)?;
        std::fs::remove_file(&path)?;
        stays_good(&quickstart, Duration::from_secs(1)).await?;
        std::fs::write(&path, "")?;
        assert_eq!(status(&quickstart).await?, 200);
        std::fs::write(&path, text)?;
    }
    // A file that is renamed is the same objects, not twice.
    let renamed = quickstart.manifests().join("keys.yaml");
    std::fs::rename(&consumers, &renamed)?;
    std::fs::write(&renamed, format!("{text}# renamed\n"))?;
    let log = quickstart.run.log();
    assert!(!log.contains("is already in"), "{log}");
    assert_eq!(status(&quickstart).await?, 200);
    std::fs::remove_file(&renamed)?;
    eventually("the keys are revoked", LIMIT, async || {
        (status(&quickstart).await.ok()? == 401).then_some(())
    })
    .await?;
    let log = quickstart.run.log();
    assert!(!log.contains("is already in"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_folder_without_manifests_at_the_start_is_not_ready() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(binary("tundish")?);
    command.args(["run", "--listen", &listen, "--admin", &admin, "--manifests"]);
    command.arg(&manifests);
    let mut run = Process::spawn("empty", &mut command, folder.path())?;
    run.wait_for_line("not ready before it has", LIMIT).await?;
    let ready = format!("http://{admin}/readyz");
    run.wait_for_http(&format!("http://{admin}/livez"), LIMIT)
        .await?;
    assert_eq!(http::get(&ready).await?.status, 503);
    let answer = http::get(&format!("http://{listen}/v1/models")).await?;
    assert_eq!(answer.status, 503, "{}", answer.text());
    for name in ["backend.yaml", "route.yaml", "quota.yaml", "consumers.yaml"] {
        let source = workspace().join("examples/quickstart").join(name);
        std::fs::copy(source, manifests.join(name))?;
    }
    run.wait_for_http(&ready, LIMIT).await
}

/// The exit code of `tundish check`, and what it prints.
fn check(folder: &Path, more: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binary("tundish")?);
    let output = command.arg("check").arg(folder).args(more).output()?;
    let told = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.code(), told))
}

const BACKEND: &str = r#"{"apiVersion": "tundish.dev/v1alpha1", "kind": "AIBackend",
  "metadata": {"name": "b"},
  "spec": {"type": "Foundry", "endpoint": "https://b.example",
    "auth": {"type": "APIKey", "apiKey": {"secretRef": {"name": "b"}}},
    "deployments": [{"name": "m", "model": "m"}]}}"#;
const SECRET: &str = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"},
  "stringData": {"api-key": "k"}}"#;

#[test]
fn check_reads_lists_and_json() -> Result<()> {
    let list = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{BACKEND},\n{SECRET}]}}"
    );
    for (name, text) in [
        ("all.yaml", list.clone()),
        ("all.json", list),
        ("all.json", format!("{BACKEND}\n---\n{SECRET}\n")),
    ] {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(name), &text)?;
        let (code, told) = check(folder.path(), &[])?;
        assert_eq!(code, Some(0), "{told}");
        let expect = "1 backends, 0 routes, 0 quotas, 0 keys usable; 0 errors, 0 warnings";
        assert!(told.contains(expect), "{told}");
        // A mistake in an item has its line.
        std::fs::write(
            folder.path().join(name),
            text.replace("\"api-key\"", "\"x\""),
        )?;
        let (code, told) = check(folder.path(), &[])?;
        assert_eq!(code, Some(1), "{told}");
        assert!(
            told.contains(&format!("{name}:4: error: AIBackend default/b")),
            "{told}"
        );
    }
    Ok(())
}

#[test]
fn check_names_the_operations_that_are_served() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let route = "apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: r}
spec:
  authentication: {anonymous: {}}
  rules:
  - name: all
    matches:
    - operations: [ChatCompletions, Realtime]
    backendRefs: [{name: b, deployment: m}]
";
    let all = format!("{BACKEND}\n---\n{SECRET}\n---\n{route}");
    std::fs::write(folder.path().join("all.yaml"), all)?;
    let (code, told) = check(folder.path(), &[])?;
    assert_eq!(code, Some(0), "{told}");
    let expect = "warning: AIRoute default/r: spec.rules[0].matches[0].operations[1]: this version does \
                  not serve Realtime";
    assert!(told.contains(expect), "{told}");
    assert!(told.contains("it serves ChatCompletions"), "{told}");
    Ok(())
}

#[test]
fn check_takes_the_clusters_example_whose_secrets_are_made_elsewhere() -> Result<()> {
    let example = workspace().join("examples/cluster");
    let (code, told) = check(&example, &[])?;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("--secrets external"), "{told}");
    let (code, told) = check(&example, &["--secrets", "external"])?;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("warning: AIBackend"), "{told}");
    assert!(
        told.contains("Secret foundry-eu is not in the folder"),
        "{told}"
    );
    assert!(
        told.contains("1 backends, 1 routes, 1 quotas, 1 keys usable; 0 errors"),
        "{told}"
    );
    Ok(())
}
