//! Callers whose credentials the gateway passes on: what they can take from others before a backend has
//! accepted them, and who they are then.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proxy_core::quota::{Limit, Per, Unit};
use proxy_core::table::{BackendAuth, BackendKind, Contents, Quota};
use proxy_core::test_util::quota;
use serde_json::json;
use tests_support::http::Answer;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::bench::{Bench, at, minute, routed};
use crate::raw::{Raw, head, length};

const TENANT: &str = "00000000-0000-0000-0000-00000000000a";
const ANN: &str = "00000000-0000-0000-0000-00000000000b";

/// How long the backend takes to refuse.
const THINKS: Duration = Duration::from_millis(300);

/// A backend that accepts credentials with `good` in them. Each answer bills 30 tokens.
async fn backend() -> Result<Raw> {
    Raw::start(|mut stream| async move {
        loop {
            let (head, mut body) = head(&mut stream).await?;
            let length = length(&head)?;
            while body.len() < length {
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut body).await?;
            }
            let credential = head
                .lines()
                .find(|line| line.starts_with("api-key:") || line.starts_with("authorization:"));
            let (status, body) = if credential.is_some_and(|line| line.contains("good")) {
                let usage =
                    json!({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30});
                ("200 OK", json!({"choices": [], "usage": usage}))
            } else {
                tokio::time::sleep(THINKS).await;
                ("401 Unauthorized", json!({"error": {"code": "401"}}))
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
        }
    })
    .await
}

fn contents(raw: &Raw, kind: BackendKind, per: Vec<Per>, limits: Vec<Limit>) -> Contents {
    let backend = proxy_core::table::Backend {
        kind,
        auth: BackendAuth::PassThrough,
        ..at(&raw.url)
    };
    let contents = routed(vec![backend], Vec::new());
    let mut route = contents
        .routes
        .first()
        .map(|one| (**one).clone())
        .expect("a route");
    route.authentication.keys.clear();
    route.authentication.pass_through = true;
    let quota = Quota {
        per,
        ..quota("q", limits)
    };
    let backends = contents.backends.iter().map(|one| (**one).clone());
    Contents::new(backends.collect(), vec![route], vec![quota], Vec::new())
}

async fn ask(bench: &Bench, header: (&str, &str), max_tokens: u64) -> Result<Answer> {
    let body = json!({
        "model": "mini",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "hi"}],
    });
    bench
        .post("/v1/chat/completions", &[header], &body.to_string())
        .await
}

/// A token that says this of its caller; `id` tells one from the next.
fn token(principal: &str, id: &str) -> String {
    let payload = json!({"tid": TENANT, "oid": principal, "exp": 4_000_000_000_u64, "id": id});
    let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
    format!("Bearer e30.{payload}.{id}")
}

fn used(bench: &Bench) -> Vec<(String, u64)> {
    let page = bench.gateway.usage_page();
    let subjects = page.limits.iter().flat_map(|limit| &limit.subjects);
    let used = subjects
        .filter(|one| one.used > 0)
        .map(|one| (one.subject.to_string(), one.used));
    used.collect()
}

#[tokio::test]
async fn junk_keys_lock_no_good_client_out() -> Result<()> {
    let raw = backend().await?;
    let limits = vec![minute(Unit::Tokens, 10_000)];
    let bench = Arc::new(Bench::of(
        Vec::new(),
        contents(&raw, BackendKind::Foundry, Vec::new(), limits),
    )?);
    let mut strangers = JoinSet::new();
    for stranger in 0..3 {
        let bench = Arc::clone(&bench);
        strangers.spawn(async move {
            for call in 0.. {
                let key = format!("junk-{stranger}-{call}");
                if ask(&bench, ("api-key", &key), 9_000).await.is_err() {
                    break;
                }
            }
        });
    }
    tokio::time::sleep(THINKS).await;
    for call in 0..40 {
        let answer = ask(&bench, ("api-key", "good"), 100).await?;
        assert_eq!(answer.status, 200, "call {call}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    strangers.shutdown().await;
    bench.quiet().await?;
    assert_eq!(used(&bench), [(String::new(), 40 * 30)]);
    Ok(())
}

#[tokio::test]
async fn a_token_is_who_it_claims_once_foundry_has_accepted_it() -> Result<()> {
    let raw = backend().await?;
    let limits = vec![minute(Unit::Tokens, 10_000)];
    let bench = Bench::of(
        Vec::new(),
        contents(&raw, BackendKind::Foundry, vec![Per::Consumer], limits),
    )?;
    // A token for each hour, and two calls with each.
    for id in ["good-1", "good-2"] {
        for _ in 0..2 {
            let answer = ask(&bench, ("authorization", &token(ANN, id)), 100).await?;
            assert_eq!(answer.status, 200);
        }
    }
    // Anybody can write her name.
    let forged = ask(&bench, ("authorization", &token(ANN, "forged")), 9_000).await?;
    assert_eq!(forged.status, 401);
    bench.quiet().await?;
    let ann = format!("consumer=entra-{ANN}@{TENANT}");
    assert_eq!(used(&bench), [(ann, 4 * 30)]);
    Ok(())
}

#[tokio::test]
async fn another_backend_proves_no_name() -> Result<()> {
    let raw = backend().await?;
    let limits = vec![minute(Unit::Tokens, 10_000)];
    let bench = Bench::of(
        Vec::new(),
        contents(
            &raw,
            BackendKind::OpenAiCompatible,
            vec![Per::Consumer],
            limits,
        ),
    )?;
    for id in ["good-1", "good-2"] {
        ask(&bench, ("authorization", &token(ANN, id)), 100).await?;
    }
    bench.quiet().await?;
    let used = used(&bench);
    assert_eq!(used.len(), 2, "each token counts alone: {used:?}");
    assert!(
        used.iter()
            .all(|(subject, used)| subject.starts_with("consumer=key-") && *used == 30)
    );
    Ok(())
}

#[tokio::test]
async fn a_stranger_that_pays_is_charged_in_full() -> Result<()> {
    let raw = backend().await?;
    let limits = vec![minute(Unit::Tokens, 100)];
    let bench = Bench::of(
        Vec::new(),
        contents(&raw, BackendKind::Foundry, Vec::new(), limits),
    )?;
    // Each call has a new credential, so each is unproved: the limit holds all the same.
    let mut admitted = 0;
    for call in 0..10 {
        let key = format!("good-{call}");
        let answer = ask(&bench, ("api-key", &key), 20).await?;
        admitted += u64::from(answer.status == 200);
        if answer.status != 200 {
            let code = serde_json::from_slice::<serde_json::Value>(&answer.body).context("JSON")?;
            assert_eq!(code["error"]["code"], "quota_exceeded");
        }
    }
    bench.quiet().await?;
    assert_eq!(used(&bench), [(String::new(), admitted * 30)]);
    assert!(
        (2..=4).contains(&admitted),
        "{admitted} calls of 30 under 100"
    );
    Ok(())
}
