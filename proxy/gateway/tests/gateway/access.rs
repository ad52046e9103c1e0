//! The access log on its way to a reader, also to one that does not read.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;
use proxy_gateway::AccessLog;
use serde_json::{Value, json};
use tests_support::eventually;

use crate::bench::{Bench, chat};

const LIMIT: Duration = Duration::from_secs(20);

/// Keeps what it is given.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn lines(&self) -> Vec<Value> {
        let text = self.0.lock().clone();
        let lines = serde_json::Deserializer::from_slice(&text).into_iter();
        lines.map(|line| line.expect("JSON")).collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn json_log(output: &Output) -> AccessLog {
    AccessLog {
        format: Format::Json,
        output: output.clone(),
    }
}

#[tokio::test]
async fn every_request_has_its_line_after_a_second_or_at_the_end() -> Result<()> {
    let kept = Kept::default();
    let output = Output::new(kept.clone(), 4 << 20)?;
    let bench = Bench::logging(json_log(&output))?;
    let path = "/v1/chat/completions";
    let headers = [("api-key", "ann-key"), ("x-request-id", "first")];
    bench.post(path, &headers, &chat(false).to_string()).await?;
    // Its core's buffer is far from full.
    let line = eventually("the line is written", LIMIT, async || {
        kept.lines().into_iter().next()
    })
    .await?;
    for (field, value) in [
        ("request_id", json!("first")),
        ("operation", json!("ChatCompletions")),
        ("model", json!("mini")),
        ("consumer", json!("ns/ann")),
        ("route", json!("ns/chat")),
        ("rule", json!("all")),
        ("backend", json!("ns/b0")),
        ("deployment", json!("gpt-4o-mini")),
        ("status", json!(200)),
        ("code", json!("ok")),
        ("stream", json!(false)),
        ("estimated", json!(false)),
        ("tries", json!(1)),
        ("target", json!("access")),
    ] {
        assert_eq!(line.get(field), Some(&value), "{field}: {line}");
    }

    // More than a buffer holds, over both cores.
    let ids: BTreeSet<String> = (0..200).map(|number| format!("id-{number}")).collect();
    for id in &ids {
        let answer = bench.post(path, &[("x-request-id", id)], "{}").await?;
        assert_eq!(answer.status, 401);
    }
    drop(bench);
    assert!(output.flush(LIMIT));
    let lines = kept.lines();
    let all = lines.iter().skip(1);
    let seen: BTreeSet<String> = all
        .map(|line| line["request_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(seen, ids);
    assert_eq!(lines.len(), 201);
    Ok(())
}

#[tokio::test]
async fn requests_go_on_while_nobody_reads_the_log() -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    let output = Output::new(writer, 64 << 10)?;
    let bench = Bench::logging(json_log(&output))?;
    // A pipe holds 64 KiB, the output's thread and its queue as much each, a core 32 KiB.
    for _ in 0..1_500 {
        let answer = bench.post("/v1/chat/completions", &[], "{}").await?;
        assert_eq!(answer.status, 401);
    }
    eventually("lines are dropped", LIMIT, async || {
        bench
            .metric("access_log_dropped_total")
            .filter(|dropped| *dropped > 0)
    })
    .await?;
    drop(bench);
    drop(reader);
    Ok(())
}
