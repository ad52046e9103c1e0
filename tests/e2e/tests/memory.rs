//! A gateway in a group of 512 MiB, as the chart starts it, and clients that want all of it.
//!
//! Where this machine lets us make no such group, the budget is set as if there were one, and the process
//! is judged by its own peak alone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tests_support::http::Answer;
use tests_support::{MemoryGroup, Quickstart, eventually, http, peak_of, resident_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: usize = 512 << 20;
const MB: usize = 1_000_000;

/// A small request that takes longer is not served.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the bodies are sent, so that there are enough small requests beside them.
const ROUNDS: usize = 5;
/// How long small requests are sent before an attack, and while it holds what it has.
const QUIET: Duration = Duration::from_millis(500);

/// No quota: memory alone decides. Strangers bring the key of the backend.
const OPEN: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: theirs}
spec:
  type: Foundry
  endpoint: http://BACKEND
  allowPlaintext: true
  auth: {type: PassThrough}
  deployments:
  - {name: upload, model: gpt-5}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: open}
spec:
  authentication: {passThrough: {}}
  rules:
  - name: all
    matches:
    - models: [upload]
      operations: [ChatCompletions]
    backendRefs:
    - {name: theirs}
";

/// Where small requests go.
struct Target {
    url: String,
    key: &'static str,
}

/// How long small requests took: through the gateway, and at the simulated Foundry itself. A bare server on the
/// same machine is the reference: the clients of an attack use the same cores.
#[derive(Default)]
struct Took {
    gateway: Vec<Duration>,
    bare: Vec<Duration>,
}

/// Small requests that are being sent.
struct Probe {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Took>>,
}

impl Target {
    /// One request on a new connection. Once an attack has begun each of them must find room.
    async fn ask(&self, took: &mut Vec<Duration>) -> Result<()> {
        let began = Instant::now();
        let url = format!("{}/v1/chat/completions", self.url);
        let headers = [("api-key", self.key)];
        let asked = http::post_json(&url, &headers, chat("Hi"));
        let answer = timeout(PATIENCE, asked).await.context("it is answered")??;
        ensure!(answer.status == 200, "{url}: {}", answer.text());
        took.push(began.elapsed());
        Ok(())
    }
}

impl Probe {
    async fn end(self) -> Result<Took> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        let took = ended.await?.ok().context("the probe panicked")?;
        let mut took = took?;
        took.gateway.sort_unstable();
        took.bare.sort_unstable();
        Ok(took)
    }
}

/// The place of this share among times that are sorted.
fn share(took: &[Duration], per_cent: usize) -> Duration {
    let place = took.get(took.len() * per_cent / 100);
    place.copied().unwrap_or_default()
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gateway, bare } = self;
        let [half, most] = [50, 99].map(|per_cent| share(gateway, per_cent));
        let [bare_half, bare_most] = [50, 99].map(|per_cent| share(bare, per_cent));
        let last = gateway.last().copied().unwrap_or_default();
        write!(
            f,
            "{} requests, p50 {half:?}, p99 {most:?}, most {last:?} (a bare server {bare_half:?}, {bare_most:?})",
            gateway.len()
        )
    }
}

/// A gateway under attack.
struct Stage {
    quickstart: Quickstart,
    // Dropped after the processes in it.
    group: Option<MemoryGroup>,
}

impl Stage {
    async fn start(name: &str) -> Result<Self> {
        // Of the simulated Foundry.
        Self::before(name, "127.0.0.1:8082").await
    }

    /// With this backend for strangers.
    async fn before(name: &str, backend: &str) -> Result<Self> {
        let group = MemoryGroup::new(name, LIMIT);
        let command = |program: &Path| {
            let mut command = if let Some(group) = &group {
                group.command(program)
            } else {
                let mut command = Command::new(program);
                command.env("TUNDISH_MEMORY_BUDGET", (LIMIT / 10 * 6).to_string());
                command
            };
            // The allocator keeps what it frees for each thread.
            command.env("TUNDISH_THREADS", "8");
            let settings = tests_image::ENVIRONMENT.iter();
            command.envs(settings.copied().filter(|(name, _)| *name != "PATH"));
            command
        };
        let open = OPEN.replace("BACKEND", backend);
        let manifests = [("quota.yaml", ""), ("open.yaml", &*open)];
        let quickstart = Quickstart::launch(&manifests, command).await?;
        Ok(Self { quickstart, group })
    }

    fn address(&self) -> Result<&str> {
        let address = self.quickstart.gateway.strip_prefix("http://");
        address.context("plain HTTP")
    }

