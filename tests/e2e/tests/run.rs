//! `tundish run` and `tundish check` as a newcomer meets them: the quickstart, the official SDKs, and
//! a folder that changes under load.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, binary, eventually, http, paths, workspace};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(20);

async fn ask(quickstart: &Quickstart, key: &str) -> Result<http::Answer> {
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    http::post_json(
        &quickstart.chat_url(),
        &[("api-key", key)],
        body.to_string(),
    )
    .await
}

/// Runs a client of `tests/e2e/clients` and reads what it saw.
async fn client(program: &Path, folder: &Path, script: &str, gateway: &str) -> Result<Value> {
    let arguments = [gateway, "search-team-key", "intern-key", "gpt-5"];
    script_of(program, folder, script, &arguments).await
}

async fn script_of(
    program: &Path,
    folder: &Path,
    script: &str,
    arguments: &[&str],
) -> Result<Value> {
    let script = workspace().join("tests/e2e/clients").join(script);
    let mut command = tokio::process::Command::new(program);
    command.current_dir(folder).arg(script).args(arguments);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[expect(
    clippy::indexing_slicing,
    reason = "JSON of a test: what is missing reads as null"
)]
fn check_client(seen: &Value, clients: usize) {
    let each = seen["clients"].as_object().expect("clients");
    assert_eq!(each.len(), clients);
    for (name, one) in each {
        assert!(
            one["answer"]
                .as_str()
                .is_some_and(|text| text.contains("tundish")),
            "{name}: {one}"
        );
        assert_eq!(
            one["stream"], one["answer"],
            "{name}: the stream says the same"
        );
        assert_eq!(
            one["usage_chunks"], 0,
            "{name}: the client did not ask for usage"
        );
    }
    let spent = &seen["spent"];
    assert_eq!(
        (&spent["class"], &spent["status"]),
        (&json!("RateLimitError"), &json!(429))
    );
    assert_eq!(spent["code"], "rate_limited");
    assert_eq!(spent["param"], "default/interns/two-a-minute");
    let wait: u64 = spent["retry_after"]
        .as_str()
        .and_then(|s| s.parse().ok())
        .expect("a wait");
    assert!((1..=68).contains(&wait), "{wait}");
    assert_eq!(seen["wrong key"]["class"], "AuthenticationError");
    assert_eq!(seen["wrong key"]["code"], "invalid_credential");
    assert_eq!(seen["unknown model"]["class"], "NotFoundError");
    assert_eq!(seen["unknown model"]["code"], "model_not_found");
}

#[tokio::test]
async fn the_python_sdk_works_unchanged() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let clients = paths::clients()?;
    let python = clients.join("venv/bin/python");
    let seen = client(&python, &clients, "openai_client.py", &quickstart.gateway).await?;
    check_client(&seen, 5);
    assert_eq!(seen["usage_when_asked"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        seen["models"],
        json!([
            "claude-sonnet-5-5",
            "gpt-5",
            "gpt-5-mini",
            "text-embedding-3-large"
        ])
    );

    // What was counted is what Foundry billed, to the token. The older API version, which tells no
    // usage in streams, is the exception: one estimate, which is marked and not below the truth.
    let billed: Value = http::get(&format!("{}/_sim/billed", quickstart.sim))
        .await?
        .json()?;
    let metrics = http::get(&format!("{}/metrics", quickstart.admin))
        .await?
        .text();
    let output: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("tundish_tokens_total") && line.contains("\"output\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum();
    let truth = billed["deployments"]["gpt-5"]["completion_tokens"]
        .as_u64()
        .context("billed")?;
    assert!(
        (truth..truth + 8).contains(&output),
        "{output} counted, {truth} billed"
    );
    assert!(
        metrics.contains("tundish_settlements_total{kind=\"estimated\"} 1\n"),
        "{metrics}"
    );
    Ok(())
}

/// What a counter of the gateway has come to, over all of its labels that contain `label`.
fn sum_of(metrics: &str, counter: &str, label: &str) -> u64 {
    let lines = metrics.lines();
    lines
        .filter(|line| line.starts_with(counter) && line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn the_ledger_and_the_bill_agree_to_the_token() -> Result<()> {
    const CALLS: u64 = 1_000;
    // Without limits: a refused call is no entry in any ledger.
    let quickstart = Quickstart::start(&[("quota.yaml", "")]).await?;
    // One call in ten is answered later than its caller waits.
    let slow = json!([{"deployment": "gpt-5-mini", "delay_ms": 500}]);
    let faults = format!("{}/_sim/faults", quickstart.sim);
    http::request(::http::Method::PUT, &faults, &[], slow.to_string()).await?;
    let clients = paths::clients()?;
    let python = clients.join("venv/bin/python");
    let calls = CALLS.to_string();
    let arguments = [&quickstart.gateway, "search-team-key", &calls, "gpt-5"];
    let seen = script_of(&python, &clients, "ledger_client.py", &arguments).await?;
    eventually("every call is settled", LIMIT, async || {
        let metrics = http::get(&format!("{}/metrics", quickstart.admin))
            .await
            .ok()?;
        let in_flight = sum_of(&metrics.text(), "tundish_in_flight_requests", "");
        (in_flight == 0).then_some(())
    })
    .await?;
    let metrics = http::get(&format!("{}/metrics", quickstart.admin))
        .await?
        .text();
    let billed: Value = http::get(&format!("{}/_sim/billed", quickstart.sim))
        .await?
        .json()?;
    let billed = |class: &str| -> u64 {
        let deployments = billed.get("deployments").and_then(Value::as_object);
        let deployments = deployments.into_iter().flat_map(serde_json::Map::values);
        deployments.filter_map(|one| one.get(class)?.as_u64()).sum()
    };
    let settled = |kind: &str| {
        let label = format!("token_type=\"{kind}\"");
        sum_of(&metrics, "tundish_tokens_total", &label)
    };
    println!(
        "{seen}: settled {} + {}, billed {} + {}",
        settled("input"),
        settled("output"),
        billed("prompt_tokens"),
        billed("completion_tokens")
    );
    assert_eq!(settled("input"), billed("prompt_tokens"));
    assert_eq!(settled("output"), billed("completion_tokens"));
    let measured = sum_of(&metrics, "tundish_settlements_total", "measured");
    assert_eq!(
        measured,
        sum_of(&metrics, "tundish_requests_total", ""),
        "{metrics}"
    );
    // On a busy machine a client that gives up may do so before it has sent.
    assert!(
        measured > CALLS * 9 / 10,
        "{measured} of {CALLS} calls came"
    );
    Ok(())
}

#[tokio::test]
async fn the_node_sdk_works_unchanged() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let clients = paths::clients()?;
    let node = Path::new("node");
    let seen = client(node, &clients, "openai_client.mjs", &quickstart.gateway).await?;
    check_client(&seen, 2);
    Ok(())
}

#[tokio::test]
async fn a_change_on_disk_is_in_force_within_a_second_and_drops_no_request() -> Result<()> {
    let quickstart = Arc::new(Quickstart::start(&[]).await?);
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (quickstart, stop, answered) = (
            Arc::clone(&quickstart),
            Arc::clone(&stop),
            Arc::clone(&answered),
        );
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&quickstart, "search-team-key").await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    let consumers = quickstart.manifests().join("consumers.yaml");
    let original = std::fs::read_to_string(&consumers)?;
    for turn in 0..5 {
        let key = format!("key-of-turn-{turn}");
        assert_eq!(ask(&quickstart, &key).await?.status, 401);
        std::fs::write(&consumers, original.replace("intern-key", &key))?;
        eventually("the new key is taken", Duration::from_secs(1), async || {
            (ask(&quickstart, &key).await.ok()?.status != 401).then_some(())
        })
        .await
        .with_context(|| format!("turn {turn}"))?;
    }
    // A malformed file changes nothing, and its line is logged.
    std::fs::write(
        quickstart.manifests().join("route.yaml"),
        "kind: AIRoute\nspec: [",
    )?;
    eventually("the mistake is logged", LIMIT, async || {
        quickstart.run.log().contains("route.yaml:2").then_some(())
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    assert!(answered.load(Ordering::Relaxed) > 20);
    Ok(())
}

#[tokio::test]
async fn check_tells_file_line_field_and_fix_and_exits_with_1() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let check = || {
        Command::new(binary("tundish").expect("built"))
            .arg("check")
            .arg(folder.path())
            .output()
    };
    let nothing = check()?;
    assert_eq!(nothing.status.code(), Some(1));
    let source = workspace().join("examples/quickstart");
    for name in ["backend.yaml", "route.yaml", "quota.yaml", "consumers.yaml"] {
        std::fs::copy(source.join(name), folder.path().join(name))?;
    }
    let good = check()?;
    assert_eq!(
        good.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&good.stdout)
    );
    let route = std::fs::read_to_string(source.join("route.yaml"))?;
    std::fs::write(
        folder.path().join("route.yaml"),
        route.replace("name: foundry", "name: fuondry"),
    )?;
    let bad = check()?;
    assert_eq!(bad.status.code(), Some(1));
    let told = String::from_utf8(bad.stdout)?;
    let line = told
        .lines()
        .find(|line| line.contains("fuondry"))
        .context("told")?;
    assert!(line.starts_with("route.yaml:16: error: "), "{line}");
    assert!(line.contains("spec.rules[0].backendRefs[0].name"), "{line}");
    Ok(())
}

#[test]
fn every_binary_explains_itself_and_wrong_usage_exits_with_64() -> Result<()> {
    for name in [
        "tundish",
        "tundish-operator",
        "tundish-proxy",
        "foundry-sim",
    ] {
        let exit = |args: &[&str]| -> Result<(Option<i32>, String)> {
            let output = Command::new(binary(name)?).args(args).output()?;
            Ok((output.status.code(), String::from_utf8(output.stdout)?))
        };
        let (code, help) = exit(&["--help"])?;
        assert_eq!(code, Some(0), "{name}");
        assert!(help.len() > 200, "{name}: {help}");
        let (code, version) = exit(&["--version"])?;
        assert_eq!(
            (code, version.trim()),
            (Some(0), format!("{name} 0.1.0").as_str())
        );
        assert_eq!(exit(&["--no-such-flag"])?.0, Some(64), "{name}");
    }
    let missing = Command::new(binary("tundish")?)
        .args([
            "run",
            "--manifests",
            "/no/such/folder",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ])
        .output()?;
    assert_eq!(missing.status.code(), Some(1));
    Ok(())
}
