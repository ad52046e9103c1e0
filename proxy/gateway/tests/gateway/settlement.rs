//! Every reservation is settled exactly once, whatever becomes of its request, and what is settled is
//! what Foundry bills.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use proxy_core::quota::Unit;
use proxy_core::table::Backend;
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::{Config, Fault};
use tests_support::http;
use tokio::io::AsyncWriteExt;

use crate::bench::{Bench, at, chat, minute, routed, sims};
use crate::raw::{Raw, request};

/// So wide that nothing is refused.
const WIDE: u64 = 100_000_000;

impl Bench {
    fn tokens(&self, kind: &str) -> u64 {
        let labels = format!("route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"{kind}\"");
        let line = format!("tokens_total{{{labels}}}");
        self.metric(&line).unwrap_or(0)
    }

    fn settlements(&self) -> [u64; 3] {
        ["measured", "estimated", "released"].map(|kind| {
            let line = format!("settlements_total{{kind=\"{kind}\"}}");
            self.metric(&line).unwrap_or(0)
        })
    }

    /// Input and output tokens on the bills of all backends.
    fn billed(&self) -> (u64, u64) {
        let bills = self.sims.iter().map(tests_foundry::Sim::billed);
        bills.fold((0, 0), |(input, output), bill| {
            let used = bill.deployments.get("gpt-4o-mini");
            let of = |part: fn(&tests_foundry::Totals) -> u64| used.map_or(0, part);
            (
                input + of(|u| u.prompt_tokens),
                output + of(|u| u.completion_tokens),
            )
        })
    }

    /// The use of the limit, and the reserved part of it.
    fn used(&self) -> (u64, u64) {
        let page = self.gateway.usage_page();
        let subjects = page.limits.iter().flat_map(|limit| &limit.subjects);
        subjects.fold((0, 0), |(used, reserved), subject| {
            (used + subject.used, reserved + subject.reserved)
        })
    }

    /// Reads a stream to its end, or to where it breaks off.
    async fn stream(&self, body: &Value) -> Result<String> {
        let url = format!("{}/v1/chat/completions", self.url);
        let mut stream =
            http::stream_json(&url, &[("api-key", "ann-key")], body.to_string()).await?;
        let mut text = String::new();
        while let Ok(Some(chunk)) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        Ok(text)
    }
}

#[tokio::test]
async fn a_measured_request_is_settled_to_the_token() -> Result<()> {
    let bench = Bench::start(2, vec![minute(Unit::Tokens, WIDE)])?;
    // The first backend fails every other way: each such request is tried at the second.
    let failing = |status| Fault {
        status: Some(status),
        times: Some(10),
        ..Fault::default()
    };
    bench.sims[0].faults(vec![failing(429), failing(500), failing(503)])?;
    let mut bodies = Vec::new();
    for turn in 0..300_u64 {
        let mut body = chat(turn % 2 == 0);
        body["messages"][0]["content"] = json!("word ".repeat(usize::try_from(turn % 40)? + 1));
        if turn % 3 == 0 {
            body["max_tokens"] = json!(turn % 50 + 1);
        }
        if turn % 4 == 0 {
            // Of a stream; turns that divide by four are.
            body["stream_options"] = json!({"include_usage": true});
        }
        bodies.push(body);
    }
    let answers = bodies.chunks(50);
    for chunk in answers {
        let all = try_join_all(chunk.iter().map(|body| bench.ask(body))).await?;
        for answer in all {
            ensure!(answer.status == 200, "{}", answer.text());
        }
    }
    bench.quiet().await?;
    assert_eq!(bench.settlements(), [300, 0, 0]);
    let settled = (bench.tokens("input"), bench.tokens("output"));
    assert_eq!(settled, bench.billed());
    assert_eq!(bench.used(), (settled.0 + settled.1, 0));
    Ok(())
}

#[tokio::test]
async fn a_failed_request_is_settled_once_at_what_was_billed() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Tokens, WIDE)])?;
    let fault = |change: fn(&mut Fault)| {
        let mut fault = Fault {
            times: Some(1),
            ..Fault::default()
        };
        change(&mut fault);
        bench.sims[0].faults(vec![fault])
    };
    let usage_unknown = |bench: &Bench| {
        let [_, estimated, _] = bench.settlements();
        estimated
    };

    // Nothing was billed, so nothing is charged.
    for status in [400, 404, 422, 500, 503, 424] {
        let before = bench.used();
        bench.sims[0].faults(vec![Fault {
            status: Some(status),
            ..Fault::default()
        }])?;
        let answer = bench.ask(&chat(false)).await?;
        assert!(answer.status >= 400, "{status}: {}", answer.status);
        bench.quiet().await?;
        assert_eq!(bench.used(), before, "after {status}");
    }
    assert_eq!(bench.settlements(), [0, 0, 6]);
    assert_eq!(bench.billed(), (0, 0));

    // A stream that is cut is charged with the output that came.
    fault(|fault| fault.cut_after_chunks = Some(6))?;
    let text = bench.stream(&chat(true)).await?;
    assert!(text.contains("upstream_failed"), "{text}");
    bench.quiet().await?;
    let near = |bench: &Bench| bench.tokens("output").abs_diff(bench.billed().1);
    // Chunks and bytes are counted, which is not quite what a model counts.
    assert!(near(&bench) <= 2, "{} after {text}", near(&bench));
    assert_eq!(usage_unknown(&bench), 1);

    // The same for one that ends in an error event of the backend's.
    fault(|fault| {
        fault.cut_after_chunks = Some(4);
        fault.stream_error = true;
    })?;
    bench.stream(&chat(true)).await?;
    bench.quiet().await?;
    assert!(
        near(&bench) <= 4,
        "{} of {:?}",
        bench.tokens("output"),
        bench.billed()
    );
    assert_eq!(usage_unknown(&bench), 2);

    // An answer without usage, as of a response in the background, is charged as reserved.
    let before = bench.used().0;
    bench.sims[0].faults(vec![Fault {
        status: Some(200),
        body: Some(json!({"id": "resp_1", "status": "queued", "output": []})),
        ..Fault::default()
    }])?;
    let mut body = chat(false);
    body["max_tokens"] = json!(77);
    assert_eq!(bench.ask(&body).await?.status, 200);
    bench.quiet().await?;
    let charged = bench.used().0 - before;
    assert!((78..200).contains(&charged), "{charged}");
    assert_eq!(usage_unknown(&bench), 3);
    assert_eq!(bench.used().1, 0, "nothing stays reserved");
    let all: u64 = bench.settlements().iter().sum();
    assert_eq!(all, 9, "one for each request");
    Ok(())
}

