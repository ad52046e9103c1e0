//! What a model has spoken: only its hearer may go on from it, at the resource that keeps it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_foundry::Sim;

use crate::bench::{Bench, sims};
use crate::kept::{ANN, BOB, ask, config, made, passed, replica};
use crate::kept_stores::plain;

const CHAT: &str = "/v1/chat/completions";

fn asked(stream: bool) -> Value {
    json!({"model": "gpt-5", "stream": stream, "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"}, "messages": [{"role": "user", "content": "Sing"}]})
}

fn next(id: &str) -> Value {
    let before = json!({"role": "assistant", "audio": {"id": id}});
    json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Sing"}, before, {"role": "user", "content": "On"}]})
}

async fn spoken(bench: &Bench) -> Result<String> {
    let answer = made(bench, CHAT, &asked(false)).await?;
    let id = answer.pointer("/choices/0/message/audio/id");
    Ok(id.and_then(Value::as_str).context("an id")?.to_owned())
}

#[tokio::test]
async fn what_was_spoken_goes_on_at_its_resource_on_every_replica() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for _ in 0..8 {
        made(&other, CHAT, &next(&spoken(&one).await?)).await?;
    }
    let stream = ask(&one, ANN, "POST", CHAT, &asked(true)).await?;
    let text = stream.text();
    ensure!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let id = text.split("\"audio\":{").nth(1).context("sound")?;
    let id = id.split("\"id\":\"").nth(1).context("an id")?;
    let id = id.split('"').next().context("an id")?;
    for _ in 0..4 {
        made(&other, CHAT, &next(id)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn no_other_consumer_goes_on_from_it() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let id = spoken(&bench).await?;
    let before = sims.iter().flat_map(Sim::requests).count();
    for (caller, id) in [(BOB, &*id), (BOB, plain(&id)), (ANN, plain(&id))] {
        let refused = ask(&bench, caller, "POST", CHAT, &next(id)).await?;
        let error = refused.json::<Value>()?;
        let found = (refused.status, &error["error"]["code"]);
        assert_eq!(found, (404, &json!("not_kept")), "{error}");
        let message = format!("Audio with id '{id}' not found. It stands in messages[1].audio.id.");
        assert_eq!(error["error"]["message"], json!(message));
    }
    assert_eq!(sims.iter().flat_map(Sim::requests).count(), before);
    Ok(())
}

#[tokio::test]
async fn callers_with_a_key_of_the_resource_have_it_as_it_is() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let shown = ("api-key", "sim-key");
    let answer = ask(&bench, shown, "POST", CHAT, &asked(false)).await?;
    let answer = answer.json::<Value>()?;
    let id = answer.pointer("/choices/0/message/audio/id");
    let id = id.and_then(Value::as_str).context("an id")?;
    let went_on = ask(&bench, shown, "POST", CHAT, &next(id)).await?;
    assert_eq!(went_on.status, 200, "{}", went_on.text());
    Ok(())
}
