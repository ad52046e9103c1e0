//! A gateway in a group of 512 MiB, as the chart starts it, and clients that want all of it.
//!
//! Where this machine lets us make no such group, the budget is set as if there were one, and the process
//! is judged by its own peak alone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tests_support::http::{Answer, Connection};
use tests_support::{MemoryGroup, Quickstart, eventually, http, peak_of, resident_of, workspace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: usize = 512 << 20;
const MB: usize = 1_000_000;

/// A small request that takes longer is not served.
const PATIENCE: Duration = Duration::from_secs(20);
/// The small requests beside each attack.
const SMALL: usize = 200;

/// No quota: memory alone decides. Strangers bring the key of the backend.
const OPEN: &str = r"
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: theirs}
spec:
  type: Foundry
  endpoint: http://127.0.0.1:8082
  allowPlaintext: true
  auth: {type: PassThrough}
  deployments:
  - {name: gpt-4o, model: gpt-4o}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: open}
spec:
  authentication: {passThrough: {}}
  rules:
  - name: all
    matches:
    - operations: [ChatCompletions]
    backendRefs:
    - {name: theirs, deployment: gpt-4o}
";

/// A gateway under attack.
struct Stage {
    quickstart: Quickstart,
    // Dropped after the processes in it.
    group: Option<MemoryGroup>,
}

impl Stage {
    async fn start(name: &str) -> Result<Self> {
        let group = MemoryGroup::new(name, LIMIT);
        let image = std::fs::read_to_string(workspace().join("Dockerfile"))?;
        let settings = image.lines().filter_map(|line| line.strip_prefix("ENV "));
        let settings: Vec<(&str, &str)> = settings.filter_map(|one| one.split_once('=')).collect();
        let command = |program: &Path| {
            let mut command = if let Some(group) = &group {
                group.command(program)
            } else {
                let mut command = Command::new(program);
                command.env("TUNDISH_MEMORY_BUDGET", (LIMIT / 10 * 6).to_string());
                command
            };
            // The allocator keeps what it frees for each thread.
            command.env("TUNDISH_THREADS", "8").envs(settings);
            command
        };
        let sim_is_known = [("quota.yaml", ""), ("open.yaml", OPEN)];
        let quickstart = Quickstart::launch(&sim_is_known, command).await?;
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

    /// Sends small requests of another caller, one after the other, on a connection that is kept and on
    /// new ones. Returns how long each took.
    async fn small_requests(&self) -> Result<Vec<Duration>> {
        let mut kept = Connection::open(&self.quickstart.gateway).await?;
        let headers = [("api-key", "search-team-key")];
        let body = chat("Hi");
        let mut took = Vec::new();
        for index in 0..SMALL {
            let began = Instant::now();
            let asked = async {
                if index % 2 == 0 {
                    kept.post_json("/v1/chat/completions", &headers, body.clone())
                        .await
                } else {
                    self.on_a_new_connection(&headers, &body).await
                }
            };
            let answer = timeout(PATIENCE, asked).await.context("it is answered")??;
            ensure!(answer.status == 200, "{}: {}", index, answer.text());
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(took)
    }

    /// At the peak of an attack a new connection may be turned away, and comes again as SDKs do.
    async fn on_a_new_connection(&self, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        loop {
            let url = self.quickstart.chat_url();
            let answer = http::post_json(&url, headers, body.to_owned()).await?;
            if answer.status != 503 {
                return Ok(answer);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Ends an attack: the process lives, and has stayed within the limit.
    #[expect(clippy::print_stdout, reason = "the figures of a run, shown on demand")]
    fn judge(&mut self, attack: &str, quiet: &[Duration], under: &[Duration]) -> Result<()> {
        ensure!(self.quickstart.run.ended()?.is_none(), "it was killed");
        let resident = peak_of(&self.quickstart.run)?;
        let of_group = self.group.as_ref().map(MemoryGroup::peak).transpose()?;
        let p99 = |took: &[Duration]| took.get(took.len() * 99 / 100).copied();
        println!(
            "{attack}: peak resident {} MB, of the group {:?} MB; small requests p99 {:?}, quiet {:?}",
            resident / MB,
            of_group.map(|bytes| bytes / MB),
            p99(under),
            p99(quiet)
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
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#)
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
    let quiet = stage.small_requests().await?;
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
    let under = stage.small_requests().await?;
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
    let quiet = stage.small_requests().await?;
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
    let under = stage.small_requests().await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_bodies_of_30_mb_at_once_stay_within_the_limit() -> Result<()> {
    let mut stage = Stage::start("bodies").await?;
    let quiet = stage.small_requests().await?;
    let body = Bytes::from(chat(&"word ".repeat(6 * MB)));
    let mut attack = JoinSet::new();
    for _ in 0..200 {
        let (url, body) = (stage.quickstart.chat_url(), body.clone());
        attack
            .spawn(async move { http::post_json(&url, &[("api-key", "intern-key")], body).await });
    }
    let under = stage.small_requests().await?;
    let answers = timeout(PATIENCE * 6, attack.join_all()).await?;
    stage.judge("200 bodies", &quiet, &under)?;
    let answers: Vec<&Answer> = answers.iter().flatten().collect();
    let with = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    let served = with(200).count();
    ensure!(served > 0, "some are served");
    for refused in with(429).chain(with(503)) {
        ensure!(
            refused.text().contains("\"overloaded\""),
            "{}",
            refused.text()
        );
        ensure!(refused.header("retry-after").is_some());
    }
    let refused = with(429).count() + with(503).count();
    println!(
        "{served} served, {refused} refused, {} cut",
        200 - served - refused
    );
    ensure!(served + refused >= 190, "most see why");
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
