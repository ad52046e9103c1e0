//! What whoever is woken at night asks of the real processes: the lines of requests, and the metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests_support::{Process, Replicas, binary, eventually_ok, free_port, http, metrics_problems};

const LIMIT: Duration = Duration::from_secs(20);

/// Two requests a minute for the intern, and one that is only watched.
const QUOTAS: &str = "
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: interns}
spec:
  targetRefs: [{name: chat}]
  limits: [{name: two-a-minute, unit: Requests, limit: 2, window: Minute}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {name: watched}
spec:
  mode: Shadow
  targetRefs: [{name: chat}]
  limits: [{name: one-a-minute, unit: Requests, limit: 1, window: Minute}]
";

/// A backend without a listener, before the simulated Foundry.
const FAILOVER: &str = "
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: gone}
spec:
  type: Foundry
  endpoint: http://127.0.0.1:1
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: foundry, key: api-key}}}
  deployments: [{name: gpt-5, model: gpt-5}]
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {tundish.dev/keys: chat}}}}
  rules:
  - name: chat
    matches: [{models: ['gpt-*']}]
    backendRefs: [{name: gone, priority: 0}, {name: foundry, priority: 1}]
    retry: {attempts: 1, when: [ConnectFailure]}
";

async fn started(quotas: &str, arguments: &[&str]) -> Result<Replicas> {
    Replicas::start(1, quotas, arguments, &[]).await
}

/// Asks with an id, and returns the status.
async fn ask(replicas: &Replicas, id: &str, more: &[(&str, &str)]) -> Result<u16> {
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let mut headers = vec![("api-key", "search-team-key"), ("x-request-id", id)];
    headers.extend(more);
    let url = replicas.at(0).chat_url();
    Ok(http::post_json(&url, &headers, body.to_string())
        .await?
        .status)
}

/// The line of the request with an id.
async fn line(replicas: &Replicas, id: &str) -> Result<Value> {
    eventually_ok("the request has its line", LIMIT, async || {
        let log = replicas.at(0).log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .find(|line| line.get("request_id") == Some(&json!(id)) && line.get("v").is_some())
            .context("no such line")
    })
    .await
}

fn check(line: &Value, fields: &[(&str, Value)]) {
    for (field, value) in fields {
        assert_eq!(line.pointer(field), Some(value), "{field}: {line}");
    }
}

#[tokio::test]
async fn the_line_of_a_429_names_its_limit() -> Result<()> {
    let replicas = started(QUOTAS, &[]).await?;
    for (id, status) in [("first", 200), ("second", 200), ("third", 429)] {
        assert_eq!(ask(&replicas, id, &[]).await?, status);
    }
    check(
        &line(&replicas, "third").await?,
        &[
            ("/v", json!(2)),
            ("/limit", json!("default/interns/two-a-minute")),
            ("/client", json!("127.0.0.1")),
            ("/path", json!("/v1/chat/completions")),
            ("/consumer", json!("default/search-team")),
        ],
    );
    let second = line(&replicas, "second").await?;
    check(
        &second,
        &[("/shadow_limits", json!(["default/watched/one-a-minute"]))],
    );
    assert!(second["upstream_request_id"].is_string(), "{second}");
    Ok(())
}

#[tokio::test]
async fn the_line_of_a_retry_has_both_tries_and_the_log_one_warning() -> Result<()> {
    let replicas = started("", &[]).await?;
    std::fs::write(replicas.manifests().join("route.yaml"), FAILOVER)?;
    eventually_ok("the new route is in force", LIMIT, async || {
        let value = replicas
            .at(0)
            .metric("tundish_manifests_reloads_total")
            .await?;
        anyhow::ensure!(value >= 2.0, "{value}");
        Ok(())
    })
    .await?;
    for number in 0..12 {
        assert_eq!(ask(&replicas, &format!("try-{number}"), &[]).await?, 200);
    }
    let line = line(&replicas, "try-0").await?;
    check(
        &line,
        &[
            ("/tries", json!(2)),
            ("/backend", json!("default/foundry")),
            ("/attempts/0/backend", json!("default/gone")),
            ("/attempts/0/cause", json!("upstream_unreachable")),
            ("/attempts/1/backend", json!("default/foundry")),
            ("/attempts/1/status", json!(200)),
        ],
    );
    let log = replicas.at(0).log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"WARN\""))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    let warning: Value = serde_json::from_str(warnings.first().context("one")?)?;
    check(
        &warning,
        &[
            ("/message", json!("a deployment is left out")),
            ("/backend", json!("default/gone")),
            ("/request_id", json!("try-4")),
        ],
    );
    let retries = replicas
        .at(0)
        .metric("tundish_upstream_retries_total")
        .await?;
    // Five, and each probe.
    assert!((5.0..9.0).contains(&retries), "{retries}");
    Ok(())
}

