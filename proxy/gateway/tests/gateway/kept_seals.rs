//! Items with `encrypted_content`: they go to the resource that has sealed them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests_foundry::Sim;

use crate::bench::{Bench, sims};
use crate::kept::{ANN, BOB, ask, config, made, passed, replica};

/// A call that keeps nothing, with what came before.
fn turn(items: &[Value]) -> Value {
    json!({
        "model": "gpt-5", "store": false, "include": ["reasoning.encrypted_content"],
        "input": items,
    })
}

fn question(number: usize) -> Value {
    json!({"role": "user", "content": format!("Question {number}")})
}

fn sealed(answer: &Value) -> Result<&str> {
    let items = answer.get("output").and_then(Value::as_array);
    let mut items = items.context("items")?.iter();
    let content = items.find_map(|item| item.get("encrypted_content")?.as_str());
    content.context("something sealed")
}

fn served(sims: &[Sim]) -> Vec<usize> {
    sims.iter().map(|sim| sim.requests().len()).collect()
}

#[tokio::test]
async fn a_session_that_keeps_nothing_stays_where_it_began() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let replicas = [replica(&sims)?, replica(&sims)?];
    for session in 0..6 {
        let before = served(&sims);
        let mut items = Vec::new();
        for number in 0..8 {
            items.push(question(number));
            let bench = &replicas[number % 2];
            let answer = made(bench, "/v1/responses", &turn(&items)).await?;
            let content = sealed(&answer)?;
            assert_eq!(content.as_bytes().get(16), Some(&b'.'), "{content}");
            items.extend(answer["output"].as_array().context("items")?.clone());
        }
        let moved = served(&sims)
            .iter()
            .zip(before)
            .filter(|(now, old)| **now != *old)
            .count();
        assert_eq!(moved, 1, "session {session}");
    }
    let bodies: Vec<_> = sims
        .iter()
        .flat_map(Sim::requests)
        .map(|one| one.body)
        .collect();
    assert!(
        bodies
            .iter()
            .any(|body| body.contains("\"encrypted_content\":\"gAAAA"))
    );
    assert!(!bodies.iter().any(|body| body.contains(".gAAAA")));
    Ok(())
}

#[tokio::test]
async fn events_carry_it_too() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let bench = replica(&sims)?;
    for _ in 0..4 {
        let mut body = turn(&[question(1)]);
        body["stream"] = json!(true);
        let streamed = ask(&bench, ANN, "POST", "/v1/responses", &body)
            .await?
            .text();
        let events = streamed
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = events
            .filter_map(|event| serde_json::from_str(event).ok())
            .collect();
        let done = |event: &&Value| {
            event["type"] == "response.output_item.done" && event["item"]["type"] == "reasoning"
        };
        let item = events.iter().find(done).context("an item")?["item"].clone();
        let whole = events
            .iter()
            .find(|event| event["type"] == "response.completed");
        let whole = whole.context("the end")?;
        assert_eq!(
            json!(sealed(&whole["response"])?),
            item["encrypted_content"]
        );
        let next = turn(&[question(1), item, question(2)]);
        made(&bench, "/v1/responses", &next).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_another_has_is_refused_and_what_has_no_tag_finds_its_resource() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let bench = replica(&sims)?;
    let answer = made(&bench, "/v1/responses", &turn(&[question(1)])).await?;
    let content = sealed(&answer)?.to_owned();
    let item =
        |content: &str| json!({"type": "reasoning", "summary": [], "encrypted_content": content});
    let before = served(&sims);
    let forged = format!("AAAA{}", &content[4..]);
    for (caller, content) in [(BOB, &content), (ANN, &forged)] {
        let body = turn(&[item(content), question(2)]);
        let refused = ask(&bench, caller, "POST", "/v1/responses", &body).await?;
        let error = refused.json::<Value>()?;
        assert_eq!(
            (refused.status, &error["error"]["code"]),
            (400, &json!("invalid_encrypted_content"))
        );
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("input[0].encrypted_content does"),
            "{message}"
        );
    }
    assert_eq!(served(&sims), before, "no backend was asked");
    for _ in 0..6 {
        let body = turn(&[item(&content[17..]), question(2)]);
        made(&bench, "/v1/responses", &body).await?;
    }
    let body = turn(&[item("gAAAAnobody"), question(2)]);
    let before: usize = served(&sims).iter().sum();
    let refused = ask(&bench, ANN, "POST", "/v1/responses", &body).await?;
    let error = refused.json::<Value>()?;
    assert_eq!(
        (refused.status, &error["error"]["code"]),
        (400, &json!("invalid_encrypted_content"))
    );
    assert_eq!(served(&sims).iter().sum::<usize>(), before + 3, "each once");
    Ok(())
}

#[tokio::test]
async fn seals_of_two_resources_cannot_meet() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let mut tags: Vec<(String, Value)> = Vec::new();
    for _ in 0..40 {
        let answer = made(&bench, "/v1/responses", &turn(&[question(tags.len())])).await?;
        let content = sealed(&answer)?.to_owned();
        if tags.iter().all(|(tag, _)| *tag != content[..16]) {
            let item = json!({"type": "reasoning", "summary": [], "encrypted_content": content});
            tags.push((content[..16].to_owned(), item));
        }
    }
    let items: Vec<Value> = tags.into_iter().map(|(_, item)| item).collect();
    assert_eq!(items.len(), 2);
    let refused = ask(&bench, ANN, "POST", "/v1/responses", &turn(&items)).await?;
    assert_eq!(refused.status, 400);
    let text = refused.text();
    assert!(
        text.contains("input[0].encrypted_content and input[1].encrypted_content name"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn callers_with_a_key_of_the_resource_have_it_as_it_is() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = Bench::serve(Vec::new(), passed(&sims, &["gpt-5"]), |_config| ())?;
    let shown = ("api-key", "sim-key");
    let answer = ask(
        &bench,
        shown,
        "POST",
        "/v1/responses",
        &turn(&[question(1)]),
    )
    .await?;
    let answer = answer.json::<Value>()?;
    assert!(sealed(&answer)?.starts_with("gAAAA"));
    Ok(())
}
