//! Rolling restarts under load: behind a balancer no request fails, and on HTTP/2 no stream is cut.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests_support::{
    Quickstart, Replicas, Signal, eventually, eventually_ok, http, paths, workspace,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// More than any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Three seconds of a stream.
const TOKENS: &str = "60";
const STREAM: [&str; 4] = ["--completion-tokens", TOKENS, "--token-interval", "50ms"];

/// Checks as the chart of a cloud's balancer has them, but often; a failed connection is not tried elsewhere.
const HAPROXY: &str = "\
global
  maxconn 4096
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend gateways
  bind LISTEN
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 500ms
";

const PATH: &str = "/v1/chat/completions";
const KEY: (&str, &str) = ("api-key", "search-team-key");

/// What all of them use is never spent; each text is another table.
fn quotas(revision: usize) -> String {
    let limit = 1_000_000_000 + revision;
    format!(
        "apiVersion: tundish.dev/v1alpha1\nkind: AIQuota\nmetadata:\n  name: fair-use\nspec:\n  targetRefs:\n  \
         - {{name: chat}}\n  per: [Consumer]\n  limits:\n  - {{name: minute, unit: Tokens, limit: {limit}, window: Minute}}\n"
    )
}

fn body(stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "What is a tundish?"}]);
    json!({"model": "gpt-5", "messages": messages, "stream": stream}).to_string()
}

/// Raw clients, each a task, until they are stopped.
struct Clients {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Clients {
    /// Some that keep their connection, some that pause for longer than most requests take, and some that
    /// connect for each request.
    fn start(url: &str) -> Self {
        let mut clients = Self {
            stop: Arc::default(),
            requests: Arc::default(),
            tasks: JoinSet::new(),
        };
        for pause in [5, 5, 5, 5, 3_000, 3_000].map(Duration::from_millis) {
            clients.add(url, true, pause);
        }
        for _ in 0..3 {
            clients.add(url, false, Duration::from_millis(5));
        }
        clients
    }

