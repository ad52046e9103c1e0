//! What batches hold and cost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_core::quota::Unit;
use proxy_core::test_util::{deployment, limit};
use proxy_core::tokens::{LongContext, Price, Rates};
use serde_json::{Value, json};
use tests_foundry::Fault;

use crate::batches::{
    CHAT, about, begun, chat, chats, class, config, ended, plain, quick, refusal, replica, settled,
    upload,
};
use crate::bench::{Bench, minute, sims};
use crate::kept::{ANN, NONE, ask, counted, id, limited, passed};

#[tokio::test]
async fn a_batch_holds_what_its_lines_may_cost_until_it_ends() -> Result<()> {
    let sims = sims(1, &config(Duration::from_secs(2))?)?;
    let bench = replica(&sims, minute(Unit::OutputTokens, 100), |_contents| ())?;
    let never = begun(&bench, &chats(3)).await?;
    let (code, message) = refusal(&never)?;
    assert_eq!((never.status, &*code), (429, "quota_exceeded"));
    ensure!(
        message.contains("split the file") && message.contains("may need 120"),
        "{message}"
    );
    assert_eq!(never.header("x-should-retry"), Some("false"));
    let first = begun(&bench, &chats(2)).await?;
    assert_eq!(first.status, 200, "{}", first.text());
    let second = begun(&bench, &chats(1)).await?;
    assert_eq!(second.status, 429, "80 of 100 are held: {}", second.text());
    bench.quiet().await?;
    let billed = sims[0].billed().deployments["gpt-5"].completion_tokens;
    assert_eq!(class(&bench, "output"), billed);
    // What was held and not used is free again.
    let third = begun(&bench, &chats(1)).await?;
    assert_eq!(third.status, 200, "{}", third.text());
    Ok(())
}

#[tokio::test]
async fn money_is_charged_line_by_line() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let limit = limit("day", Unit::CostMicros, 1_000_000);
    let bench = replica(&sims, limit, |contents| {
        for backend in &mut contents.backends {
            let mut deployment = deployment("gpt-5", "gpt-5");
            deployment.price = Some(Arc::new(Price {
                rates: Rates::of_text(1_000_000, 1_000_000),
                long_context: Some(LongContext {
                    above_input_tokens: 20,
                    rates: Rates::of_text(9_000_000, 9_000_000),
                }),
                ..Price::default()
            }));
            // At its price the batch would not fit the limit.
            let mut dear = proxy_core::test_util::deployment("other", "other");
            let rate = 100_000_000_000;
            dear.price = Some(Arc::new(Price {
                rates: Rates::of_text(rate, rate),
                ..Price::default()
            }));
            Arc::make_mut(backend).deployments = vec![deployment, dear];
        }
    })?;
    let answer = begun(&bench, &chats(4)).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    bench.quiet().await?;
    let billed = sims[0].billed().deployments["gpt-5"];
    // No line is longer than 20 tokens, and all of them together are.
    assert!(billed.prompt_tokens > 20 && billed.prompt_tokens < 80);
    let tokens = billed.prompt_tokens + billed.completion_tokens;
    let micros: Option<u64> = bench
        .counted("cost_micros_total")
        .first()
        .and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    assert_eq!(micros, Some(tokens));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_batch_costs_what_it_has_run() -> Result<()> {
    let sims = sims(1, &config(Duration::from_secs(3_600))?)?;
    let bench = plain(&sims)?;
    let made = begun(&bench, &chats(2)).await?.json::<Value>()?;
    let path = format!("/v1/batches/{}", id(&made)?);
    let cancelled = ask(&bench, ANN, "POST", &format!("{path}/cancel"), &NONE).await?;
    assert_eq!(
        cancelled.json::<Value>()?["id"],
        made["id"],
        "{}",
        cancelled.text()
    );
    bench.quiet().await?;
    assert_eq!((counted(&bench), settled(&bench, "measured")), (0, Some(1)));
    Ok(())
}

#[tokio::test]
async fn a_batch_that_the_backend_refuses_costs_nothing() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = plain(&sims)?;
    let twice = chat(1, &json!({})) + &chat(1, &json!({}));
    let made = begun(&bench, &twice).await?.json::<Value>()?;
    let failed = ended(&bench, &format!("/v1/batches/{}", id(&made)?)).await?;
    assert_eq!(failed["errors"]["data"][0]["code"], "duplicate_custom_id");
    bench.quiet().await?;
    assert_eq!((counted(&bench), settled(&bench, "measured")), (0, Some(1)));
    Ok(())
}

