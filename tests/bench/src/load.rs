//! A closed loop of keep-alive connections: each sends a request as soon as it has the answer.
//!
//! Raw sockets and one buffer per connection: the generator must cost less than what it measures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use proxy_admin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::latency::Latencies;

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Duration,
}

/// Sends `request` over `connections` connections for `time`. Every answer must be a 200.
pub(crate) async fn closed_loop(
    target: SocketAddr,
    request: &[u8],
    connections: usize,
    time: Duration,
) -> Result<Outcome> {
    let start = clock::instant();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let request = request.to_vec();
        tasks.spawn(async move { connection(target, &request, start + time).await });
    }
    let mut latencies = Latencies::new()?;
    while let Some(one) = tasks.join_next().await {
        latencies.add(&one??)?;
    }
    let elapsed = clock::instant().saturating_duration_since(start);
    Ok(Outcome { latencies, elapsed })
}

async fn connection(target: SocketAddr, request: &[u8], until: Instant) -> Result<Latencies> {
    let mut stream = TcpStream::connect(target).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let mut latencies = Latencies::new()?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let begun = clock::instant();
        if begun >= until {
            return Ok(latencies);
        }
        stream.write_all(request).await?;
        answer(&mut stream, &mut buffer).await?;
        latencies.record(clock::instant().saturating_duration_since(begun));
    }
}

/// Reads one answer with a `content-length`, and checks its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(
            stream.read_buf(buffer).await? > 0,
            "the connection was closed"
        );
    };
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        bail!(
            "not a 200: {}",
            String::from_utf8_lossy(buffer.get(..buffer.len().min(400)).unwrap_or(buffer))
        );
    }
    let length = content_length(buffer.get(..head).unwrap_or_default())?;
    while buffer.len() < head + length {
        ensure!(stream.read_buf(buffer).await? > 0, "the answer was cut");
    }
    Ok(())
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = lines
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without content-length")?;
    Ok(value.trim().parse()?)
}

/// A chat request of about `bytes` bytes, ready for the wire.
pub(crate) fn chat(target: SocketAddr, header: &str, bytes: usize) -> Vec<u8> {
    let text = "x".repeat(bytes.saturating_sub(90));
    let body = serde_json::json!({
        "model": "gpt-4o",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": text}],
    })
    .to_string();
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {target}\r\n{header}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