    async fn metric(&self, name: &str) -> Result<usize> {
        let page = http::get(&format!("{}/metrics", self.quickstart.admin)).await?;
        let page = page.text();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("the metric")?.trim().parse()?)
    }

    /// Small requests of another caller, while nothing else runs.
    async fn quiet(&self) -> Result<Took> {
        let probe = self.probe();
        sleep(QUIET).await;
        probe.end().await
    }

    /// Begins to send small requests of another caller. A thread of its own, so that what they wait for is the
    /// gateway and the machine, and not the clients of an attack.
    fn probe(&self) -> Probe {
        let gateway = Target {
            url: self.quickstart.gateway.clone(),
            key: "search-team-key",
        };
        let bare = Target {
            url: format!("{}/openai", self.quickstart.sim),
            key: "sim-key",
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            runtime.block_on(async {
                let mut took = Took::default();
                while !ends.load(Ordering::Relaxed) {
                    gateway.ask(&mut took.gateway).await?;
                    bare.ask(&mut took.bare).await?;
                }
                anyhow::Ok(took)
            })
        });
        Probe { is_over, thread }
    }

    /// Ends an attack: the process lives, and has stayed within the limit.
    #[expect(clippy::print_stdout, reason = "the figures of a run, shown on demand")]
    fn judge(&mut self, attack: &str, quiet: &Took, under: &Took) -> Result<()> {
        ensure!(self.quickstart.run.ended()?.is_none(), "it was killed");
        let resident = peak_of(&self.quickstart.run)?;
        let of_group = self.group.as_ref().map(MemoryGroup::peak).transpose()?;
        println!(
            "{attack}: peak resident {} MB, of the group {:?} MB; small requests: quiet {quiet}; beside it {under}",
            resident / MB,
            of_group.map(|bytes| bytes / MB),
        );
        ensure!(resident < LIMIT, "{attack}: {} MB", resident / MB);
        ensure!(of_group.is_none_or(|peak| peak <= LIMIT));
        Ok(())
    }

    /// Waits until nothing of an attack is held, so that nothing was counted twice or lost.
    async fn is_free(&self) -> Result<()> {
        eventually("all memory is given back", PATIENCE, async || {
            // The scrapes and the last client may still be connected.
            let held = self.metric("tundish_memory_held_bytes ").await.ok()?;
            (held < 200_000).then_some(())
        })
        .await
    }
}

