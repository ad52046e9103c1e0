//! Forms and files: held up to a size, and beyond it on their way as they come.

use std::time::Duration;

use ::http::Method;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use proxy_core::quota::Unit;
use proxy_core::table::{Backend, Contents};
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::{Config, Fault, Outcome, Sim};
use tests_support::http::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::{Bench, at, minute, routed, sims};
use crate::connections::{Tls, secured};
use crate::raw::{self, Raw};

const HEAR: &str = "/v1/audio/transcriptions";
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");
const KEY: (&str, &str) = ("api-key", "ann-key");
/// What the gateway of these tests holds.
const HELD: usize = 1 << 20;

fn config() -> Result<Config> {
    Ok(Config {
        deployments: vec![
            "gpt-4o-mini=gpt-4o-mini-transcribe".parse()?,
            "whisper=whisper-001".parse()?,
        ],
        ..Config::default()
    })
}

fn contents(sims: &[Sim], tokens: u64) -> Contents {
    let backends = sims.iter().map(|sim| Backend {
        deployments: vec![deployment("gpt-4o-mini", "mini")],
        ..at(&sim.url())
    });
    routed(backends.collect(), vec![minute(Unit::Tokens, tokens)])
}

fn bench(backends: usize, tokens: u64) -> Result<Bench> {
    let sims = sims(backends, &config()?)?;
    let contents = contents(&sims, tokens);
    Bench::serve(sims, contents, |config| {
        config.max_body = HELD;
        config.max_upload = 8 << 20;
    })
}

fn part(disposition: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), value, b"\r\n"].concat()
}

fn field(name: &str, value: &str) -> Vec<u8> {
    part(&format!("name=\"{name}\""), value.as_bytes())
}

fn file(size: usize) -> Vec<u8> {
    let sound: Vec<u8> = b"\r\n--B-".iter().copied().cycle().take(size).collect();
    part("name=\"file\"; filename=\"a.mp3\"", &sound)
}

fn form(parts: &[Vec<u8>]) -> Bytes {
    [parts.concat(), b"--b--\r\n".to_vec()].concat().into()
}

async fn post(bench: &Bench, path: &str, body: Bytes) -> Result<Answer> {
    let url = format!("{}{path}", bench.url);
    http::request(Method::POST, &url, &[KEY, FORM], body).await
}

/// What is used of all limits once nothing runs, reservations included.
async fn used(bench: &Bench) -> Result<u64> {
    bench.quiet().await?;
    let page = bench.gateway.usage_page();
    let subjects = page.limits.iter().flat_map(|limit| &limit.subjects);
    Ok(subjects
        .map(|subject| subject.used + subject.reserved)
        .sum())
}

async fn connect(bench: &Bench) -> Result<TcpStream> {
    let address = bench.url.strip_prefix("http://").context("a URL")?;
    Ok(TcpStream::connect(address).await?)
}

fn code(answer: &Answer) -> Option<Value> {
    answer.json::<Value>().ok()?.pointer("/error/code").cloned()
}

#[tokio::test]
async fn a_form_of_any_size_goes_on_with_another_model_and_is_settled_by_its_usage() -> Result<()> {
    let bench = bench(1, 1_000_000)?;
    for (size, model_first) in [
        (9_000, false),
        (9_000, true),
        (HELD + 5, true),
        (5 << 20, true),
    ] {
        let model = field("model", "mini");
        let file = file(size);
        let parts = if model_first {
            [model, file, field("prompt", "bells")]
        } else {
            [file, model, field("prompt", "bells")]
        };
        let body = form(&parts);
        let before = used(&bench).await?;
        let answer = post(&bench, HEAR, body.clone()).await?;
        ensure!(answer.status == 200, "{size}: {}", answer.text());
        let usage = answer.json::<Value>()?["usage"]["total_tokens"].clone();
        let sent = bench.sims[0].requests().pop().context("a request")?;
        let expect =
            String::from_utf8(body.to_vec())?.replacen("\r\nmini\r\n", "\r\ngpt-4o-mini\r\n", 1);
        assert!(sent.body == expect, "{size}: the form was changed");
        let used = used(&bench).await?;
        assert_eq!(Some(used - before), usage.as_u64(), "{size}");
    }
    Ok(())
}

#[tokio::test]
async fn a_large_form_that_comes_in_one_piece_is_served() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let contents = contents(&sims, 1_000_000);
    let bench = Bench::serve(sims, contents, |config| config.max_body = 2_000)?;
    let parts = [
        field("model", "mini"),
        file(4_000),
        field("prompt", "bells"),
    ];
    let answer = post(&bench, HEAR, form(&parts)).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let without = form(&[field("model", "mini"), field("prompt", &"x".repeat(4_000))]);
    let answer = post(&bench, HEAR, without).await?;
    ensure!(answer.status == 400 && answer.text().contains("no file"));
    Ok(())
}

