//! What a backend reports, shows and bills is what is charged, whichever way its answer ends.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use proxy_core::quota::Unit;
use serde_json::{Value, json};
use tests_support::http::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::bench::{Bench, at, chat, minute};
use crate::raw::{Raw, request};

/// So wide that nothing is refused.
pub(crate) const WIDE: u64 = 100_000_000;
pub(crate) const KEY: &[(&str, &str)] = &[("api-key", "ann-key")];
pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":70,"total_tokens":100}}"#;
pub(crate) const DONE: &str = "data: [DONE]";
pub(crate) const FINISH: &str =
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// A stream whose client wants its usage.
fn asking_usage() -> Value {
    json!({
        "model": "mini",
        "messages": [{"role": "user", "content": "Say something"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

pub(crate) fn delta(text: &str) -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    format!("data: {chunk}")
}

/// How a backend goes on after what it has written.
#[derive(Clone, Copy)]
enum Then {
    /// It ends the answer.
    Ends,
    /// It closes the connection within the answer.
    Cuts,
    /// It leaves the answer open.
    Waits,
}

/// A backend that writes each of these events by itself.
async fn events(written: &[&str], then: Then) -> Result<Raw> {
    let written: Vec<String> = written.iter().map(|event| format!("{event}\n\n")).collect();
    Raw::start(move |mut stream| {
        let written = written.clone();
        async move {
            loop {
                request(&mut stream).await?;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await?;
                for event in &written {
                    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                    stream.write_all(chunk.as_bytes()).await?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                match then {
                    Then::Ends => stream.write_all(b"0\r\n\r\n").await?,
                    Then::Cuts => return Ok(()),
                    Then::Waits => drop(stream.read(&mut [0]).await?),
                }
            }
        }
    })
    .await
}

/// A backend that answers each request with these bytes.
async fn answers(answer: Vec<u8>) -> Result<Raw> {
    Raw::start(move |mut stream| {
        let answer = answer.clone();
        async move {
            loop {
                request(&mut stream).await?;
                stream.write_all(&answer).await?;
            }
        }
    })
    .await
}

fn whole(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) fn ok(body: &Value) -> Vec<u8> {
    let json = "content-type: application/json\r\n";
    whole("200 OK", json, body.to_string().as_bytes())
}

pub(crate) fn before(raw: &Raw) -> Result<Bench> {
    Bench::limited(at(&raw.url), vec![minute(Unit::Tokens, WIDE)])
}

impl Bench {
    pub(crate) async fn streamed(&self) -> Result<String> {
        let url = format!("{}{CHAT}", self.url);
        let body = asking_usage();
        let mut stream = tests_support::http::stream_json(&url, KEY, body.to_string()).await?;
        let mut text = String::new();
        while let Ok(Some(chunk)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        self.quiet().await?;
        Ok(text)
    }

    /// Input and output tokens that were settled.
    pub(crate) fn charged(&self) -> (u64, u64) {
        let tokens = |kind| {
            let labels = format!("route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"{kind}\"");
            self.metric(&format!("tokens_total{{{labels}}}"))
                .unwrap_or(0)
        };
        (tokens("input"), tokens("output"))
    }

    pub(crate) fn ended(&self, code: &str) -> u64 {
        let line = format!("requests_total{{route=\"ns/chat\",rule=\"all\",code=\"{code}\"}}");
        self.metric(&line).unwrap_or(0)
    }
}

#[tokio::test]
async fn done_ends_a_stream_whatever_the_backend_does_then() -> Result<()> {
    for then in [Then::Ends, Then::Cuts, Then::Waits] {
        let raw = events(&[&delta("hello"), FINISH, USAGE, DONE], then).await?;
        let bench = before(&raw)?;
        let mut client = Connection::open(&bench.url).await?;
        let body = asking_usage();
        for turn in 1..=3 {
            let asked = client.post_json(CHAT, KEY, body.to_string());
            let answer = timeout(Duration::from_millis(900), asked).await??;
            ensure!(
                answer.text().ends_with("data: [DONE]\n\n"),
                "{}",
                answer.text()
            );
            bench.quiet().await?;
            assert_eq!(bench.charged(), (30 * turn, 70 * turn));
            assert_eq!(bench.ended("ok"), turn);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_whose_end_comes_late_is_used_again() -> Result<()> {
    let raw = events(&[&delta("hello"), FINISH, USAGE, DONE], Then::Ends).await?;
    let bench = before(&raw)?;
    for _ in 0..5 {
        bench.streamed().await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(raw.accepted(), 1);
    Ok(())
}

#[tokio::test]
async fn a_usage_that_was_told_counts_however_the_connection_ends() -> Result<()> {
    let raw = events(&[&delta("hello"), FINISH, USAGE], Then::Cuts).await?;
    let bench = before(&raw)?;
    bench.streamed().await?;
    assert_eq!(bench.charged(), (30, 70));
    // The client leaves, after the usage and before it.
    for sent in [&[&delta("hello"), USAGE][..], &[&delta("hello"), FINISH]] {
        let mut all = sent.to_vec();
        if sent.last() == Some(&FINISH) {
            all.push(FINISH);
            all.push(USAGE);
        }
        let raw = events(&all, Then::Waits).await?;
        let bench = before(&raw)?;
        let body = asking_usage();
        let url = format!("{}{CHAT}", bench.url);
        let mut stream = tests_support::http::stream_json(&url, KEY, body.to_string()).await?;
        let mut seen = String::new();
        let last = sent.last().context("an event")?;
        while !seen.contains(last) {
            let chunk = stream.next().await?.context("an event")?;
            seen.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        drop(stream);
        bench.quiet().await?;
        assert_eq!(bench.charged(), (30, 70), "after {last}");
        assert_eq!(bench.ended("client_aborted"), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_closes_at_the_last_event_has_its_answer() -> Result<()> {
    let input = json!("Say something");
    let messages = json!([{"role": "user", "content": input}]);
    let usage = json!({"input_tokens": 30, "output_tokens": 70});
    let completed = json!({
        "type": "response.completed", "response": {"status": "completed", "usage": usage},
    });
    let delta = json!({
        "type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage,
    });
    for (path, body, last) in [
        (
            "/v1/responses",
            json!({"model": "mini", "input": input}),
            completed,
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 100, "messages": messages}),
            delta,
        ),
    ] {
        let mut body = body;
        body["stream"] = json!(true);
        let last = format!("data: {last}");
        let raw = events(&[r#"data: {"type":"ping"}"#, &last], Then::Waits).await?;
        let bench = before(&raw)?;
        let url = format!("{}{path}", bench.url);
        let mut stream = tests_support::http::stream_json(&url, KEY, body.to_string()).await?;
        let mut seen = String::new();
        while !seen.contains(&last) {
            let chunk = stream.next().await?.context("an event")?;
            seen.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        drop(stream);
        bench.quiet().await?;
        assert_eq!(bench.charged(), (30, 70), "{path}");
        assert_eq!(bench.ended("ok"), 1, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn usage_is_read_in_every_spelling() -> Result<()> {
    for (usage, expect) in [
        (
            json!({"prompt_tokens": 10, "completion_tokens": 500, "total_tokens": 510, "input_tokens": 10, "output_tokens": 500}),
            (10, 500),
        ),
        (
            json!({"prompt_tokens": 10.0, "completion_tokens": 500.0}),
            (10, 500),
        ),
        (json!({"input_tokens": 10, "output_tokens": 500}), (10, 500)),
        (
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 1041, "completion_tokens_details": {"reasoning_tokens": 1000}}),
            (32, 1009),
        ),
        (
            json!({"prompt_tokens": 10, "completion_tokens": null, "total_tokens": 510}),
            (10, 500),
        ),
    ] {
        let raw = answers(ok(&json!({
            "choices": [{"message": {"content": "\"usage\": {\"prompt_tokens\": 1}"}, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}],
            "usage": usage,
        })))
        .await?;
        let bench = before(&raw)?;
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
        bench.quiet().await?;
        assert_eq!(bench.charged(), expect, "{usage}");
        let event = format!("data: {}", json!({"choices": [], "usage": usage}));
        let raw = events(&[&delta("a"), FINISH, &event, DONE], Then::Ends).await?;
        let bench = before(&raw)?;
        bench.streamed().await?;
        assert_eq!(bench.charged(), expect, "streamed {usage}");
    }
    Ok(())
}

#[tokio::test]
async fn without_usage_what_the_answer_shows_is_charged() -> Result<()> {
    let text = "\n\n".to_owned() + &"word ".repeat(1_000);
    let shown = |delta: Value| {
        format!(
            "data: {}",
            json!({"choices": [{"index": 0, "delta": delta}]})
        )
    };
    for event in [
        shown(json!({"content": text})),
        shown(json!({"reasoning_content": text})),
        shown(json!({"reasoning": text})),
        shown(json!({"refusal": text})),
        shown(json!({"audio": {"transcript": text}})),
        shown(json!({"tool_calls": [{"function": {"arguments": text}}]})).replace("\":", "\" : "),
    ] {
        let raw = events(&[&event, FINISH, DONE], Then::Ends).await?;
        let bench = before(&raw)?;
        bench.streamed().await?;
        let (_, output) = bench.charged();
        ensure!((1_000..1_400).contains(&output), "{output} for {event:.80}");
    }
    let answer =
        json!({"choices": [{"message": {"content": text}}, {"message": {"content": text}}]});
    let raw = answers(ok(&answer)).await?;
    let bench = before(&raw)?;
    bench.ask(&chat(false)).await?;
    bench.quiet().await?;
    let (_, output) = bench.charged();
    ensure!((2_000..2_800).contains(&output), "{output}");
    Ok(())
}

#[tokio::test]
async fn an_answer_is_judged_by_its_content() -> Result<()> {
    let error = r#"data: {"error":{"message":"overloaded","type":"server_error"}}"#;
    for (written, code, charged) in [
        (&[error][..], "upstream_error", false),
        (&[&delta("hello there"), error], "upstream_error", true),
        (&[&delta("hello there")], "upstream_failed", true),
        (&[], "upstream_failed", false),
        (&[DONE], "upstream_failed", false),
        (&[&delta("hello there"), FINISH], "ok", true),
        (&[&delta("hello there"), DONE], "ok", true),
    ] {
        let raw = events(written, Then::Ends).await?;
        let bench = before(&raw)?;
        bench.streamed().await?;
        assert_eq!(bench.ended(code), 1, "{written:?}");
        assert_eq!(bench.charged() != (0, 0), charged, "{written:?}");
    }
    let raw = answers(ok(&json!({"error": {"message": "overloaded"}}))).await?;
    let bench = before(&raw)?;
    assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    bench.quiet().await?;
    assert_eq!(
        (bench.ended("upstream_error"), bench.charged()),
        (1, (0, 0))
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_without_a_body_gives_back_and_counts_as_a_request() -> Result<()> {
    for status in [
        "200 OK",
        "201 Created",
        "400 Bad Request",
        "404 Not Found",
        "500 Oops",
        "503 No",
    ] {
        let raw = answers(whole(status, "", b"")).await?;
        let limits = vec![minute(Unit::Tokens, 10_000)];
        let bench = Bench::limited(at(&raw.url), limits)?;
        let mut body = chat(false);
        body["max_tokens"] = json!(1_000);
        bench.ask(&body).await?;
        bench.quiet().await?;
        assert_eq!(bench.ended("upstream_error"), 1, "{status}");
        assert_eq!(bench.charged(), (0, 0), "{status}");
        let page = bench.gateway.usage_page();
        let used: u64 = page
            .limits
            .iter()
            .flat_map(|limit| &limit.subjects)
            .map(|subject| subject.used)
            .sum();
        assert_eq!(used, 0, "{status}");
    }
    for (status, code) in [
        ("204 No Content", "upstream_error"),
        ("304 Not Modified", "upstream_failed"),
    ] {
        let raw = answers(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()).await?;
        let bench = before(&raw)?;
        bench.ask(&chat(false)).await?;
        bench.quiet().await?;
        assert_eq!((bench.ended(code), bench.charged()), (1, (0, 0)));
    }
    // Two requests a minute are two, whatever the backend says of them.
    let raw = answers(whole("400 Bad Request", "", b"{\"error\":{}}")).await?;
    let bench = Bench::limited(at(&raw.url), vec![minute(Unit::Requests, 2)])?;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(bench.ask(&chat(false)).await?.status);
    }
    assert_eq!(statuses, [400, 400, 429, 429]);
    Ok(())
}

fn gzip(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

#[tokio::test]
async fn an_answer_that_comes_coded_unasked_is_read() -> Result<()> {
    let json = json!({"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 70}});
    let coded = gzip(&json.to_string())?;
    let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let raw = answers(whole("200 OK", headers, &coded)).await?;
    let bench = before(&raw)?;
    let answer = bench.ask(&chat(false)).await?;
    assert_eq!(answer.body, coded, "bytes pass as they came");
    bench.quiet().await?;
    assert_eq!(bench.charged(), (30, 70));

    let events = [&delta("hello"), FINISH, USAGE, DONE].map(|event| format!("{event}\n\n"));
    let headers = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let raw = answers(whole("200 OK", headers, &gzip(&events.concat())?)).await?;
    let bench = before(&raw)?;
    let text = bench.streamed().await?;
    assert_eq!(text, events.concat(), "a stream is decoded on its way");
    assert_eq!(bench.charged(), (30, 70));
    Ok(())
}

#[tokio::test]
async fn an_absurd_usage_locks_nobody_out() -> Result<()> {
    for tokens in [1_000_000_000_000_000_u64, u64::MAX] {
        let raw = answers(ok(&json!({
            "choices": [{"message": {"content": "four words or so"}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": tokens},
        })))
        .await?;
        let bench = Bench::limited(at(&raw.url), vec![minute(Unit::Tokens, 10_000)])?;
        for _ in 0..20 {
            assert_eq!(bench.ask(&chat(false)).await?.status, 200);
        }
        let (_, output) = bench.charged();
        ensure!(output < 200, "{output}");
    }
    Ok(())
}

#[tokio::test]
async fn zeros_are_no_usage() -> Result<()> {
    const ZEROS: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let raw = events(
        &[&delta("hello there"), FINISH, USAGE, ZEROS, DONE],
        Then::Ends,
    )
    .await?;
    let bench = before(&raw)?;
    bench.streamed().await?;
    assert_eq!(bench.charged(), (30, 70));
    let raw = events(&[&delta("hello there"), FINISH, ZEROS, DONE], Then::Ends).await?;
    let bench = before(&raw)?;
    bench.streamed().await?;
    let (input, output) = bench.charged();
    ensure!(input > 0 && output > 0, "{input} + {output}");
    Ok(())
}

#[tokio::test]
async fn a_usage_counts_in_an_answer_of_the_wrong_kind_or_length() -> Result<()> {
    let json = json!({"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 70}});
    let json = json.to_string();
    let raw = answers(whole(
        "200 OK",
        "content-type: text/event-stream\r\n",
        json.as_bytes(),
    ))
    .await?;
    let bench = before(&raw)?;
    bench.streamed().await?;
    assert_eq!(bench.charged(), (30, 70));

    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{json}");
    let raw = Raw::start(move |mut stream| {
        let cut = cut.clone();
        async move {
            request(&mut stream).await?;
            Ok(stream.write_all(cut.as_bytes()).await?)
        }
    })
    .await?;
    let bench = before(&raw)?;
    drop(bench.ask(&chat(false)).await);
    bench.quiet().await?;
    assert_eq!(bench.charged(), (30, 70));
    Ok(())
}
