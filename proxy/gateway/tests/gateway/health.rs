//! Failover and ejection of endpoints, and the answer when no endpoint serves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use proxy_core::names::Secret;
use proxy_core::quota::Unit;
use proxy_core::table::{BackendAuth, Contents, Rule};
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::{Fault, Sim};
use tests_support::eventually_ok;
use tests_support::http::Answer;
use tokio::time::Instant;

use crate::bench::{Bench, chat, contents, minute, sims};

const LIMIT: Duration = Duration::from_secs(10);

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// A wait that no test lasts.
const LONG: &str = "50";

/// An answer with a status, an error word and a header.
fn answers(status: u16, code: &str, header: Option<(&str, &str)>) -> Fault {
    let headers = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Fault {
        status: Some(status),
        body: Some(json!({"error": {"code": code, "message": "from the backend"}})),
        headers: headers.into_iter().collect(),
        ..Fault::default()
    }
}

fn throttles(seconds: &str) -> Fault {
    answers(429, "429", Some(("retry-after", seconds)))
}

/// The only rule of a table.
fn rule(contents: &mut Contents) -> &mut Rule {
    let route = contents.routes.first_mut().expect("a route");
    let rule = Arc::make_mut(route).rules.first_mut();
    Arc::make_mut(rule.expect("a rule"))
}

/// Endpoints in one tier.
fn one_tier(count: usize) -> Result<Bench> {
    let sims = sims(count, &tests_foundry::Config::default())?;
    let mut contents = contents(&sims, Vec::new());
    for target in &mut rule(&mut contents).targets {
        target.priority = 0;
    }
    Bench::of(sims, contents)
}

fn asked(bench: &Bench) -> Vec<usize> {
    let asked = bench.sims.iter().map(|sim| sim.requests().len());
    asked.collect()
}

fn set(sim: &Sim, fault: &Fault) -> Result<()> {
    Ok(sim.faults(vec![fault.clone()])?)
}

fn code(answer: &Answer) -> Result<String> {
    let body: Value = answer.json()?;
    let code = body.pointer("/error/code").and_then(Value::as_str);
    Ok(code.unwrap_or_default().to_owned())
}

fn wait_ms(answer: &Answer) -> Option<u64> {
    answer.header("retry-after-ms")?.parse().ok()
}

#[tokio::test]
async fn a_throttled_endpoint_is_not_asked_within_its_wait() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    set(&bench.sims[0], &throttles(LONG))?;
    for _ in 0..20 {
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    }
    assert_eq!(asked(&bench), [1, 20]);
    let labels = "{backend=\"ns/b0\",deployment=\"gpt-4o-mini\"";
    assert_eq!(bench.metric(&format!("upstream_in{labels}}}")), Some(0));
    let ejections = format!("upstream_ejections_total{labels},reason=\"Throttled\"}}");
    assert_eq!(bench.metric(&ejections), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_huge_prompt_that_is_throttled_stops_no_small_ones() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let mut table = contents(&sims, vec![minute(Unit::Tokens, 10_000_000)]);
    rule(&mut table).retry.attempts = 0;
    let bench = Bench::of(sims, table)?;
    let mut huge = chat(false);
    huge["messages"][0]["content"] = json!("word ".repeat(60_000));
    set(&bench.sims[0], &throttles(LONG))?;
    assert_eq!(bench.ask(&huge).await?.status, 429);
    bench.sims[0].faults(Vec::new())?;
    for _ in 0..5 {
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    }
    // The huge one waits, without a call.
    let before = asked(&bench);
    assert_eq!(bench.ask(&huge).await?.status, 429);
    assert_eq!(asked(&bench), before);
    Ok(())
}

