//! Every API through the gateway by the clients that its users have: the official SDKs and the frameworks on
//! top of them, with their defaults. What they see is what the resource says without a gateway; what the
//! gateway counts is what the resource bills, for each consumer and class of tokens.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tests_support::{Quickstart, eventually, http, paths, workspace};
use tokio::task::JoinSet;

mod model_gateway;
mod restarts;

const MANIFESTS: &str = include_str!("manifests.yaml");
const LIMITS: &str = include_str!("limits.yaml");
const SURFACE: &str = include_str!("../../clients/surface.json");

/// More time than any of the clients needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Answers with all classes of tokens, and the keys of the manifests; `direct` is for calls without a gateway.
const SIM: &[&str] = &[
    "--api-key=resource-key-of-search;resource-key-of-ads;direct",
    "--deployment=gpt-5=gpt-5-2025-08-07,reasoning=7,cached=5",
    "--deployment=claude-sonnet-5-5,reasoning=7,cached=5,cache_write=2",
    "--deployment=text-embedding-3-large",
    "--deployment=gpt-3.5-turbo-instruct",
    "--deployment=gpt-image-2=gpt-image-2-2026-04-21",
    "--deployment=gpt-4o-mini-tts=gpt-4o-mini-tts-2025-12-15",
    "--deployment=gpt-4o-mini-transcribe=gpt-4o-mini-transcribe-2025-12-15",
    "--deployment=whisper=whisper-001",
    "--deployment=omni-moderation-latest",
];

/// A class of tokens: its name in the gateway's metric, in its log, and on the resource's bill.
const CLASSES: [[&str; 3]; 5] = [
    ["input", "input_tokens", "prompt_tokens"],
    ["cached_input", "cached_input_tokens", "cached_tokens"],
    ["cache_write", "cache_write_tokens", "cache_write_tokens"],
    ["output", "output_tokens", "completion_tokens"],
    ["reasoning", "reasoning_tokens", "reasoning_tokens"],
];

/// Runs a client of `tests/e2e/clients` to its end; its own checks decide. Returns how many passed.
async fn run(script: &str, arguments: Vec<String>) -> Result<usize> {
    let folder = paths::clients()?;
    let python = folder.join("venv/bin/python");
    let is_python = Path::new(script)
        .extension()
        .is_some_and(|kind| kind == "py");
    let program = if is_python {
        &python
    } else {
        Path::new("node")
    };
    let path = workspace().join("tests/e2e/clients").join(script);
    let mut command = tokio::process::Command::new(program);
    command.current_dir(&folder).arg(path).args(arguments);
    // What the frameworks would send home.
    command.env("LANGSMITH_TRACING", "false");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await??;
    ensure!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed: Vec<String> = serde_json::from_slice(&output.stdout)?;
    ensure!(!passed.is_empty(), "{script} checked nothing");
    Ok(passed.len())
}

/// What the gateway has counted of a class for a consumer, by its metrics and by its log.
async fn counted(quickstart: &Quickstart, consumer: &str, class: [&str; 3]) -> Result<[u64; 2]> {
    let [label, field, _] = class;
    let page = http::get(&format!("{}/metrics", quickstart.admin)).await?;
    let labels = [
        format!("consumer=\"{consumer}\""),
        format!("token_type=\"{label}\""),
    ];
    let text = page.text();
    let samples = text.lines().filter(|line| {
        line.starts_with("tundish_tokens_total{") && labels.iter().all(|one| line.contains(one))
    });
    let metric = samples
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum();
    let log = quickstart.run.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line.get("consumer").and_then(Value::as_str) == Some(consumer));
    let logged = lines
        .filter_map(|line| line.get(field).and_then(Value::as_u64))
        .sum();
    Ok([metric, logged])
}

/// What the resource has billed of a class to a key. A second of sound counts as ten tokens of input.
fn billed(bill: &Value, key: &str, class: [&str; 3]) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    let digits: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let totals = bill
        .get("keys")
        .and_then(|keys| keys.get(format!("key-{digits}")));
    let of = |name: &str| {
        let number = totals.and_then(|totals| totals.get(name));
        number.and_then(Value::as_u64).unwrap_or(0)
    };
    let of_sound = if class == CLASSES[0] {
        10 * of("seconds")
    } else {
        0
    };
    of(class[2]) + of_sound
}

