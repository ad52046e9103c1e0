//! What is charged of a call that its client gives up, before an answer or within.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join_all};
use proxy_core::quota::Unit;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::{Bench, at, chat, minute};
use crate::raw::{Raw, request};
use crate::truth::{CHAT, DONE, FINISH, KEY, USAGE, WIDE, before, delta, ok};

/// A backend that bills each request in full `delay` after it came, whoever waits for it.
async fn billing(delay: Duration) -> Result<Raw> {
    Raw::start(move |mut stream: TcpStream| async move {
        loop {
            request(&mut stream).await?;
            tokio::time::sleep(delay).await;
            let usage = json!({"prompt_tokens": 30, "completion_tokens": 70});
            let answer = ok(&json!({"choices": [{"message": {"content": "a"}}], "usage": usage}));
            stream.write_all(&answer).await?;
        }
    })
    .await
}

#[tokio::test]
async fn calls_that_are_given_up_before_the_answer_are_charged_as_billed() -> Result<()> {
    let raw = billing(Duration::from_millis(1_200)).await?;
    let bench = before(&raw)?;
    let calls = (0..100).map(|_| async {
        let body = chat(false);
        let call = bench.ask(&body);
        let left = timeout(Duration::from_millis(200), call).await;
        ensure!(left.is_err(), "it was answered");
        Ok(())
    });
    try_join_all(calls).await?;
    bench.quiet().await?;
    assert_eq!(bench.charged(), (3_000, 7_000));
    assert_eq!(bench.ended("client_aborted"), 100);
    Ok(())
}

#[tokio::test]
async fn a_black_hole_charges_nothing_whoever_gives_up() -> Result<()> {
    let silent = Raw::start(|mut stream| async move {
        request(&mut stream).await?;
        std::future::pending::<Result<()>>().await
    })
    .await?;
    let bench = before(&silent)?;
    let calls = (0..5).map(|_| timeout(Duration::from_millis(100), bench.streamed()));
    ensure!(join_all(calls).await.iter().all(Result::is_err), "answered");
    // The gateway reads on for ten seconds.
    tests_support::eventually("all is settled", Duration::from_secs(20), async || {
        (bench.metric("in_flight_requests") == Some(0)).then_some(())
    })
    .await?;
    assert_eq!(bench.charged(), (0, 0));
    let unconfirmed = bench.counted("unconfirmed_tokens_total");
    ensure!(unconfirmed.len() == 1, "{unconfirmed:?}");
    // Its own time ends the same: nothing is charged, and it is said.
    let bench = Bench::limited(
        proxy_core::table::Backend {
            stream_start_timeout: Duration::from_millis(200),
            ..at(&silent.url)
        },
        vec![minute(Unit::Tokens, WIDE)],
    )?;
    ensure!(bench.streamed().await.is_ok(), "an error is an answer");
    assert_eq!(bench.ended("upstream_timeout"), 1);
    assert_eq!(bench.charged(), (0, 0));
    ensure!(
        bench.counted("unconfirmed_tokens_total").len() == 1,
        "it is not said"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_that_was_not_sent_is_charged() -> Result<()> {
    // It takes connections and never speaks TLS.
    let silent = Raw::start(|stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await?;
    let backend = at(&silent.url.replace("http:", "https:"));
    let bench = Bench::limited(backend, vec![minute(Unit::Tokens, WIDE)])?;
    let body = chat(false);
    let call = bench.ask(&body);
    ensure!(
        timeout(Duration::from_millis(200), call).await.is_err(),
        "answered"
    );
    bench.quiet().await?;
    assert_eq!(bench.charged(), (0, 0));
    assert_eq!(bench.ended("client_aborted"), 1);
    ensure!(
        bench.counted("unconfirmed_tokens_total").is_empty(),
        "nothing was sent"
    );
    Ok(())
}

/// A backend that writes the head of a stream, waits, and then writes its events.
async fn late_events(before: Duration, between: Duration) -> Result<Raw> {
    Raw::start(move |mut stream| async move {
        request(&mut stream).await?;
        tokio::time::sleep(before).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        tokio::time::sleep(between).await;
        let written = format!("{}\n\n{FINISH}\n\n{USAGE}\n\n{DONE}\n\n", delta("hello"));
        Ok(stream.write_all(written.as_bytes()).await?)
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_given_up_before_its_head_is_charged_as_billed() -> Result<()> {
    let raw = late_events(Duration::from_millis(400), Duration::from_millis(100)).await?;
    let bench = before(&raw)?;
    let calls = (0..30).map(|_| timeout(Duration::from_millis(150), bench.streamed()));
    ensure!(join_all(calls).await.iter().all(Result::is_err), "answered");
    bench.quiet().await?;
    assert_eq!(bench.charged(), (30 * 30, 30 * 70));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_given_up_before_its_first_event_costs_its_input() -> Result<()> {
    let raw = late_events(Duration::ZERO, Duration::from_secs(30)).await?;
    let bench = before(&raw)?;
    let url = format!("{}{CHAT}", bench.url);
    let stream = tests_support::http::stream_json(&url, KEY, chat(true).to_string()).await?;
    drop(stream);
    bench.quiet().await?;
    let (input, output) = bench.charged();
    ensure!(input > 0 && output == 0, "{input} + {output}");
    Ok(())
}