    fn add(&mut self, url: &str, keeps: bool, pause: Duration) {
        let url = url.to_owned();
        let (stop, requests) = (Arc::clone(&self.stop), Arc::clone(&self.requests));
        self.tasks.spawn(async move {
            let (mut kept, mut failed) = (None, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = ask(&url, keeps, &mut kept).await {
                    kept = None;
                    failed.push(format!("kept {keeps}, pause {pause:?}: {error:#}"));
                }
                requests.fetch_add(1, Ordering::Relaxed);
                sleep(pause).await;
            }
            failed
        });
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

/// One request, on the connection from before if that is open, as any pool of connections does.
async fn ask(url: &str, keeps: bool, kept: &mut Option<http::Connection>) -> Result<()> {
    let answer = if keeps {
        let mut connection = match kept.take().filter(http::Connection::is_open) {
            Some(connection) => connection,
            None => http::Connection::open(url).await?,
        };
        let answer = connection.post_json(PATH, &[KEY], body(false)).await?;
        *kept = (answer.header("connection") != Some("close")).then_some(connection);
        answer
    } else {
        http::post_json(&format!("{url}{PATH}"), &[KEY], body(false)).await?
    };
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    Ok(())
}

/// A client of `tests/e2e/clients`, by the Python that has its packages.
fn python(script: &str, arguments: &[&str]) -> Result<tokio::process::Command> {
    let folder = paths::clients()?;
    let mut command = tokio::process::Command::new(folder.join("venv/bin/python"));
    command.arg(workspace().join("tests/e2e/clients").join(script));
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.kill_on_drop(true);
    Ok(command)
}

/// Writes another table twice a second, until it is dropped.
fn change_tables(replicas: &Replicas) -> JoinSet<()> {
    let file = replicas.manifests().join("quota.yaml");
    let mut changes = JoinSet::new();
    changes.spawn(async move {
        for revision in 1.. {
            sleep(Duration::from_millis(500)).await;
            std::fs::write(&file, quotas(revision)).expect("the folder is there");
        }
    });
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_behind_a_balancer_lose_no_request() -> Result<()> {
    let wanted = paths::requests(5_000);
    let arguments = ["--drain-delay", "5", "--no-access-log"];
    let mut replicas = Replicas::start(3, &quotas(0), &arguments, &STREAM).await?;
    let (_balancer, url) = replicas.balancer(HAPROXY)?;
    let healthy = Duration::from_secs(3);
    eventually_ok("the balancer serves", LIMIT, async || {
        http::post_json(&format!("{url}{PATH}"), &[KEY], body(false)).await
    })
    .await?;
    let mut sdk = python("rolling.py", &[&url, KEY.1, "gpt-5", TOKENS])?.spawn()?;
    let clients = Clients::start(&url);
    let changes = change_tables(&replicas);
    while clients.requests() < wanted {
        for index in 0..replicas.all().len() {
            let ended = replicas.terminate(index, LIMIT).await?;
            ensure!(ended.success(), "{ended}");
            replicas.restart(index).await?;
            // Else the next one goes before the balancer knows that this one is back.
            sleep(healthy).await;
        }
    }
    drop(changes);
    let requests = clients.requests();
    let failed = clients.stop().await;
    drop(sdk.stdin.take());
    let output = timeout(LIMIT, sdk.wait_with_output()).await??;
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    assert!(
        failed.is_empty(),
        "{} of {requests}: {failed:#?}",
        failed.len()
    );
    assert_eq!(seen["failed"], json!([]), "{seen}");
    for kind in ["json", "streams"] {
        let count = seen[kind].as_u64().context("a count")?;
        assert!(count >= 10, "{kind}: {count}");
    }
    Ok(())
}

/// A gateway whose streams take three seconds, and whose port closes with the signal.
async fn streaming() -> Result<Quickstart> {
    let names = ["backend.yaml", "route.yaml", "consumers.yaml"];
    let texts = names
        .map(|name| std::fs::read_to_string(workspace().join("examples/quickstart").join(name)));
    let texts: Vec<String> = texts.into_iter().collect::<std::io::Result<_>>()?;
    Quickstart::with_manifests(&texts.join("\n---\n"), &STREAM).await
}

/// Stops the gateway once eight requests run, and waits for the client. Says how long the gateway outlived it.
async fn stop_under(
    quickstart: &mut Quickstart,
    client: tokio::process::Child,
) -> Result<(String, Duration)> {
    let metrics = format!("{}/metrics", quickstart.admin);
    eventually("eight requests run", LIMIT, async || {
        let page = http::get(&metrics).await.ok()?.text();
        page.contains("\ntundish_in_flight_requests 8\n")
            .then_some(())
    })
    .await?;
    quickstart.run.signal(Signal::TERM)?;
    let output = timeout(LIMIT, client.wait_with_output()).await??;
    let ended = Instant::now();
    let status = quickstart.run.wait(LIMIT).await?;
    ensure!(status.success(), "{status}");
    Ok((String::from_utf8(output.stdout)?, ended.elapsed()))
}

#[tokio::test]
async fn streams_on_one_connection_of_http2_end_whole() -> Result<()> {
    // A client that takes GOAWAY for the end of all streams, and one that knows it.
    for client in ["httpx", "nghttp"] {
        let mut quickstart = streaming().await?;
        let gateway = quickstart.gateway.clone();
        let folder = tempfile::tempdir()?;
        let (key, model) = (KEY.1, "gpt-5");
        let mut command = match client {
            "httpx" => python("http2_streams.py", &[&gateway, key, model])?,
            _ => {
                let file = folder.path().join("body.json");
                std::fs::write(&file, body(true))?;
                let mut command = tokio::process::Command::new("nghttp");
                command.args(["-m", "8", "-H", &format!("api-key: {key}")]);
                command.args(["-H", "content-type: application/json", "-d"]);
                command.arg(file).arg(format!("{gateway}{PATH}"));
                command.stdout(Stdio::piped()).kill_on_drop(true);
                command
            }
        };
        let (seen, outlived) = stop_under(&mut quickstart, command.spawn()?).await?;
        let whole = match client {
            "httpx" => seen.matches("\"whole\"").count(),
            _ => seen.matches("data: [DONE]").count(),
        };
        if whole != 8 {
            bail!("{client}: {whole} of 8\n{seen}");
        }
        assert!(outlived < Duration::from_secs(2), "{client}: {outlived:?}");
    }
    Ok(())
}