#[tokio::test]
async fn every_client_sees_what_the_resource_says_and_every_token_is_counted() -> Result<()> {
    let quickstart = Quickstart::with_manifests(MANIFESTS, SIM).await?;
    let mut clients = JoinSet::new();
    for (script, consumer) in [
        ("families_openai.py", "search"),
        ("families_anthropic.py", "search"),
        ("families_frameworks.py", "ads"),
        ("families_openai.mjs", "ads"),
        ("families_ai.mjs", "ads"),
    ] {
        let key = format!("key-of-{consumer}");
        let arguments = [quickstart.gateway.as_str(), &key, &quickstart.sim, "direct"];
        clients.spawn(run(script, arguments.map(str::to_owned).to_vec()));
    }
    let mut passed = 0;
    while let Some(ended) = clients.join_next().await {
        passed += ended??;
    }

    let bill: Value = http::get(&format!("{}/_sim/billed", quickstart.sim))
        .await?
        .json()?;
    for consumer in ["search", "ads"] {
        for class in CLASSES {
            let on_bill = billed(&bill, &format!("resource-key-of-{consumer}"), class);
            // The lines of requests come within a second.
            let agree = async || {
                let counted = counted(&quickstart, &format!("{consumer}/app"), class).await;
                (counted.ok()? == [on_bill; 2]).then_some(())
            };
            let what = format!("{consumer}: {} is {on_bill} everywhere", class[0]);
            eventually(&what, Duration::from_secs(10), agree)
                .await
                .with_context(|| bill.to_string())?;
            println!("{passed} calls, {what}");
            assert!(on_bill > 0, "{what}");
        }
    }
    let page = http::get(&format!("{}/metrics", quickstart.admin)).await?;
    let none = "tundish_settlements_total{kind=\"estimated\"} 0";
    ensure!(page.text().lines().any(|line| line == none), "an estimate");
    Ok(())
}

/// Subtitles and plain text tell no usage: they cost what the sound may be at most, and what was written.
#[tokio::test]
async fn sound_that_is_written_as_text_costs_what_was_held() -> Result<()> {
    let quickstart = Quickstart::with_manifests(MANIFESTS, SIM).await?;
    let arguments = [
        quickstart.gateway.as_str(),
        "key-of-search",
        &quickstart.sim,
        "direct",
    ];
    let passed = run("families_text.py", arguments.map(str::to_owned).to_vec()).await?;
    let page = async || http::get(&format!("{}/metrics", quickstart.admin)).await;
    let estimated = format!("tundish_settlements_total{{kind=\"estimated\"}} {passed}");
    eventually("all are estimates", Duration::from_secs(10), async || {
        let text = page().await.ok()?.text();
        text.lines().any(|line| line == estimated).then_some(())
    })
    .await?;
    // 26 tokens for 10,240 bytes at 400 each, and those of the fields around them.
    let least = 26 * u64::try_from(passed)?;
    eventually(
        "metric and log agree",
        Duration::from_secs(10),
        async || {
            let counted = counted(&quickstart, "search/app", CLASSES[0]).await.ok()?;
            let [metric, logged] = counted;
            (metric == logged && (least..4 * least).contains(&metric)).then_some(())
        },
    )
    .await?;
    Ok(())
}

/// The page of the surface says by what call each row is tested; it reads the same table.
#[tokio::test]
async fn every_call_of_the_page_of_the_surface_asks_for_its_path() -> Result<()> {
    // What is cancelled must not have ended.
    let arguments = [SIM, &["--background-time=60s"]].concat();
    let quickstart = Quickstart::with_manifests(MANIFESTS, &arguments).await?;
    let arguments = [quickstart.gateway.as_str(), "key-of-search"];
    let passed = run("surface.py", arguments.map(str::to_owned).to_vec()).await?;
    let table: Vec<Value> = serde_json::from_str(SURFACE)?;
    assert_eq!(passed, table.len());
    Ok(())
}

/// A resource that is pinned to a version from before Responses, and one that is not.
#[tokio::test]
async fn a_pinned_resource_is_not_asked_for_what_came_later() -> Result<()> {
    let pinned = MANIFESTS.replace(
        "  type: Foundry\n",
        "  type: Foundry\n  apiVersion: \"2024-10-21\"\n",
    );
    ensure!(pinned != MANIFESTS, "nothing is pinned");
    let quickstart = Quickstart::with_manifests(&pinned, SIM).await?;
    let arguments = [quickstart.gateway.as_str(), "key-of-search"];
    let passed = run("families_pinned.py", arguments.map(str::to_owned).to_vec()).await?;
    assert_eq!(passed, 4);
    Ok(())
}

#[tokio::test]
async fn every_error_is_the_class_that_clients_catch() -> Result<()> {
    let manifests = [MANIFESTS, LIMITS].concat();
    let quickstart = Quickstart::with_manifests(&manifests, SIM).await?;
    let arguments = [
        quickstart.gateway.as_str(),
        "key-of-search",
        &quickstart.sim,
    ];
    // One after the other: faults of the simulator are for all.
    for script in ["families_errors.py", "families_errors.mjs"] {
        let passed = run(script, arguments.map(str::to_owned).to_vec()).await?;
        println!("{script}: {passed}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_resource_stores_is_its_makers() -> Result<()> {
    let quickstart = Quickstart::with_manifests(MANIFESTS, SIM).await?;
    for script in [
        "families_stored.py",
        "families_stored.mjs",
        "families_agents.py",
    ] {
        let arguments = [
            quickstart.gateway.as_str(),
            "key-of-search",
            &quickstart.sim,
            "direct",
            "key-of-ads",
        ];
        let passed = run(script, arguments.map(str::to_owned).to_vec()).await?;
        println!("{script}: {passed}");
    }
    Ok(())
}
