//! The logs of the binaries: a reader that does not read stops nothing, and the last line comes out.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::{Process, Quickstart, binary, free_port, http, workspace};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(20);

/// 6 MB of lines: more than the 4 MB that may wait for the reader.
const REQUESTS: usize = 20_000;

#[tokio::test]
async fn requests_are_answered_while_nobody_reads_the_log() -> Result<()> {
    let quickstart = Quickstart::start(&[]).await?;
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    // Both directions, or the open would wait for the gateway, and the gateway's for a reader.
    let unread = OpenOptions::new().read(true).write(true).open(&pipe)?;
    let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new("sh");
    command
        .env("PIPE", &pipe)
        .args(["-c", r#"exec "$0" "$@" >"$PIPE""#])
        .arg(binary("tundish")?)
        .args(["run", "--listen", &listen, "--admin", &admin, "--manifests"])
        .arg(quickstart.manifests());
    let mut gateway = Process::spawn("unread", &mut command, folder.path())?;
    gateway
        .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;

    let url = format!("http://{listen}/v1/chat/completions");
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        load.spawn(async move {
            for _ in 0..REQUESTS / 4 {
                let answer = http::post_json(&url, &[], "{}").await?;
                ensure!(answer.status == 401, "{}: {}", answer.status, answer.text());
            }
            Ok(())
        });
    }
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    let metrics = http::get(&format!("http://{admin}/metrics")).await?.text();
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tundish_access_log_dropped_total "))
        .context("a counter")?;
    assert!(dropped.parse::<u64>()? > 0, "{dropped}");
    let ended = gateway.terminate(LIMIT).await?;
    assert!(ended.success(), "{ended}");
    drop(unread);
    Ok(())
}

#[tokio::test]
async fn the_filter_and_the_format_hold_for_the_lines_of_requests() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, flag, expect) in [
        ("json", "--log-format=json", Some(r#"{"timestamp":"2"#)),
        (
            "text",
            "--log-format=text",
            Some("INFO access: request v=2 request_id=\"mine\""),
        ),
        (
            "named",
            "--log-level=warn,access=info",
            Some(r#""target":"access"}"#),
        ),
        ("off", "--log-level=info,access=off", None),
        ("warn", "--log-level=warn", None),
        ("none", "--no-access-log", None),
    ] {
        let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(binary("tundish")?);
        command
            .args([
                "run",
                flag,
                "--listen",
                &listen,
                "--admin",
                &admin,
                "--manifests",
            ])
            .arg(workspace().join("examples/quickstart"));
        let mut gateway = Process::spawn(name, &mut command, folder.path())?;
        gateway
            .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
            .await?;
        let url = format!("http://{listen}/v1/chat/completions");
        let answer = http::post_json(&url, &[("x-request-id", "mine")], "{}").await?;
        assert_eq!(answer.status, 401);
        let log = gateway.log_file().to_owned();
        let ended = gateway.terminate(LIMIT).await?;
        assert!(ended.success(), "{name}: {ended}");
        let log = std::fs::read_to_string(log)?;
        let line = log.lines().find(|line| line.contains("mine"));
        match (line, expect) {
            (Some(line), Some(expect)) => assert!(line.contains(expect), "{name}: {line}"),
            (line, expect) => assert_eq!(line, expect, "{name}"),
        }
    }
    Ok(())
}

#[test]
fn a_start_that_fails_says_why() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let admin = taken.local_addr()?.to_string();
    let proxy = [
        "--operator",
        "http://127.0.0.1:1",
        "--operator-plaintext",
        "--replica",
        "r",
    ];
    let operator = ["--kubeconfig", "/no/such/file", "--namespace", "ns"];
    for (name, args) in [
        ("tundish-proxy", &proxy[..]),
        ("tundish-operator", &operator),
    ] {
        let mut command = Command::new(binary(name)?);
        let output = command.args(args).args(["--admin", &admin]).output()?;
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8(output.stdout)?;
        assert!(text.contains("\"level\":\"ERROR\""), "{name}: {text}");
    }
    Ok(())
}
