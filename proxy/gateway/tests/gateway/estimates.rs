//! What is held for callers who set no bound of their own: the default at first, then what their
//! requests need; and what happens when they need more.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use proxy_core::quota::{Limit, Unit};
use proxy_core::table::Table;
use serde_json::{Value, json};
use tests_foundry::{Config, Fault};
use tests_support::eventually;
use tests_support::http::Answer;

use crate::bench::{Bench, chat, contents, minute};

impl Bench {
    fn limit(&self, limits: Vec<Limit>) {
        let table = Table::new(contents(&self.sims, limits));
        self.gateway.publish(Arc::new(table));
    }

    async fn ask_at_once(&self, times: usize, body: &Value) -> Result<Vec<Answer>> {
        let answers = try_join_all((0..times).map(|_| self.ask(body))).await?;
        self.quiet().await?;
        Ok(answers)
    }

    /// Input and output tokens that were settled.
    fn settled(&self) -> u64 {
        let of = |kind: &str| {
            let labels = format!("route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"{kind}\"");
            self.metric(&format!("tokens_total{{{labels}}}"))
        };
        of("input").unwrap_or(0) + of("output").unwrap_or(0)
    }
}

fn admitted(answers: &[Answer]) -> usize {
    for answer in answers {
        assert!(
            matches!(answer.status, 200 | 429),
            "{}: {}",
            answer.status,
            answer.text()
        );
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// An answer of this many tokens, whatever is asked.
fn long_answer(completion_tokens: u64) -> Fault {
    let body = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "and so on"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": completion_tokens},
    });
    Fault {
        status: Some(200),
        body: Some(body),
        ..Fault::default()
    }
}

#[tokio::test]
async fn callers_without_a_bound_are_not_starved_by_their_holds() -> Result<()> {
    for stream in [false, true] {
        // Two run at a time, since one answer may be longer than the whole limit.
        let slow = Config {
            latency: Duration::from_millis(100),
            ..Config::default()
        };
        let bench = Bench::with(1, Vec::new(), &slow)?;
        let body = chat(stream);
        assert_eq!(admitted(&bench.ask_at_once(30, &body).await?), 30);
        let first = bench.settled();
        let amount = first / 30 * 100;
        bench.limit(vec![minute(Unit::Tokens, amount)]);

        let admitted = admitted(&bench.ask_at_once(100, &body).await?);
        assert!(admitted >= 80, "{admitted} of 100 (stream: {stream})");
        let settled = bench.settled() - first;
        assert!(settled <= amount, "{settled} of {amount} tokens");
        let billed = bench.sims[0].billed().deployments["gpt-4o-mini"];
        assert_eq!(
            settled + first,
            billed.prompt_tokens + billed.completion_tokens
        );
    }
    Ok(())
}

#[tokio::test]
async fn answers_longer_than_expected_are_debt_and_then_expected() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    assert_eq!(admitted(&bench.ask_at_once(20, &chat(false)).await?), 20);
    bench.limit(vec![minute(Unit::Tokens, 1_000)]);
    bench.sims[0].faults(vec![long_answer(3_000)])?;
    let before = bench.settled();
    assert_eq!(bench.ask(&chat(false)).await?.status, 200, "little is held");
    bench.quiet().await?;
    assert_eq!(bench.settled() - before, 3_008, "all of it is charged");
    let refused = bench.ask(&chat(false)).await?;
    assert_eq!(refused.status, 429, "the limit is overdrawn");
    assert_eq!(
        refused.header("x-ratelimit-remaining-tokens"),
        Some("0"),
        "{refused:?}"
    );

    // Two of twenty-two are more than one in twenty.
    bench.limit(Vec::new());
    assert_eq!(admitted(&bench.ask_at_once(1, &chat(false)).await?), 1);
    let fresh = Limit {
        name: "fresh".into(),
        ..minute(Unit::Tokens, 1_000)
    };
    bench.limit(vec![fresh]);
    let refused = bench.ask(&chat(false)).await?;
    assert_eq!(refused.status, 429, "3,000 are held now");
    let error = refused.json::<Value>()?["error"].to_string();
    assert!(error.contains("ns/q/fresh"), "{error}");
    assert!(error.contains("lower max_tokens"), "{error}");
    let mut bounded = chat(false);
    bounded["max_tokens"] = json!(16);
    assert_eq!(bench.ask(&bounded).await?.status, 200, "it said how much");
    Ok(())
}