#[tokio::test]
async fn a_line_without_a_usage_costs_its_part_of_what_was_held() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = plain(&sims)?;
    let filtered = json!({"messages": [{"role": "user", "content": "filter:prompt"}]});
    let text = chats(1) + &chat(2, &filtered);
    let made = begun(&bench, &text).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    bench.quiet().await?;
    let billed = sims[0].billed().deployments["gpt-5"];
    assert_eq!(class(&bench, "output"), billed.completion_tokens);
    let input = class(&bench, "input");
    assert!(
        input >= billed.prompt_tokens,
        "{input} of {}",
        billed.prompt_tokens
    );
    assert_eq!(settled(&bench, "estimated"), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_process_that_stops_settles_a_batch_as_reserved() -> Result<()> {
    let sims = sims(1, &config(Duration::from_secs(60))?)?;
    let contents = limited(&sims, minute(Unit::Tokens, 1_000_000));
    let grace = Duration::from_millis(200);
    let mut bench = Bench::serve(Vec::new(), contents, |config| config.drain_grace = grace)?;
    let made = begun(&bench, &chats(2)).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    bench.stop().await?;
    assert_eq!(settled(&bench, "estimated"), Some(1));
    assert_eq!(class(&bench, "output"), 80);
    Ok(())
}

#[tokio::test]
async fn who_shows_a_credential_of_the_resource_has_batches_there() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let shown = ("api-key", "sim-key");
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let file = upload(&bench, shown, &chats(2)).await?;
    let made = ask(&bench, shown, "POST", "/v1/batches", &about(&file, CHAT)).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    assert!(id(&made.json()?)?.len() < 40, "no tag");
    let list = ask(&bench, shown, "GET", "/v1/batches?limit=1", &NONE).await?;
    assert_eq!(list.json::<Value>()?["data"][0]["object"], "batch");
    bench.quiet().await?;
    let billed = sims[0].billed().deployments["gpt-5"];
    assert_eq!(class(&bench, "output"), billed.completion_tokens);
    Ok(())
}

/// A fault of one operation of the simulator.
fn fault(operation: &str, times: u64, status: u16, body: &Value) -> Result<Fault> {
    let fault = json!({"operation": operation, "times": times, "status": status, "body": body});
    Ok(serde_json::from_value(fault)?)
}

#[tokio::test]
async fn a_batch_that_tells_its_usage_is_settled_by_that() -> Result<()> {
    let sims = sims(1, &config(Duration::from_secs(60))?)?;
    let bench = plain(&sims)?;
    let made = begun(&bench, &chats(2)).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    let usage = json!({"input_tokens": 30, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 7, "total_tokens": 37});
    let ended = json!({"status": "completed", "endpoint": CHAT, "output_file_id": "file-1", "usage": usage});
    sims[0].faults(vec![
        fault("Batches_Get", 1, 500, &Value::Null)?,
        fault("Batches_Get", 1, 200, &ended)?,
    ])?;
    bench.quiet().await?;
    let classes = ["input", "cached_input", "output"].map(|name| class(&bench, name));
    assert_eq!(
        (classes, settled(&bench, "measured")),
        ([30, 10, 7], Some(1))
    );
    Ok(())
}

#[tokio::test]
async fn a_batch_whose_output_is_gone_costs_what_was_reserved() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = plain(&sims)?;
    let made = begun(&bench, &chats(2)).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    sims[0].faults(vec![fault("Files_GetContent", 1, 404, &Value::Null)?])?;
    bench.quiet().await?;
    assert_eq!(
        (class(&bench, "output"), settled(&bench, "estimated")),
        (80, Some(1))
    );
    Ok(())
}

/// The file is read from the resource, which fails and throttles as it does for clients.
#[tokio::test]
async fn a_resource_that_does_not_give_the_file_is_asked_again_or_let_be() -> Result<()> {
    let sims = sims(1, &quick()?)?;
    let bench = plain(&sims)?;
    sims[0].faults(vec![fault("Files_GetContent", 1, 503, &Value::Null)?])?;
    let made = begun(&bench, &chats(1)).await?;
    assert_eq!(made.status, 200, "{}", made.text());
    sims[0].faults(vec![fault("Files_GetContent", 2, 503, &Value::Null)?])?;
    let failed = begun(&bench, &chats(1)).await?;
    assert_eq!(failed.status, 502, "{}", failed.text());
    let throttled = json!({"operation": "Files_GetContent", "times": 1, "status": 429, "headers": {"retry-after": "7"}});
    sims[0].faults(vec![serde_json::from_value(throttled)?])?;
    let throttled = begun(&bench, &chats(1)).await?;
    let error = throttled.json::<Value>()?;
    assert_eq!(
        (throttled.status, &error["error"]["code"]),
        (429, &json!("backend_throttled"))
    );
    let wait = throttled.header("retry-after").context("a wait")?;
    assert!((7..=9).contains(&wait.parse::<u64>()?), "{wait}");
    bench.quiet().await
}