#[tokio::test]
async fn a_forwarded_address_counts_only_with_the_flag() -> Result<()> {
    let forwarded = [("x-forwarded-for", "203.0.113.1, 198.51.100.2")];
    for (arguments, expect) in [
        (&[][..], "127.0.0.1"),
        (&["--trusted-hops=1"], "198.51.100.2"),
        (&["--trusted-hops=2"], "203.0.113.1"),
    ] {
        let replicas = started("", arguments).await?;
        assert_eq!(ask(&replicas, "one", &forwarded).await?, 200);
        let line = line(&replicas, "one").await?;
        check(&line, &[("/client", json!(expect))]);
    }
    Ok(())
}

#[tokio::test]
async fn a_balancer_names_the_client_by_the_proxy_protocol() -> Result<()> {
    let replicas = started("", &["--proxy-protocol"]).await?;
    let request = "GET /v1/models HTTP/1.1\r\nhost: h\r\napi-key: search-team-key\r\n\
                   x-request-id: announced\r\nconnection: close\r\n\r\n";
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
    let answer = |sent: Vec<u8>| -> Result<String> {
        let mut stream = TcpStream::connect(replicas.at(0).gateway.trim_start_matches("http://"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&sent)?;
        let mut answer = Vec::new();
        // A connection that is refused may be reset.
        stream.read_to_end(&mut answer).ok();
        Ok(String::from_utf8(answer)?)
    };
    let announced = answer([&header[..], request.as_bytes()].concat())?;
    assert!(announced.starts_with("HTTP/1.1 200"), "{announced}");
    let line = line(&replicas, "announced").await?;
    check(&line, &[("/client", json!("203.0.113.9"))]);
    assert_eq!(answer(request.as_bytes().to_vec())?, "");
    Ok(())
}

/// The page of a process in both forms, which have the same samples apart from those that change.
async fn check_page(admin: &str, families: &[&str]) -> Result<()> {
    let url = format!("{admin}/metrics");
    let plain = http::get(&url).await?;
    let kind = plain.header("content-type").context("a type")?.to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = plain.text();
    assert_eq!(metrics_problems(&text), [""; 0], "{url}");
    for family in families {
        assert!(
            text.contains(&format!("# HELP {family} ")),
            "{family}: {text}"
        );
    }
    let accept = [(
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1",
    )];
    let open = http::request(::http::Method::GET, &url, &accept, "").await?;
    let kind = open.header("content-type").context("a type")?.to_owned();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let open = open.text();
    assert!(open.ends_with("# EOF\n"), "{open}");
    let names = |page: &str| -> Vec<String> {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let series = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        series.collect()
    };
    assert_eq!(names(&open), names(&text));
    Ok(())
}

const OF_ALL: [&str; 4] = [
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_start_time_seconds",
    "tundish_build_info",
];

#[tokio::test]
async fn every_process_has_a_page_that_promtool_accepts() -> Result<()> {
    let replicas = started(QUOTAS, &["--limit-series=2"]).await?;
    for (id, status) in [("first", 200), ("second", 200), ("third", 429)] {
        assert_eq!(ask(&replicas, id, &[]).await?, status);
    }
    let of_run = [
        "tundish_requests_total",
        "tundish_table_published_timestamp_seconds",
        "tundish_manifests_reloads_total",
        "tundish_upstream_wait_seconds_total",
    ];
    check_page(&replicas.at(0).admin, &[&OF_ALL[..], &of_run].concat()).await?;

    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    // The admin port is open before an API server answers.
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{name: c, context: {cluster: c, user: u}}]\n\
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n",
    )?;
    let kubeconfig = kubeconfig.to_str().context("a path")?;
    let [listen, channel] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
    for (name, arguments, family) in [
        (
            "tundish-proxy",
            vec![
                "--operator=http://127.0.0.1:1",
                "--operator-plaintext",
                "--replica=r",
                "--listen",
                &listen,
            ],
            "tundish_channel_connected",
        ),
        (
            "tundish-operator",
            vec![
                "--kubeconfig",
                kubeconfig,
                "--namespace=ns",
                "--channel-listen",
                &channel,
            ],
            "tundish_operator_is_leader",
        ),
    ] {
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(binary(name)?);
        command.args(arguments).args(["--admin", &admin]);
        let mut process = Process::spawn(name, &mut command, folder.path())?;
        let admin = format!("http://{admin}");
        process
            .wait_for_http(&format!("{admin}/livez"), LIMIT)
            .await?;
        check_page(&admin, &[&OF_ALL[..], &[family]].concat()).await?;
    }
    Ok(())
}
