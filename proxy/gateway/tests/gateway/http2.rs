//! What goes wrong on HTTP/2 leaves a trace: streams that are reset, connections that break the protocol.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::Reason;
use tests_support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Bench, at};
use crate::raw::{Raw, echo, request};
use crate::wire::connect;

/// A longer wait is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(5);

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET / HTTP`, with `gw` for the host.
const HEAD: &[u8] = b"\x82\x86\x84\x41\x02gw";
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn headers(stream: u32, head: &[u8]) -> Vec<u8> {
    frame(1, END_STREAM | END_HEADERS, stream, head)
}

/// How often this happened.
fn errors(bench: &Bench, sender: &str, ends: &str, error: &str) -> u64 {
    let labels = format!(r#"{{sender="{sender}",ends="{ends}",error="{error}"}}"#);
    let line = format!("downstream_http2_errors_total{labels}");
    bench.metric(&line).unwrap_or(0)
}

/// Waits until it did.
async fn counted(bench: &Bench, sender: &str, ends: &str, error: &str) -> Result<()> {
    let what = format!("{sender} ends a {ends} by {error}");
    eventually(&what, PATIENCE, async || {
        (errors(bench, sender, ends, error) > 0).then_some(())
    })
    .await
}

/// What comes back for these frames, until the end of the connection or a pause.
async fn send(bench: &Bench, frames: &[u8]) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = connect(bench).await?;
    stream.write_all(&[GREETING, frames].concat()).await?;
    let mut answer = Vec::new();
    while let Ok(Ok(1..)) = timeout(Duration::from_millis(300), stream.read_buf(&mut answer)).await
    {
    }
    Ok((stream, answer))
}

#[tokio::test]
async fn a_request_that_its_client_resets_is_counted_and_logged() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        let asked = request(&mut stream).await?;
        // The gateway reads on for the usage.
        sleep(Duration::from_millis(500)).await;
        echo(&mut stream, &asked).await
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    let (sender, connection) = h2::client::handshake(connect(&bench).await?).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let asked = http::Request::post("http://gw/v1/chat/completions")
        .header("api-key", "ann-key")
        .body(())?;
    let (_answer, mut upload) = sender.ready().await?.send_request(asked, false)?;
    let body = Bytes::from_static(br#"{"model":"gpt-4o-mini","messages":[]}"#);
    upload.send_data(body, false)?;
    upload.send_data(Bytes::new(), true)?;
    eventually("the backend is asked", PATIENCE, async || {
        (raw.accepted() > 0).then_some(())
    })
    .await?;
    upload.send_reset(Reason::CANCEL);
    counted(&bench, "client", "stream", "cancel").await?;
    eventually("the request has ended", PATIENCE, async || {
        let ended = bench.counted("requests");
        let aborted = |line: &String| line.contains("client_aborted");
        ended.iter().any(aborted).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_head_that_the_codec_refuses_is_counted() -> Result<()> {
    let bench = Bench::start(0, Vec::new())?;
    let connection = [HEAD, b"\0\x0aconnection\x05close"].concat();
    send(&bench, &headers(1, &connection)).await?;
    counted(&bench, "server", "stream", "protocol_error").await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_the_protocol_ends_and_is_counted() -> Result<()> {
    let bench = Bench::start(0, Vec::new())?;
    let (mut stream, _) = send(&bench, &frame(0, 0, 0, b"data of no stream")).await?;
    counted(&bench, "server", "connection", "protocol_error").await?;
    let closed = timeout(PATIENCE, stream.read(&mut [0])).await;
    closed.context("it ends")?.ok();

    // 2,000 requests, each reset at once.
    let mut flood = Vec::new();
    for stream in (1..4_000).step_by(2) {
        flood.extend(headers(stream, HEAD));
        flood.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    drop(send(&bench, &flood).await);
    counted(&bench, "server", "connection", "enhance_your_calm").await?;
    ensure!(errors(&bench, "client", "stream", "cancel") > 10);
    // Others are served as before.
    let answer = tests_support::http::get(&format!("{}/healthz", bench.url)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}
