//! Clients that call again and again, and notice what goes wrong.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use proxy_admin::clock;
use tests_support::http::{Answer, Connection};
use tokio::time::{sleep, timeout};

use super::backends::Pair;
use crate::latency::Latencies;

/// How much there is of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// Between two calls of a client.
    pub(crate) pause: Duration,
    pub(crate) time: Duration,
}

/// What came of their calls.
pub(crate) struct Calls {
    pub(crate) ok: usize,
    /// Why each of the others failed.
    pub(crate) failed: Vec<String>,
    /// Latencies of good answers from the second second on.
    pub(crate) later: Latencies,
}

/// A client gives up then.
const PATIENCE: Duration = Duration::from_secs(12);

/// Calls for a time.
pub(crate) async fn run(url: &str, pair: &Pair, load: Load) -> Result<Calls> {
    let body = format!(
        r#"{{"model":"gpt-4o","stream":{},"messages":[{{"role":"user","content":"hello"}}]}}"#,
        pair.kind.streams
    );
    let (case, body) = (pair.case(), body.as_str());
    let clients = (0..load.clients).map(|index| client(url, &case, body, load, index));
    let mut all = Calls {
        ok: 0,
        failed: Vec::new(),
        later: Latencies::new()?,
    };
    for calls in join_all(clients).await {
        let calls = calls?;
        all.ok += calls.ok;
        all.failed.extend(calls.failed);
        all.later.add(&calls.later)?;
    }
    Ok(all)
}

async fn client(url: &str, case: &str, body: &str, load: Load, index: usize) -> Result<Calls> {
    let mut calls = Calls {
        ok: 0,
        failed: Vec::new(),
        later: Latencies::new()?,
    };
    let began = clock::instant();
    // Not all at once.
    let share = u32::try_from(index).unwrap_or(0);
    sleep(load.pause * share / u32::try_from(load.clients).unwrap_or(1)).await;
    let mut connection = None;
    loop {
        let start = clock::instant();
        if start.saturating_duration_since(began) >= load.time {
            return Ok(calls);
        }
        let called = timeout(PATIENCE, call(url, case, body, &mut connection)).await;
        let took = clock::instant().saturating_duration_since(start);
        match called {
            Ok(Ok(())) => {
                calls.ok += 1;
                if start.saturating_duration_since(began) >= Duration::from_secs(1) {
                    calls.later.record(took);
                }
            }
            Ok(Err(error)) => {
                calls.failed.push(format!("{error:#}"));
                connection = None;
            }
            Err(_elapsed) => {
                calls.failed.push(format!("no answer within {took:?}"));
                connection = None;
            }
        }
        sleep(load.pause).await;
    }
}

async fn call(
    url: &str,
    case: &str,
    body: &str,
    connection: &mut Option<Connection>,
) -> Result<()> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(url).await?,
    };
    let headers = [("x-case", case), ("api-key", "caller-key")];
    let path = "/v1/chat/completions";
    let answer: Answer = open.post_json(path, &headers, body.to_owned()).await?;
    *connection = Some(open);
    let text = answer.text();
    ensure!(answer.status == 200, "{}: {text}", answer.status);
    let is_stream = answer
        .header("content-type")
        .is_some_and(|kind| kind.contains("event-stream"));
    let end = if is_stream { "[DONE]" } else { "}" };
    ensure!(text.trim_end().ends_with(end), "the answer is cut");
    Ok(())
}
