//! The end of a gateway: what it serves until then, and how what still runs learns of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_core::quota::Unit;
use proxy_core::table::Backend;
use serde_json::{Value, json};
use tests_support::{eventually_ok, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, at, chat, contents, minute, routed, sims};
use crate::wire::connect;

/// A longer wait is a defect of the gateway.
const PATIENCE: Duration = Duration::from_secs(10);

const PATH: &str = "/v1/chat/completions";
const ANN: (&str, &str) = ("api-key", "ann-key");

/// In front of a backend that begins a stream and then says nothing more, with this grace period.
fn silent(grace: Duration, latency: Duration) -> Result<Bench> {
    let sims = sims(
        1,
        &tests_foundry::Config {
            latency,
            token_interval: Duration::from_secs(60),
            ..tests_foundry::Config::default()
        },
    )?;
    let patient = Duration::from_secs(60);
    let backends = sims.iter().map(|sim| Backend {
        idle_timeout: patient,
        stream_start_timeout: patient,
        ..at(&sim.url())
    });
    let contents = routed(backends.collect(), vec![minute(Unit::Tokens, 100_000)]);
    Bench::serve(sims, contents, |config| config.drain_grace = grace)
}

#[tokio::test]
async fn a_leaving_gateway_serves_on_and_sends_its_clients_elsewhere() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let health = format!("{}/healthz", bench.url);
    assert_eq!(http::get(&health).await?.status, 200);
    let mut kept = http::Connection::open(&bench.url).await?;
    let body = chat(false).to_string();
    let before = kept.post_json(PATH, &[ANN], body.clone()).await?;
    assert_eq!(before.header("connection"), None);
    bench.trigger.leave();
    eventually_ok("the health says so", PATIENCE, async || {
        let answer = http::get(&health).await?;
        ensure!(answer.status == 503, "{}", answer.text());
        ensure!(answer.text() == "shutting down\n");
        Ok(())
    })
    .await?;
    // On the connection from before, and on new ones for as long as the port is open.
    let last = kept.post_json(PATH, &[ANN], body.clone()).await?;
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    for _ in 0..10 {
        let answer = bench.ask(&chat(false)).await?;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
    }
    bench.trigger.stop();
    eventually_ok("the port closes", PATIENCE, async || {
        ensure!(connect(&bench).await.is_err(), "it is open");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_on_open_connections_are_served_while_others_run() -> Result<()> {
    let mut bench = silent(PATIENCE, Duration::ZERO)?;
    let url = format!("{}{PATH}", bench.url);
    let mut stream = http::stream_json(&url, &[ANN], chat(true).to_string()).await?;
    stream.next().await?.context("a chunk")?;
    // Both cores have a connection that is idle, and one of them the stream.
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut one = http::Connection::open(&bench.url).await?;
        one.post_json(PATH, &[ANN], chat(false).to_string()).await?;
        kept.push(one);
    }
    bench.trigger.stop();
    let mut served = 0;
    for one in &mut kept {
        let answer = one.post_json(PATH, &[ANN], chat(false).to_string()).await;
        served += usize::from(answer.is_ok_and(|answer| answer.status == 200));
    }
    assert_eq!(served, kept.len());
    drop(stream);
    bench.stop().await
}

#[tokio::test]
async fn a_gateway_without_requests_ends_soon_whatever_is_connected() -> Result<()> {
    let mut bench = Bench::start(1, Vec::new())?;
    let mut kept = http::Connection::open(&bench.url).await?;
    kept.post_json(PATH, &[ANN], chat(false).to_string())
        .await?;
    let silent = connect(&bench).await?;
    let (_sender, http2) = h2::client::handshake(connect(&bench).await?).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(http2.await) });
    let began = Instant::now();
    bench.stop().await?;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    driver.join_all().await;
    drop(silent);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_outlasts_the_grace_period_ends_with_a_word_and_keeps_its_usage() -> Result<()>
{
    let mut bench = silent(Duration::from_millis(300), Duration::ZERO)?;
    let url = format!("{}{PATH}", bench.url);
    let mut stream = http::stream_json(&url, &[ANN], chat(true).to_string()).await?;
    let mut text = String::new();
    let first = stream.next().await?.context("a chunk")?;
    text.push_str(&String::from_utf8_lossy(&first.bytes));
    let began = Instant::now();
    let read = async {
        while let Ok(Some(chunk)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
    };
    let (stopped, ()) = tokio::join!(bench.stop(), read);
    stopped?;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let last = text.trim_end().lines().last().context("an event")?;
    let error: Value = serde_json::from_str(last.strip_prefix("data: ").context("data")?)?;
    assert_eq!(error["error"]["code"], "shutting_down", "{text}");
    assert!(!text.contains("[DONE]"));
    let requests = bench.counted("requests_total");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("code=\"shutting_down\""),
        "{requests:?}"
    );
    assert_eq!(
        bench.metric("settlements_total{kind=\"estimated\"}"),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn streams_of_every_protocol_and_api_end_with_that_word() -> Result<()> {
    let mut bench = silent(Duration::from_millis(300), Duration::ZERO)?;
    let mut responses = {
        let url = format!("{}/v1/responses", bench.url);
        let body = json!({"model": "mini", "input": "a", "stream": true});
        http::stream_json(&url, &[ANN], body.to_string()).await?
    };
    responses.next().await?.context("an event")?;
    let (sender, connection) = h2::client::handshake(connect(&bench).await?).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let asked = ::http::Request::post(format!("http://gw{PATH}"))
        .header(ANN.0, ANN.1)
        .body(())?;
    let (answer, mut upload) = sender.ready().await?.send_request(asked, false)?;
    upload.send_data(chat(true).to_string().into(), true)?;
    let mut http2 = answer.await?.into_body();
    let read = async {
        let mut texts = [String::new(), String::new()];
        while let Some(Ok(data)) = http2.data().await {
            texts[0].push_str(&String::from_utf8_lossy(&data));
        }
        while let Ok(Some(chunk)) = responses.next().await {
            texts[1].push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        texts
    };
    let (stopped, texts) = tokio::join!(bench.stop(), read);
    stopped?;
    for text in texts {
        let last = text.trim_end().lines().last().context("an event")?;
        assert!(last.contains("\"code\":\"shutting_down\""), "{text}");
    }
    let code = |line: &String| line.contains("code=\"shutting_down\"");
    assert!(bench.counted("requests_total").iter().all(code));
    Ok(())
}

#[tokio::test]
async fn a_request_without_an_answer_is_refused_at_the_end_of_the_grace_period() -> Result<()> {
    let mut bench = silent(Duration::from_millis(300), Duration::from_secs(60))?;
    let url = format!("{}{PATH}", bench.url);
    let body = chat(false).to_string();
    let asked = http::post_json(&url, &[ANN], body);
    // Its body is on its way for longer than the grace period.
    let address = bench.url.trim_start_matches("http://").to_owned();
    let slow = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\napi-key: ann-key\r\n\
                    content-length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let stop = async {
        eventually_ok("both run", PATIENCE, async || {
            ensure!(bench.metric("in_flight_requests") == Some(2));
            ensure!(!bench.upstream().is_empty());
            Ok(())
        })
        .await?;
        bench.stop().await
    };
    let (answer, slow, stopped) = tokio::join!(asked, slow, stop);
    stopped?;
    let answer = answer?;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json::<Value>()?["error"]["code"], "shutting_down");
    assert!(answer.header("x-request-id").is_some());
    let wait: u64 = answer.header("retry-after").context("a wait")?.parse()?;
    assert!((1..=2).contains(&wait), "{wait}");
    let slow = slow?;
    assert!(slow.starts_with("HTTP/1.1 503 "), "{slow}");
    assert!(slow.contains("shutting_down"), "{slow}");
    let requests = bench.counted("requests_total");
    assert!(
        requests
            .iter()
            .all(|line| line.contains("code=\"shutting_down\"")),
        "{requests:?}"
    );
    // As when a timeout of the gateway ends the wait.
    assert_eq!(
        bench.metric("settlements_total{kind=\"released\"}"),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_response_in_the_background_is_given_up_at_the_end_of_the_grace_period() -> Result<()> {
    let sims = sims(
        1,
        &tests_foundry::Config {
            background_time: Duration::from_secs(60),
            ..tests_foundry::Config::default()
        },
    )?;
    let contents = contents(&sims, vec![minute(Unit::Tokens, 100_000)]);
    let grace = Duration::from_millis(300);
    let mut bench = Bench::serve(sims, contents, |config| config.drain_grace = grace)?;
    let body = json!({"model": "mini", "input": "a", "background": true});
    let answer = bench
        .post("/v1/responses", &[ANN], &body.to_string())
        .await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    bench.stop().await?;
    assert!(
        began.elapsed() >= grace,
        "it was followed for the grace period"
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        bench.metric("settlements_total{kind=\"estimated\"}"),
        Some(1)
    );
    Ok(())
}
