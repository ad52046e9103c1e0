//! A gateway that is hardly ever given a processor: it is stopped for most of the time, so that all of its work
//! waits, however fast the machine is.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::{Config, DeploymentConfig, Sim};
use tests_support::http::{Answer, Connection};
use tests_support::{Process, binary, eventually, free_port, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
/// Longer than a request may wait to begin.
const STOPPED: Duration = Duration::from_millis(250);
/// Too short for all that has come meanwhile.
const RUNS: Duration = Duration::from_millis(1);
/// Clients of all kinds: more than may wait without an end.
const CLIENTS: usize = 360;
/// What is seen of the refusals of a kind before it is enough.
const ENOUGH: usize = 3;

const OBJECTS: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: ENDPOINT
  allowPlaintext: true
  auth: {type: APIKey, apiKey: {secretRef: {name: sim, key: key}}}
  deployments: [{name: urgent}, {name: usual}, {name: nightly}, {name: claude-nightly}]
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {key: sim-key}
---
apiVersion: v1
kind: Secret
metadata: {name: caller, labels: {keys: all}}
stringData: {key: caller-key}
---
apiVersion: v1
kind: Secret
metadata: {name: reports, labels: {keys: all, attributes.tundish.dev/class: Batch}}
stringData: {key: reports-key}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  authentication: {apiKeys: {secretSelector: {matchLabels: {keys: all}}}}
  rules:
  - {name: urgent, class: Interactive, matches: [{models: [urgent]}], backendRefs: [{name: sim}]}
  - {name: usual, matches: [{models: [usual]}], backendRefs: [{name: sim}]}
  - {name: nightly, class: Batch, matches: [{models: [nightly, claude-nightly]}], backendRefs: [{name: sim}]}
";

struct Gateway {
    sim: Sim,
    url: String,
    admin: String,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Gateway {
    async fn start() -> Result<Self> {
        let names = ["urgent", "usual", "nightly", "claude-nightly"];
        let deployments: Result<Vec<DeploymentConfig>, _> =
            names.into_iter().map(str::parse).collect();
        let sim = Sim::start(&Config {
            deployments: deployments?,
            ..Config::default()
        })?;
        let folder = tempfile::tempdir()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let text = OBJECTS.replace("ENDPOINT", &sim.url());
        std::fs::write(manifests.join("all.yaml"), text)?;
        let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(binary("tundish")?);
        command
            .args(["run", "--threads", "1", "--listen", &listen])
            .args(["--admin", &admin, "--manifests"])
            .arg(&manifests);
        let mut process = Process::spawn("tundish", &mut command, folder.path())?;
        let admin = format!("http://{admin}");
        process
            .wait_for_http(&format!("{admin}/readyz"), LIMIT)
            .await?;
        Ok(Self {
            sim,
            url: format!("http://{listen}"),
            admin,
            process,
            _folder: folder,
        })
    }

    /// Takes the processor away for most of the time, while something else is done.
    async fn starved<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let process = &mut self.process;
        let starve = async {
            loop {
                process.pause()?;
                sleep(STOPPED).await;
                process.resume()?;
                sleep(RUNS).await;
            }
        };
        let done = tokio::select! {
            done = work => done,
            failed = starve => failed,
        };
        self.process.resume()?;
        done
    }
}

fn chat(model: &str) -> String {
    json!({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]})
        .to_string()
}

/// Clients of two dialects, each with one connection that it keeps.
struct Client {
    connection: Connection,
    path: &'static str,
    key: &'static str,
    model: &'static str,
}

impl Client {
    async fn open(
        url: &str,
        path: &'static str,
        key: &'static str,
        model: &'static str,
    ) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(url).await?,
            path,
            key,
            model,
        })
    }

    async fn call(&mut self) -> Result<Answer> {
        let headers = [("x-api-key", self.key), ("anthropic-version", "2023-06-01")];
        self.connection
            .post_json(self.path, &headers, chat(self.model))
            .await
    }
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";

/// An SDK must know when to come again, and may keep its connection.
fn is_refused(answer: &Answer, path: &str) -> Result<()> {
    let text = answer.text();
    ensure!(answer.status == 503, "{}: {text}", answer.status);
    let json: Value = answer.json()?;
    let says = |place: &str| json.pointer(place).and_then(Value::as_str);
    ensure!(says("/error/code") == Some("overloaded"), "{text}");
    if path == MESSAGES {
        let kinds = (says("/type"), says("/error/type"));
        ensure!(kinds == (Some("error"), Some("overloaded_error")), "{text}");
    }
    let wait: u64 = answer.header("retry-after-ms").context("a wait")?.parse()?;
    ensure!((1_000..=5_900).contains(&wait), "{wait}");
    ensure!(answer.header("retry-after").is_some() && answer.header("x-request-id").is_some());
    ensure!(answer.header("connection") != Some("close"));
    Ok(())
}