#[tokio::test]
async fn a_bounded_or_cut_answer_is_no_observation_of_the_output() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let mut bounded = chat(false);
    bounded["max_tokens"] = json!(1);
    assert_eq!(admitted(&bench.ask_at_once(30, &bounded).await?), 30);
    // The default of this gateway is 100 tokens, the input is less than 19.
    bench.limit(vec![minute(Unit::Tokens, 99)]);
    assert_eq!(bench.ask(&chat(false)).await?.status, 429);
    bench.limit(Vec::new());
    bench.sims[0].faults(vec![Fault {
        cut_after_chunks: Some(3),
        times: Some(30),
        ..Fault::default()
    }])?;
    let cut = (0..30).map(|_| async {
        let answer = bench.ask(&chat(true)).await;
        assert!(answer.is_err(), "the connection is cut: {answer:?}");
    });
    futures::future::join_all(cut).await;
    bench.quiet().await?;
    bench.limit(vec![minute(Unit::Tokens, 99)]);
    assert_eq!(bench.ask(&chat(false)).await?.status, 429);
    assert_eq!(bench.ask(&bounded).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_request_is_tokenised_before_observed_sizes_refuse_it() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let limit = |amount| {
        let mut contents = contents(&bench.sims, vec![minute(Unit::Tokens, amount)]);
        Arc::make_mut(&mut contents.backends[0]).deployments[0].model = "gpt-4o-mini".into();
        bench.gateway.publish(Arc::new(Table::new(contents)));
    };
    limit(1_000_000);
    let mut body = chat(false);
    body["max_tokens"] = json!(1);
    let costly = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}}],
        "usage": {"prompt_tokens": 2_000, "completion_tokens": 1},
    });
    bench.sims[0].faults(vec![Fault {
        status: Some(200),
        body: Some(costly),
        ..Fault::default()
    }])?;
    assert_eq!(admitted(&bench.ask_at_once(30, &body).await?), 30);
    let size = u64::try_from(body.to_string().len())?;
    // Too little for a token per byte, as was learned; enough for the few that it has.
    limit(bench.settled() + size - 20);
    eventually(
        "the vocabulary is loaded",
        Duration::from_secs(20),
        async || (bench.ask(&body).await.ok()?.status == 200).then_some(()),
    )
    .await
}

#[tokio::test]
async fn short_answers_teach_no_hold_that_long_ones_break() -> Result<()> {
    const LIMIT: u64 = 20_000;
    let bench = Bench::start(1, Vec::new())?;
    bench.limit(vec![minute(Unit::Tokens, LIMIT)]);
    let mut body = chat(false);
    for _ in 0..60 {
        assert_eq!(admitted(&bench.ask_at_once(1, &body).await?), 1);
    }
    let long = Fault {
        delay_ms: Some(50),
        ..long_answer(4_000)
    };
    bench.sims[0].faults(vec![long])?;
    let admitted_long = admitted(&bench.ask_at_once(300, &body).await?);
    assert!(admitted_long >= 4, "{admitted_long} admitted");
    assert!(
        bench.settled() <= 2 * LIMIT,
        "{} of {LIMIT}",
        bench.settled()
    );

    // By the input: blanks are few tokens, digits many.
    let bench = Bench::start(1, Vec::new())?;
    bench.limit(vec![minute(Unit::Tokens, LIMIT)]);
    body["max_tokens"] = json!(1);
    let dense = |prompt_tokens: u64| {
        let body = json!({
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1},
        });
        Fault {
            status: Some(200),
            body: Some(body),
            delay_ms: Some(50),
            ..Fault::default()
        }
    };
    bench.sims[0].faults(vec![dense(60)])?;
    body["messages"][0]["content"] = json!(" ".repeat(4_000));
    for _ in 0..60 {
        assert_eq!(admitted(&bench.ask_at_once(1, &body).await?), 1);
    }
    bench.sims[0].faults(vec![dense(4_000)])?;
    body["messages"][0]["content"] = json!("7 ".repeat(2_000));
    admitted(&bench.ask_at_once(300, &body).await?);
    assert!(
        bench.settled() <= 2 * LIMIT,
        "{} of {LIMIT}",
        bench.settled()
    );
    Ok(())
}