#[tokio::test]
async fn callers_who_leave_at_any_moment_are_settled_once() -> Result<()> {
    let sim = Config {
        latency: Duration::from_millis(30),
        token_interval: Duration::from_millis(5),
        ..Config::default()
    };
    let bench = Bench::with(1, vec![minute(Unit::Tokens, WIDE)], &sim)?;
    let callers = (0..60_u64).map(|turn| {
        let bench = &bench;
        async move {
            let body = chat(turn % 2 == 0);
            let left = tokio::time::timeout(Duration::from_millis(turn * 5), bench.stream(&body));
            Ok::<_, anyhow::Error>(left.await.is_err())
        }
    });
    let left = try_join_all(callers).await?;
    assert!(left.iter().filter(|left| **left).count() > 10, "{left:?}");
    bench.quiet().await?;
    let all: u64 = bench.settlements().iter().sum();
    let recorded = bench.upstream().len();
    assert!(
        all >= u64::try_from(recorded)? && all <= 60,
        "{all} settled, {recorded} sent upstream"
    );
    let settled = bench.tokens("input") + bench.tokens("output");
    assert_eq!(bench.used(), (settled, 0));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_off_counts_the_reasoning_of_other_answers() -> Result<()> {
    let config = Config {
        deployments: vec!["gpt-4o-mini=gpt-5-2025-08-07,reasoning=60".parse()?],
        token_interval: Duration::from_millis(1),
        ..Config::default()
    };
    let sims = sims(1, &config)?;
    let backend = Backend {
        deployments: vec![deployment("gpt-4o-mini", "gpt-5")],
        ..at(&sims[0].url())
    };
    let bench = Bench::of(sims, routed(vec![backend], Vec::new()))?;
    let mut seen = 0;
    let mut ask = async |body: Value, cut_after_chunks| -> Result<u64> {
        bench.sims[0].faults(vec![Fault {
            cut_after_chunks,
            ..Fault::default()
        }])?;
        let is_whole = bench.ask(&body).await.is_ok();
        ensure!(is_whole == cut_after_chunks.is_none(), "{body}");
        bench.quiet().await?;
        let before = std::mem::replace(&mut seen, bench.tokens("output"));
        Ok(seen - before)
    };
    let bounded = |bound: u64| {
        let mut body = chat(true);
        body["max_completion_tokens"] = json!(bound);
        body
    };
    // Before anything is known, as the time and the client's bound allow.
    let output = ask(bounded(100), Some(5)).await?;
    assert!((60 + 3..=100).contains(&output), "{output}");
    assert_eq!(ask(chat(false), None).await?, 60 + 16, "as measured");
    let output = ask(chat(true), Some(5)).await?;
    assert!((60 + 1..60 + 16).contains(&output), "{output}");
    assert_eq!(ask(bounded(61), Some(3)).await?, 61, "the client's bound");
    assert_eq!(bench.settlements(), [1, 3, 0]);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_within_an_event_ends_behind_a_whole_one() -> Result<()> {
    let delta = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let raw = Raw::start(move |mut stream| async move {
        request(&mut stream).await?;
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        for part in [delta, delta.split_at(30).0, delta.split_at(30).1, "data: {\"choi"] {
            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
            stream.write_all(chunk.as_bytes()).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    let bench = Bench::before(at(&raw.url))?;
    // With and without an event that the gateway takes out.
    for options in [json!({"include_usage": true}), json!(null)] {
        let mut body = chat(true);
        body["stream_options"] = options;
        let text = bench.stream(&body).await?;
        let error = text.strip_prefix(&[delta, delta].concat());
        let error = error.is_some_and(|error| error.starts_with("data: {\"error\":{\"message\""));
        ensure!(error, "{text}");
        ensure!(text.matches("\n\n").count() == 3, "{text}");
    }
    bench.quiet().await
}