/// A kind of clients, and how many of its calls were served and refused.
struct Kind {
    path: &'static str,
    key: &'static str,
    model: &'static str,
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Kind {
    fn new(path: &'static str, key: &'static str, model: &'static str) -> Arc<Self> {
        Arc::new(Self {
            path,
            key,
            model,
            served: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        })
    }

    async fn open(&self, url: &str) -> Result<Client> {
        Client::open(url, self.path, self.key, self.model).await
    }

    /// One client that calls again and again.
    async fn calls(&self, url: &str) -> Result<()> {
        let mut client = self.open(url).await?;
        loop {
            let answer = client.call().await?;
            if answer.status == 200 {
                self.served.fetch_add(1, Ordering::Relaxed);
            } else {
                is_refused(&answer, self.path)?;
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Of all its calls, in hundredths.
    fn percent_refused(&self) -> usize {
        let served = self.served.load(Ordering::Relaxed);
        self.refused() * 100 / (self.refused() + served).max(1)
    }
}

/// Many clients, as many of each kind, until one of them fails.
async fn flood(kinds: &[Arc<Kind>], url: &str) -> Result<()> {
    let mut clients = JoinSet::new();
    for kind in kinds.iter().cycle().take(CLIENTS) {
        let (kind, url) = (Arc::clone(kind), url.to_owned());
        clients.spawn(async move { kind.calls(&url).await });
    }
    clients.join_next().await.context("no client")??
}

#[tokio::test]
async fn a_starved_gateway_refuses_lesser_classes_first_and_recovers() -> Result<()> {
    let mut gateway = Gateway::start().await?;
    let url = gateway.url.clone();
    let batch = Kind::new(CHAT, "caller-key", "nightly");
    let claude = Kind::new(MESSAGES, "caller-key", "claude-nightly");
    let lowered = Kind::new(CHAT, "reports-key", "urgent");
    let urgent = Kind::new(CHAT, "caller-key", "urgent");
    let mut one = batch.open(&url).await?;
    ensure!(one.call().await?.status == 200);
    let admin = gateway.admin.clone();
    let kinds = [&batch, &claude, &lowered, &urgent].map(Arc::clone);
    let starved = gateway.starved(async {
        let enough = async {
            let lesser = [&batch, &claude, &lowered];
            while lesser.iter().any(|kind| kind.refused() < ENOUGH) {
                let ready = http::get(&format!("{admin}/readyz")).await?;
                ensure!(ready.status == 200, "it is ready all the time");
            }
            anyhow::Ok(())
        };
        tokio::select! {
            done = enough => done,
            failed = flood(&kinds, &url) => failed,
        }
    });
    timeout(LIMIT, starved)
        .await
        .context("too few are refused")??;
    ensure!(urgent.percent_refused() < batch.percent_refused());
    eventually("all classes are served again", LIMIT, async || {
        let answer = one.call().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    let line = "more requests than CPU time";
    gateway.process.wait_for_line(line, LIMIT).await?;
    ensure!(gateway.process.log().matches(line).count() == 1);
    let over = "has CPU time for all requests again";
    gateway.process.wait_for_line(over, LIMIT).await?;
    let page = http::get(&format!("{admin}/metrics")).await?.text();
    let shed = |class: &str| {
        let name = format!("tundish_shed_requests_total{{class=\"{class}\"}} ");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&name));
        value.map(str::to_owned)
    };
    let count = |class| anyhow::Ok(shed(class).context("a series")?.parse::<usize>()?);
    ensure!(count("Interactive")? >= urgent.refused(), "{page}");
    let lesser = batch.refused() + claude.refused() + lowered.refused();
    ensure!(count("Batch")? >= lesser, "{page}");
    Ok(())
}

/// Sends a whole request, and then nothing more.
async fn last_words(url: &str, marked: &str) -> Result<TcpStream> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    let body = chat("urgent").replace("Hi", marked);
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gw\r\napi-key: caller-key\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(stream)
}

#[tokio::test]
async fn a_request_whose_client_left_while_it_waited_reaches_no_backend() -> Result<()> {
    let mut gateway = Gateway::start().await?;
    let url = gateway.url.clone();
    let asked = |gateway: &Gateway, marked: &str| {
        let requests = gateway.sim.requests();
        requests
            .iter()
            .filter(|request| request.body.contains(marked))
            .count()
    };
    // At rest a client that only sends no more gets its answer.
    let mut answer = String::new();
    last_words(&url, "at rest")
        .await?
        .read_to_string(&mut answer)
        .await?;
    ensure!(answer.contains("HTTP/1.1 200"), "{answer}");
    ensure!(asked(&gateway, "at rest") == 1);
    let batch = Kind::new(CHAT, "caller-key", "nightly");
    let kinds = [Arc::clone(&batch)];
    let flooded = async {
        let refused = async {
            while batch.refused() == 0 {
                sleep(RUNS).await;
            }
        };
        tokio::select! {
            () = refused => Ok(()),
            failed = flood(&kinds, &url) => failed,
        }
    };
    timeout(LIMIT, gateway.starved(flooded))
        .await
        .context("nothing is refused")??;
    gateway.process.pause()?;
    let stat = format!("/proc/{}/stat", gateway.process.id());
    eventually("it stands still", LIMIT, async || {
        let stat = std::fs::read_to_string(&stat).ok()?;
        stat.contains(") T ").then_some(())
    })
    .await?;
    let mut left = Vec::new();
    for _ in 0..5 {
        left.push(last_words(&url, "left").await?);
    }
    gateway
        .starved(async {
            for mut stream in left {
                let mut answer = Vec::new();
                // Cut without an answer.
                stream.read_to_end(&mut answer).await.ok();
                let answer = String::from_utf8_lossy(&answer);
                ensure!(answer.is_empty(), "{answer}");
            }
            Ok(())
        })
        .await?;
    ensure!(asked(&gateway, "left") == 0);
    Ok(())
}
