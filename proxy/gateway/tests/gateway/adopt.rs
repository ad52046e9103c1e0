//! What works directly works through the gateway: it adds or demands nothing that breaks a call.

use anyhow::{Context, Result, ensure};
use proxy_core::quota::Unit;
use proxy_core::table::{BackendAuth, Contents, OutputTokens, Rule};
use serde_json::{Value, json};
use std::sync::Arc;
use tests_foundry::{Fault, Record, Sim};

use crate::bench::{Bench, chat, contents, minute};

const KEY: &[(&str, &str)] = &[("api-key", "ann-key")];

fn sim() -> Result<Sim> {
    Ok(Sim::start(&tests_foundry::Config::default())?)
}

/// One backend behind a rule that bounds the output.
fn bounded(sim: &Sim, output_tokens: OutputTokens, model: &str) -> Contents {
    let mut contents = contents(std::slice::from_ref(sim), Vec::new());
    for route in &mut contents.routes {
        let route = Arc::make_mut(route);
        for rule in &mut route.rules {
            *rule = Arc::new(Rule {
                output_tokens,
                ..(**rule).clone()
            });
        }
    }
    for backend in &mut contents.backends {
        for deployment in &mut Arc::make_mut(backend).deployments {
            deployment.model = model.into();
        }
    }
    contents
}

fn refusing(member: &str) -> Fault {
    Fault {
        refuse: Some(member.to_owned()),
        ..Fault::default()
    }
}

fn body(record: &Record) -> Result<Value> {
    serde_json::from_slice(record.body.as_bytes()).context("JSON")
}

#[tokio::test]
async fn a_refused_wish_for_usage_is_left_out_and_remembered() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Tokens, 100_000)])?;
    bench.sims[0].faults(vec![refusing("stream_options")])?;
    for turn in 0..3 {
        let answer = bench.ask(&chat(true)).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        ensure!(
            answer.text().ends_with("data: [DONE]\n\n"),
            "{}",
            answer.text()
        );
        // The first one was put twice, the others once.
        assert_eq!(bench.upstream().len(), turn + 2);
    }
    bench.quiet().await?;
    // A client that asks for it itself sees the refusal.
    let mut asked = chat(true);
    asked["stream_options"] = json!({"include_usage": true});
    let answer = bench.ask(&asked).await?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    ensure!(
        answer.text().contains("stream_options"),
        "{}",
        answer.text()
    );
    Ok(())
}

#[tokio::test]
async fn a_prompt_with_data_sources_is_asked_for_no_usage() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let mut grounded = chat(true);
    grounded["data_sources"] = json!([{"type": "azure_search"}]);
    assert_eq!(bench.ask(&grounded).await?.status, 200);
    let upstream = bench.upstream();
    let [sent] = upstream.as_slice() else {
        anyhow::bail!("one request: {upstream:?}");
    };
    assert_eq!(body(sent)?.get("stream_options"), None);
    Ok(())
}