#[tokio::test]
async fn a_limit_of_one_callers_own_key_keeps_no_other_caller_away() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let mut table = contents(&sims, Vec::new());
    for backend in &mut table.backends {
        Arc::make_mut(backend).auth = BackendAuth::PassThrough;
    }
    let route = table.routes.first_mut().expect("a route");
    Arc::make_mut(route).authentication.pass_through = true;
    let bench = Bench::of(sims, table)?;
    let mine = Fault {
        api_key: Some("mine".to_owned()),
        ..throttles(LONG)
    };
    set(&bench.sims[0], &mine)?;
    bench.sims[0].keys(&["mine".to_owned(), "theirs".to_owned()]);
    let body = chat(false).to_string();
    for (key, status) in [("mine", 429), ("theirs", 200), ("mine", 429)] {
        let answer = bench
            .post("/v1/chat/completions", &[("api-key", key)], &body)
            .await?;
        assert_eq!(answer.status, status, "{key}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn every_form_of_a_wait_ends_when_it_says() -> Result<()> {
    for header in [
        ("retry-after-ms", "400"),
        ("x-ms-retry-after-ms", "400"),
        ("retry-after", "0.4"),
    ] {
        let bench = Bench::start(2, Vec::new())?;
        let once = Fault {
            times: Some(1),
            ..answers(429, "429", Some(header))
        };
        set(&bench.sims[0], &once)?;
        let began = Instant::now();
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
        let back = async || {
            assert_eq!(bench.ask(&chat(false)).await?.status, 200);
            ensure!(bench.sims[0].requests().len() > 1, "it is not asked again");
            Ok(())
        };
        eventually_ok("it is asked again", LIMIT, back).await?;
        let after = began.elapsed();
        assert!(after >= Duration::from_millis(400), "{header:?}: {after:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_endpoint_is_found_behind_throttled_ones() -> Result<()> {
    for healthy in 0..16 {
        let bench = one_tier(16)?;
        for (index, sim) in bench.sims.iter().enumerate() {
            if index != healthy {
                set(sim, &throttles(LONG))?;
            }
        }
        assert_eq!(bench.ask(&chat(false)).await?.status, 200, "{healthy}");
    }
    Ok(())
}

#[tokio::test]
async fn a_lower_tier_gets_its_try_whatever_the_first_one_used_up() -> Result<()> {
    let sims = sims(6, &tests_foundry::Config::default())?;
    let mut contents = contents(&sims, Vec::new());
    for (index, target) in rule(&mut contents).targets.iter_mut().enumerate() {
        target.priority = u8::from(index == 5);
    }
    let bench = Bench::of(sims, contents)?;
    for sim in bench.sims.iter().take(5) {
        set(sim, &answers(500, "InternalServerError", None))?;
    }
    assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    let of_first = asked(&bench).iter().take(5).sum::<usize>();
    assert_eq!(of_first, 3, "attempts: 2");
    Ok(())
}

/// Two tiers, with a bound for the first event.
fn impatient(wait: Option<Duration>) -> Result<Bench> {
    let sims = sims(2, &tests_foundry::Config::default())?;
    let mut contents = contents(&sims, vec![minute(Unit::Tokens, 100_000)]);
    let rule = rule(&mut contents);
    rule.first_token_timeout = wait;
    rule.retry.on_timeout = true;
    Bench::of(sims, contents)
}

#[tokio::test]
async fn a_stream_without_an_event_is_tried_elsewhere_where_the_rule_bounds_the_wait() -> Result<()>
{
    let silent = Fault {
        cut_after_chunks: Some(0),
        hang: true,
        ..Fault::default()
    };
    let cut = Fault {
        cut_after_chunks: Some(0),
        ..Fault::default()
    };
    for fault in [silent, cut.clone()] {
        let bench = impatient(Some(Duration::from_millis(300)))?;
        set(&bench.sims[0], &fault)?;
        let answer = bench.ask(&chat(true)).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().ends_with("data: [DONE]\n\n"));
        assert_eq!(asked(&bench), [1, 1]);
        // The one that was given up costs the consumer nothing.
        assert!(!bench.counted("unconfirmed_tokens_total").is_empty());
    }
    // With the last endpoint the client learns why.
    let bench = impatient(Some(Duration::from_millis(300)))?;
    for sim in &bench.sims {
        set(sim, &cut)?;
    }
    let answer = bench.ask(&chat(true)).await?;
    assert_eq!((answer.status, &*code(&answer)?), (502, "upstream_failed"));
    // Without a bound the head goes on at once, and the stream is cut.
    let bench = impatient(None)?;
    set(&bench.sims[0], &cut)?;
    let answer = bench.ask(&chat(true)).await;
    assert!(answer.is_err(), "it is cut");
    assert_eq!(asked(&bench), [1, 0]);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_goes_out_after_five_failures_in_a_row_and_is_back_in_time() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    set(&bench.sims[0], &answers(500, "InternalServerError", None))?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    }
    let [failing, healthy] = asked(&bench)[..] else {
        panic!("two");
    };
    // Five, and one probe a second at most.
    assert!((5..=8).contains(&failing), "{failing} of {healthy}");
    bench.sims[0].faults(Vec::new())?;
    let recovered = Instant::now();
    let whole = async || {
        let before = asked(&bench);
        for _ in 0..20 {
            assert_eq!(bench.ask(&chat(false)).await?.status, 200);
        }
        let after = asked(&bench);
        ensure!(after[0] - before[0] == 20, "{before:?} to {after:?}");
        Ok(())
    };
    eventually_ok("it serves in full again", LIMIT, whole).await?;
    println!("whole again after {:?}", recovered.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_a_client_does_wrong_tells_nothing_of_the_endpoint() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    for (status, word) in [
        (400, "content_filter"),
        (400, "BadRequest"),
        (404, "404"),
        (413, "TooLarge"),
        (422, "invalid"),
        (403, "Blocked by the firewall"),
    ] {
        set(&bench.sims[0], &answers(status, word, None))?;
        for _ in 0..10 {
            assert_eq!(bench.ask(&chat(false)).await?.status, status);
        }
    }
    assert_eq!(asked(&bench), [60, 0]);
    Ok(())
}

#[tokio::test]
async fn what_a_person_must_mend_is_no_fault_of_the_client() -> Result<()> {
    for (status, word, alone) in [
        (401, "401", (502, "backend_credential_refused")),
        (403, "PermissionDenied", (502, "backend_credential_refused")),
        (404, "DeploymentNotFound", (404, "model_not_found")),
        (410, "ModelRetired", (404, "model_not_found")),
    ] {
        let bench = Bench::start(2, Vec::new())?;
        set(&bench.sims[0], &answers(status, word, None))?;
        for _ in 0..10 {
            assert_eq!(bench.ask(&chat(false)).await?.status, 200, "{word}");
        }
        assert_eq!(asked(&bench), [3, 10], "{word}");
        let single = Bench::start(1, Vec::new())?;
        set(&single.sims[0], &answers(status, word, None))?;
        for number in 0..5 {
            let answer = single.ask(&chat(false)).await?;
            let seen = (answer.status, &*code(&answer)?);
            // Its own words, as long as they may be of something else that the request names.
            let of_backend = number < 3 && status == 404;
            assert_eq!(seen, if of_backend { (404, word) } else { alone }, "{word}");
        }
        assert_eq!(asked(&single), [3], "{word}");
    }
    Ok(())
}

#[tokio::test]
async fn another_credential_brings_an_endpoint_back_at_once() -> Result<()> {
    let sims = sims(1, &tests_foundry::Config::default())?;
    let with_key = |key: &str| {
        let mut contents = contents(&sims, Vec::new());
        for backend in &mut contents.backends {
            Arc::make_mut(backend).auth = BackendAuth::ApiKey(Secret::new(key));
        }
        contents
    };
    let (wrong, right) = (with_key("wrong"), with_key("sim-key"));
    let bench = Bench::of(sims, wrong)?;
    for _ in 0..2 {
        assert_eq!(bench.ask(&chat(false)).await?.status, 502);
    }
    let table = proxy_core::table::Table::new(right);
    bench.gateway.publish(Arc::new(table));
    assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    Ok(())
}

/// What each endpoint is in, and the answer that follows: in any order.
#[tokio::test]
async fn the_answer_does_not_depend_on_the_order_of_failures() -> Result<()> {
    let busy = || throttles("7");
    let short = || throttles("3");
    let broken = || answers(500, "InternalServerError", None);
    let gone = || answers(404, "DeploymentNotFound", None);
    let refused = || answers(401, "401", None);
    for (faults, expected) in [
        ([busy(), short(), broken()], (429, "backend_throttled")),
        ([busy(), gone(), refused()], (429, "backend_throttled")),
        ([broken(), gone(), refused()], (503, "no_backend")),
        ([broken(), broken(), broken()], (500, "InternalServerError")),
        ([gone(), gone(), gone()], (404, "DeploymentNotFound")),
        (
            [gone(), refused(), gone()],
            (502, "backend_credential_refused"),
        ),
    ] {
        for order in ORDERS {
            let bench = Bench::start(3, Vec::new())?;
            for (sim, fault) in bench.sims.iter().zip(order) {
                set(sim, &faults[fault])?;
            }
            // Also when all of it is known.
            for round in 0..2 {
                let answer = bench.ask(&chat(false)).await?;
                let seen = (answer.status, &*code(&answer)?);
                assert_eq!(seen, expected, "round {round}");
                if expected.0 == 429 {
                    let wait = wait_ms(&answer).expect("it names a wait");
                    let most = if faults[1] == short() { 3_400 } else { 7_800 };
                    assert!((1..=most).contains(&wait), "{wait}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_first_wave_of_failures_loses_no_call() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    set(&bench.sims[0], &answers(503, "ServiceUnavailable", None))?;
    let body = chat(false);
    let all = join_all((0..60).map(|_| bench.ask(&body))).await;
    for answer in all {
        assert_eq!(answer?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn the_sdks_own_retries_do_not_multiply_tries_at_what_fails() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    for sim in &bench.sims {
        set(sim, &answers(500, "InternalServerError", None))?;
    }
    let body = chat(false).to_string();
    let send = async |count: &str| {
        let headers = [("api-key", "ann-key"), ("x-stainless-retry-count", count)];
        bench.post("/v1/chat/completions", &headers, &body).await
    };
    // Until both are out.
    for _ in 0..5 {
        assert_eq!(send("0").await?.status, 500);
    }
    let before: usize = asked(&bench).iter().sum();
    let mut again = 0;
    for _ in 0..20 {
        assert_eq!(send("0").await?.status, 500, "a first try may be answered");
        for count in ["1", "2"] {
            let answer = send(count).await?;
            again += usize::from(answer.status == 503);
            if answer.status == 503 {
                assert_eq!(code(&answer)?, "no_backend");
                assert!(wait_ms(&answer).is_some_and(|wait| wait >= 1_000));
            }
        }
    }
    let tries = asked(&bench).iter().sum::<usize>() - before;
    println!("{tries} tries of 20 calls that were each sent three times");
    assert!(tries <= 24 && again >= 36, "{tries} tries, {again} spared");
    Ok(())
}

#[tokio::test]
async fn no_retry_is_wanted_where_the_rule_says_so() -> Result<()> {
    let sims = sims(2, &tests_foundry::Config::default())?;
    let mut contents = contents(&sims, Vec::new());
    rule(&mut contents).retry.on_not_there = false;
    let bench = Bench::of(sims, contents)?;
    set(&bench.sims[0], &answers(410, "ModelRetired", None))?;
    let first = bench.ask(&chat(false)).await?;
    assert_eq!((first.status, &*code(&first)?), (410, "ModelRetired"));
    // But it is known after three of them.
    for status in [410, 410, 200] {
        assert_eq!(bench.ask(&chat(false)).await?.status, status);
    }
    Ok(())
}

#[tokio::test]
async fn a_cache_key_goes_to_no_model_that_refuses_it() -> Result<()> {
    const DEEPSEEK: &str = "DeepSeek-V4";
    let config = tests_foundry::Config {
        deployments: ["gpt-4o-mini", DEEPSEEK]
            .map(|name| name.parse())
            .into_iter()
            .collect::<Result<_, _>>()?,
        ..tests_foundry::Config::default()
    };
    let deepseek = |contents: &mut Contents, index: usize| {
        let declared = deployment(DEEPSEEK, DEEPSEEK);
        let backend = contents.backends.get_mut(index).expect("a backend");
        Arc::make_mut(backend).deployments = vec![declared];
        rule(contents).targets[index].deployment = Some(DEEPSEEK.into());
    };
    let mut keyed = chat(false);
    keyed["prompt_cache_key"] = json!("session");

    let sims_of_two = sims(2, &config)?;
    let mut of_two = contents(&sims_of_two, Vec::new());
    deepseek(&mut of_two, 1);
    let bench = Bench::of(sims_of_two, of_two)?;
    set(&bench.sims[0], &answers(503, "ServiceUnavailable", None))?;
    let answer = bench.ask(&keyed).await?;
    assert_eq!(
        (answer.status, &*code(&answer)?),
        (503, "ServiceUnavailable")
    );
    assert_eq!(asked(&bench), [1, 0], "DeepSeek is not asked");
    assert_eq!(
        bench.ask(&chat(false)).await?.status,
        200,
        "and is without the key"
    );

    // Where no model takes it, the client gets the answer that it would get without a gateway.
    let lone = sims(1, &config)?;
    let mut of_one = contents(&lone, Vec::new());
    deepseek(&mut of_one, 0);
    let answer = Bench::of(lone, of_one)?.ask(&keyed).await?;
    assert_eq!(answer.status, 400);
    let body: Value = answer.json()?;
    let message = body.pointer("/error/message").and_then(Value::as_str);
    assert!(
        message.is_some_and(|text| text.contains("prompt_cache_key")),
        "{body}"
    );
    Ok(())
}
