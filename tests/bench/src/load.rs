//! The generator: keep-alive connections that send a request as soon as they have the answer.
//!
//! Raw sockets and one buffer per connection: the generator must cost less than what it measures.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use proxy_admin::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::certificate::NAME;
use crate::latency::Latencies;

pub(crate) mod events;

/// Room for the answer to a request that is not a stream.
const ANSWER: usize = 4 * 1024;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// None for plain HTTP.
    pub(crate) tls: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(NAME).context("use the name")?;
                Box::new(tls.connect(name, stream).await.context("handshake")?)
            }
        })
    }
}

/// A connection, with TLS or without.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Debug> Wire for T {}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Duration,
}

/// Connections that have had one answer each: handshakes and first allocations are behind them.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Vec<Box<dyn Wire>>,
    request: Arc<[u8]>,
}

impl Connections {
    pub(crate) async fn open(target: &Target, request: &[u8], count: usize) -> Result<Self> {
        let mut open = Vec::with_capacity(count);
        for _ in 0..count {
            let mut wire = target.connect().await?;
            exchange(&mut wire, request, &mut Vec::with_capacity(ANSWER)).await?;
            open.push(wire);
        }
        Ok(Self {
            open,
            request: request.into(),
        })
    }

    /// Sends on all of them for `time`. Every answer must be a 200.
    pub(crate) async fn drive(self, time: Duration) -> Result<Outcome> {
        let start = clock::instant();
        let mut tasks = JoinSet::new();
        for wire in self.open {
            let request = Arc::clone(&self.request);
            tasks.spawn(async move { repeat(wire, &request, start + time).await });
        }
        let mut latencies = Latencies::new()?;
        while let Some(one) = tasks.join_next().await {
            latencies.add(&one??)?;
        }
        let elapsed = clock::instant().saturating_duration_since(start);
        Ok(Outcome { latencies, elapsed })
    }

    /// Sends `count` requests, one after the other, on each of the connections in turn.
    pub(crate) async fn send(&mut self, count: u64) -> Result<()> {
        let mut buffer = Vec::with_capacity(ANSWER);
        let mut sent = 0;
        while sent < count {
            for wire in &mut self.open {
                exchange(wire, &self.request, &mut buffer).await?;
                sent += 1;
            }
        }
        Ok(())
    }
}

/// Sends `request` over `connections` connections for `time`. Every answer must be a 200.
pub(crate) async fn closed_loop(
    target: SocketAddr,
    request: &[u8],
    connections: usize,
    time: Duration,
) -> Result<Outcome> {
    let target = Target::plain(target);
    let open = Connections::open(&target, request, connections).await?;
    open.drive(time).await
}

async fn repeat(mut wire: Box<dyn Wire>, request: &[u8], until: Instant) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut buffer = Vec::with_capacity(ANSWER);
    loop {
        let begun = clock::instant();
        if begun >= until {
            return Ok(latencies);
        }
        exchange(&mut wire, request, &mut buffer).await?;
        latencies.record(clock::instant().saturating_duration_since(begun));
    }
}

/// Sends a request and reads its answer, which has a `content-length`; checks the status.
async fn exchange(wire: &mut Box<dyn Wire>, request: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    wire.write_all(request).await?;
    wire.flush().await?;
    buffer.clear();
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(
            wire.read_buf(buffer).await? > 0,
            "the connection was closed"
        );
    };
    accepted(buffer)?;
    let length = content_length(buffer.get(..head).unwrap_or_default())?;
    while buffer.len() < head + length {
        ensure!(wire.read_buf(buffer).await? > 0, "the answer was cut");
    }
    Ok(())
}

fn accepted(answer: &[u8]) -> Result<()> {
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        let shown = answer.get(..answer.len().min(400)).unwrap_or(answer);
        bail!("not a 200: {}", String::from_utf8_lossy(shown));
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
    });
    post(target, header, &body.to_string())
}

fn post(target: SocketAddr, header: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {target}\r\n{header}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