#[tokio::test]
async fn the_bound_of_a_rule_goes_upstream_by_the_name_that_the_model_takes() -> Result<()> {
    let output = OutputTokens {
        default: Some(5),
        max: Some(8),
    };
    for (model, refused, expect) in [
        ("gpt-4o-mini", None, Some("max_tokens")),
        ("o3-mini", None, Some("max_completion_tokens")),
        (
            "gpt-4o-mini",
            Some("max_tokens"),
            Some("max_completion_tokens"),
        ),
        ("o3-mini", Some("max_completion_tokens"), Some("max_tokens")),
    ] {
        let sim = sim()?;
        sim.faults(refused.map(refusing).into_iter().collect())?;
        let contents = bounded(&sim, output, model);
        let bench = Bench::of(vec![sim], contents)?;
        for turn in 0..2 {
            let answer = bench.ask(&chat(false)).await?;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let used = answer.json::<Value>()?;
            assert_eq!(used.pointer("/usage/completion_tokens"), Some(&json!(5)));
            let upstream = bench.upstream();
            let tries = usize::from(refused.is_some()) + turn + 1;
            assert_eq!(upstream.len(), tries, "{model} {refused:?}");
            let sent = body(upstream.last().context("a request")?)?;
            for name in ["max_tokens", "max_completion_tokens"] {
                let stated = (Some(name) == expect).then(|| json!(5));
                assert_eq!(sent.get(name), stated.as_ref(), "{model} {refused:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_larger_bound_is_lowered_and_the_answer_says_so() -> Result<()> {
    let sim = sim()?;
    let output = OutputTokens {
        default: None,
        max: Some(8),
    };
    let contents = bounded(&sim, output, "gpt-4o-mini");
    let bench = Bench::of(vec![sim], contents)?;
    for (asked, tokens, said) in [
        (None, 8, None),
        (Some(7), 7, None),
        (Some(900), 8, Some("8")),
    ] {
        let mut request = chat(false);
        if let Some(asked) = asked {
            request["max_completion_tokens"] = json!(asked);
        }
        let answer = bench.ask(&request).await?;
        assert_eq!(answer.header("x-tundish-max-output-tokens"), said);
        let used = answer.json::<Value>()?;
        assert_eq!(
            used.pointer("/usage/completion_tokens"),
            Some(&json!(tokens))
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_path_names_the_deployment_and_the_body_need_not() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    for path in [
        "/openai/deployments/mini/chat/completions?api-version=2024-10-21",
        "/openai/v1/deployments/mini/chat/completions",
    ] {
        for model in [json!(null), json!(""), json!("another"), json!("mini")] {
            let mut request = chat(false);
            request["model"] = model.clone();
            let answer = bench.post(path, KEY, &request.to_string()).await?;
            assert_eq!(answer.status, 200, "{model} at {path}: {}", answer.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_photo_passes_under_a_limit_of_tokens() -> Result<()> {
    let bench = Bench::of(vec![sim()?], Contents::default())?;
    let limits = vec![minute(Unit::Tokens, 100_000)];
    bench
        .gateway
        .publish(Arc::new(proxy_core::table::Table::new(contents(
            &bench.sims,
            limits,
        ))));
    for _ in 0..25 {
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    }
    for size in [500_000, 4 << 20] {
        let mut photo = b"\xff\xd8\xff\xc0\0\x11\x08\x0b\xb8\x0f\xa0".to_vec();
        photo.resize(size, 7);
        let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, photo);
        let request = json!({"model": "mini", "max_tokens": 16, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": format!("data:image/jpeg;base64,{data}")}},
        ]}]});
        let answer = bench.ask(&request).await?;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_model_that_no_deployment_serves_is_not_found() -> Result<()> {
    let sim = sim()?;
    let mut contents = contents(std::slice::from_ref(&sim), Vec::new());
    for route in &mut contents.routes {
        for rule in &mut Arc::make_mut(route).rules {
            for target in &mut Arc::make_mut(rule).targets {
                target.deployment = None;
            }
        }
    }
    let bench = Bench::of(vec![sim], contents)?;
    let mut request = chat(false);
    request["model"] = json!("gpt-x");
    let answer = bench.ask(&request).await?;
    assert_eq!(answer.status, 404, "{}", answer.text());
    let error = answer.json::<Value>()?;
    assert_eq!(
        error.pointer("/error/code"),
        Some(&json!("model_not_found"))
    );
    Ok(())
}

#[tokio::test]
async fn what_a_backend_says_against_the_gateways_key_stays_here() -> Result<()> {
    let echo = Fault {
        status: Some(401),
        body: Some(
            json!({"error": {"code": "invalid_api_key", "message": "no such key: sim-key"}}),
        ),
        ..Fault::default()
    };
    let bench = Bench::start(1, Vec::new())?;
    bench.sims[0].faults(vec![echo.clone()])?;
    let answer = bench.ask(&chat(false)).await?;
    let error = answer.json::<Value>()?["error"].clone();
    assert_eq!(
        (answer.status, &error["code"]),
        (502, &json!("backend_credential_refused"))
    );
    assert!(!answer.text().contains("sim-key"), "{}", answer.text());

    // Another backend serves, and a client's own credential is its own affair.
    let two = Bench::start(2, Vec::new())?;
    two.sims[0].faults(vec![echo.clone()])?;
    for _ in 0..8 {
        assert_eq!(two.ask(&chat(false)).await?.status, 200);
    }
    let sims = vec![sim()?];
    let mut passing = contents(&sims, Vec::new());
    for backend in &mut passing.backends {
        Arc::make_mut(backend).auth = BackendAuth::PassThrough;
    }
    for route in &mut passing.routes {
        Arc::make_mut(route).authentication.pass_through = true;
    }
    let bench = Bench::of(sims, passing)?;
    bench.sims[0].faults(vec![echo])?;
    let shown = [("api-key", "sim-key")];
    let answer = bench
        .post("/v1/chat/completions", &shown, &chat(false).to_string())
        .await?;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("no such key"), "{}", answer.text());
    Ok(())
}
