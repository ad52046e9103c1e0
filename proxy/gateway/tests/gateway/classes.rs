//! Who gives way where a provisioned deployment is nearly full.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::header::HeaderName;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::Class;
use proxy_core::route::Match;
use proxy_core::table::{Capacity, Contents, Rule};
use proxy_core::test_util::{key, object};
use serde_json::{Value, json};
use tests_foundry::{Fault, Sim};
use tests_support::http::Answer;

use crate::bench::{Bench, chat, contents, sims};

const HEADER: &str = "x-class";

/// Provisioned deployments in tiers of their order, a rule for each class that a header names, and a consumer whose
/// requests are Batch.
fn classes(sims: &[Sim]) -> Contents {
    let mut all = contents(sims, Vec::new());
    for backend in &mut all.backends {
        for deployment in &mut Arc::make_mut(backend).deployments {
            deployment.capacity = Capacity {
                is_provisioned: true,
                tokens_per_minute: None,
            };
        }
    }
    let nightly = Key {
        digest: KeyDigest::of("nightly-key"),
        attributes: vec![(Class::ATTRIBUTE.into(), "Batch".into())],
        ..key("nightly")
    };
    all.keys.push(Arc::new(nightly));
    let route = Arc::make_mut(all.routes.first_mut().expect("a route"));
    route.authentication.keys.push(object("nightly"));
    let usual = Rule::clone(route.rules.first().expect("a rule"));
    let rules = Class::ALL.map(|class| {
        let name = class.as_str();
        Arc::new(Rule {
            name: name.into(),
            class,
            matches: vec![Match {
                headers: vec![(HeaderName::from_static(HEADER), name.into())],
                ..Match::default()
            }],
            ..usual.clone()
        })
    });
    route.rules = rules.into();
    all
}

/// Answers that tell of this use.
fn is_used(sim: &Sim, utilization: &str) -> Result<()> {
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "mini", "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
    sim.faults(vec![Fault {
        status: Some(200),
        body: Some(answer),
        headers: [(
            "azure-openai-deployment-utilization".to_owned(),
            utilization.to_owned(),
        )]
        .into(),
        ..Fault::default()
    }])?;
    Ok(())
}

async fn ask(bench: &Bench, key: &str, class: Class) -> Result<Answer> {
    let headers = [("api-key", key), (HEADER, class.as_str())];
    let body = chat(false).to_string();
    bench.post("/v1/chat/completions", &headers, &body).await
}

fn is_held_back(answer: &Answer, class: &str) -> Result<()> {
    is_held_back_since(answer, class, "are nearly full")
}

fn is_held_back_since(answer: &Answer, class: &str, why: &str) -> Result<()> {
    let body: Value = answer.json()?;
    let text = |path| body.pointer(path).and_then(Value::as_str);
    ensure!(answer.status == 429, "{body}");
    ensure!(text("/error/code") == Some("backend_throttled"), "{body}");
    let message = text("/error/message").context("a message")?;
    ensure!(
        message.contains(&format!("{why}, and requests of class {class} give way")),
        "{body}"
    );
    ensure!(answer.header("retry-after").is_some(), "no wait");
    Ok(())
}

#[tokio::test]
async fn batch_waits_before_standard_and_standard_before_interactive() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let contents = classes(&sims);
    let bench = Bench::of(sims, contents)?;
    let sim = bench.sims.first().context("a backend")?;
    is_used(sim, "94%")?;
    // Alone, each is served: there is no one to give way to.
    ensure!(ask(&bench, "ann-key", Class::Batch).await?.status == 200);
    ensure!(ask(&bench, "ann-key", Class::Batch).await?.status == 200);
    ensure!(ask(&bench, "ann-key", Class::Interactive).await?.status == 200);
    let before = sim.requests().len();
    is_held_back(&ask(&bench, "ann-key", Class::Batch).await?, "Batch")?;
    is_held_back(&ask(&bench, "ann-key", Class::Standard).await?, "Standard")?;
    // The attribute of the consumer lowers the class of the rule.
    is_held_back(
        &ask(&bench, "nightly-key", Class::Interactive).await?,
        "Batch",
    )?;
    ensure!(
        sim.requests().len() == before,
        "a call that gives way costs none"
    );
    let counted = bench.counted("upstream_yields_total");
    let count = |class: &str, count: u32| {
        let line = |line: &&String| line.contains(class) && line.ends_with(&format!(" {count}"));
        ensure!(counted.iter().any(|one| line(&one)), "{counted:?}");
        Ok(())
    };
    count("class=\"Batch\"", 2)?;
    count("class=\"Standard\"", 1)?;
    let page = bench.gateway.backends_page();
    let used = page.deployments.first().context("a deployment")?;
    ensure!(used.utilisation_percent == Some(94), "{used:?}");
    for _ in 0..20 {
        ensure!(ask(&bench, "ann-key", Class::Interactive).await?.status == 200);
    }
    // A tenth is free again: Standard has half of its share, Batch none.
    is_used(sim, "90%")?;
    for _ in 0..10 {
        ask(&bench, "ann-key", Class::Interactive).await?;
    }
    let mut served = 0;
    for _ in 0..200 {
        served += u32::from(ask(&bench, "ann-key", Class::Standard).await?.status == 200);
        ensure!(ask(&bench, "ann-key", Class::Batch).await?.status == 429);
    }
    ensure!((60..140).contains(&served), "{served} of 200");
    Ok(())
}

#[tokio::test]
async fn what_gives_way_to_a_comeback_says_so() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let contents = classes(&sims);
    let bench = Bench::of(sims, contents)?;
    let sim = bench.sims.first().context("a backend")?;
    sim.faults(vec![Fault {
        status: Some(429),
        headers: [("retry-after".to_owned(), "2".to_owned())].into(),
        times: Some(1),
        ..Fault::default()
    }])?;
    ensure!(ask(&bench, "ann-key", Class::Interactive).await?.status == 429);
    let back = async || {
        let answer = ask(&bench, "ann-key", Class::Interactive).await.ok()?;
        (answer.status == 200).then_some(())
    };
    tests_support::eventually("its comeback", Duration::from_secs(10), back).await?;
    let mut refused = None;
    for _ in 0..20 {
        let answer = ask(&bench, "ann-key", Class::Batch).await?;
        refused = refused.or_else(|| (answer.status == 429).then_some(answer));
    }
    let refused = refused.context("Batch gives way")?;
    let why = "have come back and take a growing part of their requests";
    is_held_back_since(&refused, "Batch", why)
}

#[tokio::test]
async fn what_gives_way_goes_to_the_next_tier() -> Result<()> {
    let sims = sims(2, &tests_foundry::Config::default())?;
    let contents = classes(&sims);
    let bench = Bench::of(sims, contents)?;
    let [first, second] = &*bench.sims else {
        anyhow::bail!("two backends");
    };
    is_used(first, "95%")?;
    ensure!(ask(&bench, "ann-key", Class::Interactive).await?.status == 200);
    let before = first.requests().len();
    for _ in 0..10 {
        ensure!(ask(&bench, "ann-key", Class::Batch).await?.status == 200);
    }
    ensure!(first.requests().len() == before);
    ensure!(second.requests().len() == 10);
    Ok(())
}
