//! `tundish simulate` on the log of a gateway that really ran.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, binary, http, workspace};

const LIMIT: Duration = Duration::from_secs(20);

fn simulate(log: &Path, manifests: &Path, more: &[&str]) -> Result<String> {
    let output = Command::new(binary("tundish")?)
        .arg("simulate")
        .arg("--log")
        .arg(log)
        .arg("--manifests")
        .arg(manifests)
        .args(more)
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "{}: {told}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The requests that the replay denies, by their ids.
fn denied(report: &Value) -> Vec<&str> {
    let all = report.pointer("/denials").and_then(Value::as_array);
    let ids = all.into_iter().flatten();
    ids.filter_map(|one| one.get("request_id")?.as_str())
        .collect()
}

#[tokio::test]
async fn a_gateways_own_log_gives_the_denials_that_happened_and_a_tighter_quota_more() -> Result<()>
{
    let quickstart = Quickstart::start(&[]).await?;
    let (same, url) = (quickstart.manifests(), quickstart.chat_url());
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let mut happened = Vec::new();
    for turn in 0..8 {
        let key = ["intern-key", "search-team-key"][turn % 2];
        let id = format!("turn-{turn}");
        let headers = [("api-key", key), ("x-request-id", id.as_str())];
        let answer = http::post_json(&url, &headers, body.to_string()).await?;
        if answer.status == 429 {
            happened.push(id);
        } else {
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
    }
    assert_eq!(
        http::post_json(&url, &[], body.to_string()).await?.status,
        401
    );
    assert_eq!(happened, ["turn-4", "turn-6"]);
    let log = quickstart.run.log_file().to_owned();
    let ended = quickstart.run.terminate(LIMIT).await?;
    ensure!(ended.success(), "{ended}");

    let report: Value = serde_json::from_str(&simulate(&log, &same, &["-o", "json"])?)?;
    assert_eq!(denied(&report), happened, "{report}");
    for (field, value) in [
        ("/replayed", json!(8)),
        ("/admitted", json!(6)),
        ("/denied", json!(2)),
        ("/skipped/0/code", json!("missing_credential")),
        ("/denials/0/limit", json!("default/interns/two-a-minute")),
        ("/denials/0/code", json!("rate_limited")),
        ("/log/broken_lines", json!(0)),
    ] {
        assert_eq!(report.pointer(field), Some(&value), "{field}: {report}");
    }

    let quota = same.join("quota.yaml");
    let text = std::fs::read_to_string(&quota)?;
    std::fs::write(&quota, text.replace("limit: 2,", "limit: 1,"))?;
    let tighter = same;
    let report: Value = serde_json::from_str(&simulate(&log, &tighter, &["-o", "json"])?)?;
    assert_eq!(denied(&report), ["turn-2", "turn-4", "turn-6"], "{report}");
    let told = simulate(&log, &tighter, &["--progress"])?;
    assert!(
        told.contains("\n  denied                 3  by a limit\n"),
        "{told}"
    );
    assert!(
        told.contains("default/interns/two-a-minute  Enforce  3       default/intern 3"),
        "{told}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_read_exits_with_1() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("access.log");
    std::fs::write(&log, "")?;
    let quickstart = workspace().join("examples/quickstart");
    let gone = folder.path().join("gone");
    for (log, manifests) in [
        (&log, &gone),
        (&gone, &quickstart),
        (&quickstart, &quickstart),
    ] {
        let error = simulate(log, manifests, &[]).expect_err("unreadable");
        assert!(
            error.to_string().contains("exit status: 1: tundish: "),
            "{error}"
        );
    }
    let text = "2026-11-26T10:00:00Z  INFO access: request request_id=\"a\" status=200\n";
    let other = "{\"level\":\"INFO\",\"message\":\"serving\",\"target\":\"cli::run\"}\n";
    for (bytes, expect) in [
        (&b""[..], "is empty"),
        (text.as_bytes(), "1 of its 1 lines are not JSON"),
        (
            &[0x1f, 0x8b, 8, 0, 0, 0],
            "is compressed: unpack it with gunzip",
        ),
        (other.as_bytes(), "its 1 lines are other events"),
    ] {
        std::fs::write(&log, bytes)?;
        let error = simulate(&log, &quickstart, &[]).expect_err("no request");
        let told = error.to_string();
        assert!(told.contains("exit status: 1: tundish: "), "{told}");
        assert!(told.contains(expect), "{told}");
    }
    Ok(())
}
