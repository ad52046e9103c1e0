//! How a refusal reaches a client on HTTP/1.1: at once, in JSON, counted, and without a reset.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::Bench;
use crate::wire::{chat, connect, send, sized};

/// A wait for a body that does not come is longer.
const PROMPT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn heads_that_cannot_be_read_are_refused_in_json_and_counted() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let many: Vec<String> = (0..120).map(|index| format!("x-{index}: a")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (bytes, code) in [
        (sized(&many), "headers_too_large"),
        (sized(&["x-a : b"]), "invalid_request"),
        (b"NONSENSE\r\n\r\n".to_vec(), "invalid_request"),
    ] {
        let seen = send(&bench, &bytes).await?;
        let (head, body) = seen.text.split_once("\r\n\r\n").context("a head")?;
        let error: serde_json::Value = serde_json::from_str(body).context("JSON")?;
        assert_eq!(error["error"]["code"], code);
        let head = head.to_ascii_lowercase();
        for header in [
            "x-request-id: ",
            "connection: close",
            "content-type: application/json",
        ] {
            assert!(head.contains(header), "{head}");
        }
    }
    for (code, count) in [("headers_too_large", 1), ("invalid_request", 2)] {
        let line = format!("requests_total{{route=\"\",rule=\"\",code=\"{code}\"}}");
        assert_eq!(bench.metric(&line), Some(count), "{code}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_waits_for_no_body_and_asks_for_none() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let wrong = |lines: &[&str]| {
        let text = String::from_utf8(chat(lines, "")).unwrap_or_default();
        text.replace("ann-key", "wrong").into_bytes()
    };
    for (name, head, status) in [
        ("a wrong key", wrong(&["content-length: 9000000"]), 401),
        (
            "a client that holds its body back",
            wrong(&["content-length: 9000", "expect: 100-continue"]),
            401,
        ),
        ("chunks", wrong(&["transfer-encoding: chunked"]), 401),
        (
            "too large",
            chat(&["content-length: 99000000", "expect: 100-continue"], ""),
            413,
        ),
    ] {
        let mut stream = connect(&bench).await?;
        stream.write_all(&head).await?;
        // Nothing of the body: the answer and the end of the connection come all the same.
        let mut answer = String::new();
        let read = tokio::time::timeout(PROMPT, stream.read_to_string(&mut answer));
        read.await.with_context(|| name.to_owned())??;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{name}: {answer}"
        );
        assert_eq!(
            answer.contains("www-authenticate: Bearer"),
            status == 401,
            "{answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_sends_all_of_a_refused_body_gets_the_reason() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let body = "a".repeat(24 << 20);
    let length = format!("content-length: {}", body.len());
    let bytes = String::from_utf8(chat(&[&length], &body))?.replace("ann-key", "wrong");
    let mut stream = connect(&bench).await?;
    stream
        .write_all(bytes.as_bytes())
        .await
        .context("no reset")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.contains("invalid_credential"), "{answer}");
    // A small body is there with its head, and the connection serves the next request.
    let small = String::from_utf8(sized(&[]))?.replace("connection: close\r\n", "");
    let small = small.replace("ann-key", "wrong");
    let seen = send(&bench, &[small.into(), sized(&[])].concat()).await?;
    assert_eq!(seen.statuses, [401, 200], "{}", seen.text);
    Ok(())
}