fn chat(text: &str) -> String {
    format!(r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

fn head(key: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\napi-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// A connection that has sent `bytes`, or was refused meanwhile.
async fn sent(address: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    Some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_unfinished_heads_of_30_kb_stay_within_the_limit() -> Result<()> {
    const CONNECTIONS: usize = 5_000;
    proxy_admin::descriptors::raise_limit();
    let mut stage = Stage::start("heads").await?;
    let quiet = stage.quiet().await?;
    let begun = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\nx-pad: {}",
        "a".repeat(30_000)
    );
    let (address, begun) = (stage.address()?.to_owned(), Bytes::from(begun));
    let mut attack = JoinSet::new();
    for _ in 0..50 {
        let (address, begun) = (address.clone(), begun.clone());
        attack.spawn(async move {
            let mut open = Vec::new();
            for _ in 0..CONNECTIONS / 50 {
                open.push(sent(&address, &begun).await);
            }
            open
        });
    }
    let open = attack.join_all().await;
    let under = stage.quiet().await?;
    stage.judge("5,000 heads", &quiet, &under)?;
    let taken: Vec<TcpStream> = open.into_iter().flatten().flatten().collect();
    println!(
        "{} of {CONNECTIONS} connections could send their part",
        taken.len()
    );
    drop(taken);
    stage.is_free().await
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_do_not_end_stay_within_the_limit() -> Result<()> {
    let mut stage = Stage::start("uploads").await?;
    let quiet = stage.quiet().await?;
    let part = Bytes::from(vec![b' '; 28 * MB]);
    let address = stage.address()?.to_owned();
    let mut attack = JoinSet::new();
    for index in 0..80 {
        let key = if index % 2 == 0 { "intern-key" } else { "junk" };
        let (address, part) = (address.clone(), part.clone());
        attack.spawn(async move {
            let mut stream = sent(&address, head(key, 30 * MB).as_bytes()).await?;
            // A refusal ends this before its end.
            let whole = stream.write_all(&part).await.is_ok();
            Some((stream, whole))
        });
    }
    // Those that are taken wait for their end.
    let mut open = Vec::new();
    while let Ok(Some(one)) = timeout(Duration::from_secs(3), attack.join_next()).await {
        open.extend(one?);
    }
    let under = stage.quiet().await?;
    stage.judge("80 uploads", &quiet, &under)?;
    let held = stage.metric("tundish_memory_held_bytes ").await?;
    ensure!(held > 60 * MB, "{held}: some of them are taken");
    let refused = stage
        .metric(r#"tundish_requests_total{route="",rule="",code="overloaded"} "#)
        .await?;
    ensure!(refused >= 60, "{refused} refused");
    drop((open, attack));
    stage.is_free().await
}

/// A backend that takes any body and answers with little: what it costs beside is the kernel's alone.
async fn sink() -> Result<(String, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _peer)) = listener.accept().await {
            connections.spawn(async move { drop(swallow(stream).await) });
        }
    });
    Ok((address, serving))
}

async fn swallow(mut stream: TcpStream) -> Result<()> {
    let answer =
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let length = answer.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    let answer = format!("{head} {length}\r\n\r\n{answer}");
    let mut piece = vec![0; 256 << 10];
    loop {
        let mut begin = Vec::new();
        let end = loop {
            ensure!(stream.read_buf(&mut begin).await? > 0, "closed");
            if let Some(end) = begin.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(begin.get(..end).unwrap_or_default()).to_lowercase();
        let length = head.split("content-length:").nth(1).context("a length")?;
        let length: usize = length.split("\r\n").next().unwrap_or("").trim().parse()?;
        let mut left = (end + length).saturating_sub(begin.len());
        while left > 0 {
            left = left.saturating_sub(stream.read(&mut piece).await?);
        }
        stream.write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_bodies_of_30_mb_at_once_stay_within_the_limit() -> Result<()> {
    let (backend, _sink) = sink().await?;
    let mut stage = Stage::before("bodies", &backend).await?;
    let quiet = stage.quiet().await?;
    let body = chat(&"word ".repeat(6 * MB)).replacen("gpt-5", "upload", 1);
    let body = Bytes::from(body);
    let probe = stage.probe();
    let (began, mut answers) = (Instant::now(), Vec::new());
    for _ in 0..ROUNDS {
        let mut attack = JoinSet::new();
        for _ in 0..200 {
            let (url, body) = (stage.quickstart.chat_url(), body.clone());
            attack.spawn(async move { http::post_json(&url, &[("api-key", "junk")], body).await });
        }
        answers.extend(timeout(PATIENCE * 6, attack.join_all()).await?);
    }
    println!("{ROUNDS} rounds took {:?}", began.elapsed());
    let under = probe.end().await?;
    stage.judge("200 bodies", &quiet, &under)?;
    // What the machine itself costs beside such clients is what a bare server takes.
    let [half, before] = [&under, &quiet].map(|took| share(&took.gateway, 50));
    let most = (before + share(&under.bare, 50)) * 2;
    ensure!(
        half <= most,
        "small requests wait: {half:?}, {most:?} at most"
    );
    let answers: Vec<&Answer> = answers.iter().flatten().collect();
    let with = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    let served = with(200).count();
    let other = answers
        .iter()
        .find(|answer| ![200, 429, 503].contains(&answer.status));
    let other = other.map(|answer| answer.text());
    ensure!(
        served > 0 && other.is_none(),
        "{served} are served: {other:?}"
    );
    for refused in with(429).chain(with(503)) {
        ensure!(
            refused.text().contains("\"overloaded\""),
            "{}",
            refused.text()
        );
        ensure!(refused.header("retry-after").is_some());
    }
    let refused = with(429).count() + with(503).count();
    let all = 200 * ROUNDS;
    println!(
        "{served} served, {refused} refused, {} cut",
        all - served - refused
    );
    ensure!((served + refused) * 20 >= all * 19, "most see why");
    stage.is_free().await?;
    let resident = resident_of(&stage.quickstart.run)?;
    println!("{} MB stay resident", resident / MB);
    ensure!(
        resident < 120 * MB,
        "freed memory goes back: {} MB",
        resident / MB
    );
    Ok(())
}

#[tokio::test]
async fn a_refused_upload_is_answered_at_once_and_says_so() -> Result<()> {
    let stage = Stage::start("refused").await?;
    let address = stage.address()?.to_owned();
    let part = vec![b' '; 20 * MB];
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(&address).await?;
        stream
            .write_all(head("intern-key", 30 * MB).as_bytes())
            .await?;
        stream.write_all(&part).await?;
        held.push(stream);
    }
    let began = Instant::now();
    let mut stream = TcpStream::connect(&address).await?;
    stream
        .write_all(head("intern-key", 30 * MB).as_bytes())
        .await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    ensure!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    ensure!(answer.contains("connection: close\r\n"), "{answer}");
    ensure!(answer.contains("\"code\":\"overloaded\""), "{answer}");
    ensure!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}
