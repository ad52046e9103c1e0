//! Connections to backends on HTTP/2: how many there are, and what becomes of calls that a server did not
//! look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Response;
use proxy_core::table::Backend;
use tests_support::{Fault, FaultProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::bench::Bench;
use crate::connections::{Tls, secured};
use crate::raw::{Raw, ask};

/// A longer wait is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(8);
/// What an empty frame of SETTINGS is on the wire.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// A GOAWAY without an error, that names no stream.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Reads a request, and answers it after a while.
async fn answer(
    (request, mut respond): (http::Request<RecvStream>, SendResponse<Bytes>),
    after: Duration,
) -> Result<()> {
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    tokio::time::sleep(after).await;
    let mut sending = respond.send_response(Response::new(()), false)?;
    Ok(sending.send_data(Bytes::from_static(b"{}"), true)?)
}

/// Serves a connection on which this many streams run at once.
async fn serve(stream: Tls, streams: u32, after: Duration) -> Result<()> {
    let mut builder = h2::server::Builder::new();
    let handshake = builder.max_concurrent_streams(streams).handshake(stream);
    let mut connection = handshake.await?;
    let mut answers = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let accepted = accepted?;
        answers.spawn(answer(accepted, after));
    }
    Ok(())
}

/// Makes this number of calls at once, and returns how long they take.
async fn at_once(bench: &Bench, calls: usize) -> Result<Duration> {
    let began = Instant::now();
    let asked = (0..calls).map(|_| ask(bench, "x"));
    for answer in futures::future::try_join_all(asked).await? {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    Ok(began.elapsed())
}

#[tokio::test]
async fn calls_beyond_the_streams_of_a_connection_open_another_one() -> Result<()> {
    let after = Duration::from_secs(1);
    let served = move |stream| serve(stream, 10, after);
    let (_raw, backend, handshakes) = secured(b"h2", served).await?;
    let bench = Bench::before(backend)?;
    // One after the other they would take three seconds.
    for _ in 0..2 {
        let took = at_once(&bench, 30).await?;
        assert!(took < Duration::from_millis(2_500), "{took:?}");
        assert_eq!(handshakes.load(Ordering::SeqCst), 3);
    }
    Ok(())
}

#[tokio::test]
async fn few_calls_share_a_connection() -> Result<()> {
    let served = |stream| serve(stream, 100, Duration::from_millis(50));
    let (_raw, backend, handshakes) = secured(b"h2", served).await?;
    let bench = Bench::before(backend)?;
    for _ in 0..3 {
        at_once(&bench, 30).await?;
    }
    assert_eq!(handshakes.load(Ordering::SeqCst), 1);
    Ok(())
}

/// A server that serves this number of first connections badly, and all others well.
async fn first<F>(
    connections: usize,
    serve_badly: impl Fn(Tls) -> F + Clone + Send + Sync + 'static,
) -> Result<(Raw, Backend, Arc<AtomicUsize>)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let count = AtomicUsize::new(0);
    secured(b"h2", move |stream| {
        let is_bad = count.fetch_add(1, Ordering::SeqCst) < connections;
        let serve_badly = serve_badly.clone();
        async move {
            if is_bad {
                return serve_badly(stream).await;
            }
            serve(stream, 100, Duration::ZERO).await
        }
    })
    .await
}

/// Refuses each stream, as a server does that has too many of them.
async fn refuse(stream: Tls) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (_request, mut respond) = accepted?;
        respond.send_reset(Reason::REFUSED_STREAM);
    }
    Ok(())
}

/// Goes away once there is a request, and names no stream that it has looked at.
async fn go_away(mut stream: Tls) -> Result<()> {
    stream.write_all(SETTINGS).await?;
    let mut read = Vec::new();
    while !read.windows(4).any(|bytes| bytes == b"<x>\"") {
        anyhow::ensure!(stream.read_buf(&mut read).await? > 0, "no request");
    }
    stream.write_all(GOAWAY).await?;
    // The client closes it.
    while stream.read_buf(&mut read).await? > 0 {}
    Ok(())
}

#[tokio::test]
async fn what_a_server_did_not_look_at_goes_again() -> Result<()> {
    let (_raw, backend, _) = first(2, refuse).await?;
    at_once(&Bench::before(backend)?, 1).await?;
    let (_raw, backend, _) = first(2, go_away).await?;
    at_once(&Bench::before(backend)?, 1).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_refused_again_and_again_fails() -> Result<()> {
    let (_raw, backend, handshakes) = first(usize::MAX, refuse).await?;
    let bench = Bench::before(backend)?;
    let answer = timeout(PATIENCE, ask(&bench, "x"))
        .await
        .context("it ends")??;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(handshakes.load(Ordering::SeqCst), 3);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_greet_is_given_up_in_the_time_to_connect() -> Result<()> {
    let (_raw, backend, handshakes) = first(usize::MAX, |stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await?;
    let bench = Bench::before(backend)?;
    let began = Instant::now();
    // Those that wait for the connection of another one do not wait again.
    let asked = (0..10).map(|_| ask(&bench, "x"));
    for answer in futures::future::try_join_all(asked).await? {
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("upstream_unreachable"));
    }
    let took = began.elapsed();
    // `connect` is 2 s.
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(handshakes.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn a_connection_into_a_black_hole_ends() -> Result<()> {
    let served = |stream| serve(stream, 100, Duration::ZERO);
    let (raw, backend, _) = secured(b"h2", served).await?;
    let port = raw.url.rsplit_once(':').context("a port")?.1.parse()?;
    let proxy = FaultProxy::start(port)?;
    let bench = Bench::before(Backend {
        endpoint: format!("https://127.0.0.1:{}", proxy.port()).into(),
        ..backend
    })?;
    at_once(&bench, 1).await?;
    proxy.set(Fault::BlackHole);
    let began = Instant::now();
    // Nothing else bounds the wait: an answer may take half an hour.
    let lost = timeout(Duration::from_secs(40), ask(&bench, "x")).await;
    let lost = lost.context("it ends")?.context("lost")?;
    assert_eq!(lost.status, 502, "{}", lost.text());
    let took = began.elapsed();
    assert!(took > Duration::from_secs(10), "{took:?}");
    proxy.set(Fault::Pass);
    at_once(&bench, 1).await?;
    Ok(())
}