#[tokio::test]
async fn what_decides_must_stand_before_the_files_of_a_large_form() -> Result<()> {
    let bench = bench(1, 1_000_000)?;
    let late = form(&[file(HELD + 5), field("model", "mini")]);
    let answer = post(&bench, HEAR, late).await?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    ensure!(
        answer.text().contains("before its files"),
        "{}",
        answer.text()
    );
    let twice = form(&[
        field("model", "mini"),
        file(HELD + 5),
        field("model", "other"),
    ]);
    let answer = post(&bench, HEAR, twice).await?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    ensure!(answer.text().contains("given twice"), "{}", answer.text());
    let late = form(&[
        field("model", "mini"),
        file(HELD + 5),
        field("stream", "true"),
    ]);
    let answer = post(&bench, HEAR, late).await?;
    ensure!(
        answer.status == 400 && answer.text().contains("before the files"),
        "{}",
        answer.text()
    );
    let sims: Vec<_> = bench.sims[0].requests();
    ensure!(
        sims.iter()
            .all(|one| one.outcome != Outcome::Answered || one.status != Some(200)),
        "a backend has answered"
    );
    assert_eq!(used(&bench).await?, 0);
    // None of that was the backend's fault.
    let good = form(&[field("model", "mini"), file(HELD + 5)]);
    assert_eq!(post(&bench, HEAR, good).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_body_beyond_all_bounds_is_refused() -> Result<()> {
    let bench = bench(1, 1_000_000)?;
    let large = form(&[field("model", "mini"), file(8 << 20)]);
    let answer = post(&bench, HEAR, large).await?;
    assert_eq!(
        code(&answer),
        Some(json!("request_too_large")),
        "{}",
        answer.text()
    );
    ensure!(answer.status == 413 && answer.text().contains("8388608"));
    // What tells no size is held, so the smaller bound counts.
    let mut stream = connect(&bench).await?;
    let head = "POST /v1/files HTTP/1.1\r\nhost: x\r\napi-key: ann-key\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let chunk = [
        format!("{:x}\r\n", HELD + 1).into_bytes(),
        vec![0; HELD + 1],
    ]
    .concat();
    drop(stream.write_all(&chunk).await);
    let mut answer = Vec::new();
    while !answer.ends_with(b"send one\",\"type\":") && answer.len() < 2_000 {
        answer.push(stream.read_u8().await?);
    }
    let answer = String::from_utf8(answer)?;
    ensure!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // What takes no files is bounded as before.
    let chat = json!({"model": "mini", "x": "x".repeat(HELD)}).to_string();
    let answer = post(&bench, "/v1/chat/completions", chat.into()).await?;
    assert_eq!(answer.status, 413);
    Ok(())
}

#[tokio::test]
async fn a_held_form_is_tried_elsewhere_and_a_large_one_is_not() -> Result<()> {
    let bench = bench(2, 1_000_000)?;
    let fault =
        || -> Result<Fault> { Ok(serde_json::from_value(json!({"status": 500, "times": 1}))?) };
    bench.sims[0].faults(vec![fault()?])?;
    let small = form(&[field("model", "mini"), file(9_000)]);
    assert_eq!(post(&bench, HEAR, small).await?.status, 200);
    assert_eq!(bench.sims[1].requests().len(), 1);
    bench.sims[0].faults(vec![fault()?])?;
    let large = form(&[field("model", "mini"), file(HELD + 5)]);
    let answer = post(&bench, HEAR, large).await?;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_eq!(bench.sims[1].requests().len(), 1, "it went once");
    Ok(())
}

/// Begins a form of 4 MB on a connection of its own.
async fn begun(bench: &Bench) -> Result<TcpStream> {
    let mut stream = connect(bench).await?;
    let begin = [field("model", "mini"), file(HELD)].concat();
    let head = format!(
        "POST {HEAR} HTTP/1.1\r\nhost: x\r\napi-key: ann-key\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        FORM.1,
        4 << 20
    );
    stream.write_all(head.as_bytes()).await?;
    stream
        .write_all(begin.get(..HELD).context("a part")?)
        .await?;
    Ok(stream)
}

#[tokio::test]
async fn an_upload_that_breaks_off_costs_nothing_and_frees_its_place() -> Result<()> {
    let (heads, mut seen) = tokio::sync::mpsc::channel(4);
    let backend = Raw::start(move |mut stream| {
        let heads = heads.clone();
        async move {
            let (head, _) = raw::head(&mut stream).await?;
            heads.send(head).await?;
            // Reads until the gateway gives the call up.
            while stream.read(&mut [0; 4096]).await? > 0 {}
            heads.send("closed".to_owned()).await?;
            Ok(())
        }
    })
    .await?;
    let limits = vec![minute(Unit::Tokens, 1_000_000), minute_of_one()];
    let bench = Bench::serve(
        Vec::new(),
        routed(vec![at(&backend.url)], limits),
        |config| config.max_body = HELD,
    )?;
    for _ in 0..2 {
        let stream = begun(&bench).await?;
        let head = seen.recv().await.context("a call")?;
        ensure!(head.contains("content-length: 4194"), "{head}");
        drop(stream);
        let closed = tokio::time::timeout(Duration::from_secs(10), seen.recv()).await?;
        assert_eq!(closed.as_deref(), Some("closed"));
        assert_eq!(used(&bench).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn no_more_is_taken_from_a_client_than_the_backend_takes() -> Result<()> {
    let backend = Raw::start(|mut stream| async move {
        raw::head(&mut stream).await?;
        // Takes nothing more.
        std::future::pending::<()>().await;
        Ok(())
    })
    .await?;
    let bench = Bench::serve(
        Vec::new(),
        routed(vec![at(&backend.url)], Vec::new()),
        |config| config.max_body = HELD,
    )?;
    let mut stream = connect(&bench).await?;
    let size = 64_usize << 20;
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\napi-key: ann-key\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut sent = 0;
    let chunk = vec![0; 256 << 10];
    while sent < size {
        let write = tokio::time::timeout(Duration::from_millis(800), stream.write_all(&chunk));
        if write.await.is_err() {
            break;
        }
        sent += chunk.len();
    }
    // The kernel's buffers of two connections, and what the gateway reads ahead.
    ensure!(sent < 32 << 20, "{sent} bytes were taken");
    Ok(())
}

/// Reads a form, and answers with its size.
async fn sized(stream: Tls) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut answers = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let said = request.headers().get("content-length").cloned();
        let mut body = request.into_body();
        answers.spawn(async move {
            let mut size = 0_usize;
            while let Some(piece) = body.data().await {
                let piece = piece?;
                size += piece.len();
                body.flow_control().release_capacity(piece.len())?;
            }
            let said = said.context("a length")?;
            let json = format!("{{\"text\":\"{size}\",\"said\":{}}}", said.to_str()?);
            let mut sending = respond.send_response(::http::Response::new(()), false)?;
            sending.send_data(json.into(), true)?;
            Ok::<_, anyhow::Error>(())
        });
    }
    Ok(())
}

#[tokio::test]
async fn a_large_form_goes_on_over_http2_too() -> Result<()> {
    let (_raw, backend, _handshakes) = secured(b"h2", sized).await?;
    let bench = Bench::serve(Vec::new(), routed(vec![backend], Vec::new()), |config| {
        config.max_body = HELD
    })?;
    let body = form(&[field("model", "mini"), file(3 << 20)]);
    let size = body.len() + "gpt-4o-mini".len() - "mini".len();
    let answer = post(&bench, HEAR, body).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    let json: Value = answer.json()?;
    assert_eq!(json, json!({"text": size.to_string(), "said": size}));
    let late = form(&[field("model", "mini"), file(3 << 20), field("model", "x")]);
    let answer = post(&bench, HEAR, late).await?;
    ensure!(
        answer.status == 400 && answer.text().contains("given twice"),
        "{}",
        answer.text()
    );
    Ok(())
}

#[tokio::test]
async fn a_backend_that_refuses_a_large_form_at_once_is_heard() -> Result<()> {
    let backend = Raw::start(|mut stream| async move {
        raw::head(&mut stream).await?;
        let body = r#"{"error":{"message":"too much"}}"#;
        let head = format!(
            "HTTP/1.1 413 Too Large\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())
            .await?;
        // A server that closes here would reset the connection, and its answer with it.
        while stream.read(&mut [0; 4096]).await? > 0 {}
        Ok(())
    })
    .await?;
    let bench = Bench::serve(
        Vec::new(),
        routed(vec![at(&backend.url)], Vec::new()),
        |config| config.max_body = HELD,
    )?;
    let mut stream = begun(&bench).await?;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, b"HTTP/1.1 413");
    Ok(())
}

fn minute_of_one() -> proxy_core::quota::Limit {
    proxy_core::test_util::limit("one", Unit::Concurrency, 1)
}
