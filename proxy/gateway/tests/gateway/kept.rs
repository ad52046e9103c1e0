//! What backends keep: responses and conversations, of their makers, at their resources, on every replica.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::ModelPattern;
use proxy_core::quota::{Limit, Unit};
use proxy_core::route::Match;
use proxy_core::table::{Backend, BackendAuth, Contents};
use proxy_core::test_util::{deployment, key, object};
use proxy_gateway::StateKeys;
use serde_json::{Value, json};
use tests_foundry::{Config, Sim};
use tests_support::http::{self, Answer};

use crate::bench::{Bench, at, minute, routed, sims};

pub(crate) const ANN: (&str, &str) = ("api-key", "ann-key");
pub(crate) const BOB: (&str, &str) = ("api-key", "bob-key");
const KEYS: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn contents(sims: &[Sim]) -> Contents {
    limited(sims, minute(Unit::Tokens, 1_000_000))
}

/// The resources share their load; `ann` and `bob` may both call.
pub(crate) fn limited(sims: &[Sim], limit: Limit) -> Contents {
    let backends = sims.iter().map(|sim| Backend {
        deployments: vec![deployment("gpt-5", "gpt-5")],
        ..at(&sim.url())
    });
    let mut contents = routed(backends.collect(), vec![limit]);
    for route in &mut contents.routes {
        let route = Arc::make_mut(route);
        route.authentication.keys.push(object("bob"));
        for rule in &mut route.rules {
            for target in &mut Arc::make_mut(rule).targets {
                target.priority = 0;
                target.deployment = None;
            }
        }
    }
    let bob = Key {
        digest: KeyDigest::of("bob-key"),
        ..key("bob")
    };
    contents.keys.push(bob.into());
    contents
}

/// A replica in front of these resources; all of them have one key of the tags.
pub(crate) fn replica(sims: &[Sim]) -> Result<Bench> {
    let keys = StateKeys::read(KEYS)?;
    Bench::serve(Vec::new(), contents(sims), |config| {
        config.state_keys = keys;
    })
}

pub(crate) fn config() -> Result<Config> {
    Ok(Config {
        deployments: vec!["gpt-5,reasoning=3".parse()?],
        background_time: Duration::from_millis(1_500),
        ..Config::default()
    })
}

pub(crate) async fn ask(
    bench: &Bench,
    caller: (&str, &str),
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Answer> {
    let url = format!("{}{path}", bench.url);
    if body.is_null() {
        return http::request(method.parse()?, &url, &[caller], "").await;
    }
    let headers = [("content-type", "application/json"), caller];
    http::request(method.parse()?, &url, &headers, body.to_string()).await
}

pub(crate) async fn made(bench: &Bench, path: &str, body: &Value) -> Result<Value> {
    let answer = ask(bench, ANN, "POST", path, body).await?;
    ensure!(answer.status == 200, "{path}: {}", answer.text());
    answer.json()
}

pub(crate) fn id(made: &Value) -> Result<&str> {
    made["id"].as_str().context("an id")
}

pub(crate) const NONE: Value = Value::Null;

#[tokio::test]
async fn a_response_comes_back_to_its_maker_on_every_replica() -> Result<()> {
    let sims = sims(3, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for round in 0..8 {
        let first = made(
            &one,
            "/v1/responses",
            &json!({"model": "gpt-5", "input": "First"}),
        )
        .await?;
        let first_id = id(&first)?.to_owned();
        let path = format!("/openai/v1/responses/{first_id}");
        let got = ask(&other, ANN, "GET", &path, &NONE).await?;
        assert_eq!(got.status, 200, "round {round}: {}", got.text());
        assert_eq!(got.json::<Value>()?["id"], first["id"]);
        let dated = format!("/openai/responses/{first_id}?api-version=2025-04-01-preview");
        assert_eq!(ask(&other, ANN, "GET", &dated, &NONE).await?.status, 200);
        let items = ask(
            &other,
            ANN,
            "GET",
            &format!("{path}/input_items?limit=1"),
            &NONE,
        )
        .await?;
        assert_eq!(items.status, 200, "{}", items.text());
        let next = json!({"model": "gpt-5", "input": "More", "previous_response_id": first_id});
        let next = made(&other, "/v1/responses", &next).await?;
        assert_eq!(next["previous_response_id"], first["id"]);
        assert_ne!(next["id"], first["id"]);
        let gone = ask(&one, ANN, "DELETE", &path, &NONE).await?;
        assert_eq!(gone.json::<Value>()?["id"], first["id"], "{}", gone.text());
        let again = ask(&one, ANN, "GET", &path, &NONE).await?;
        assert_eq!(again.status, 404, "the backend's own 404");
    }
    Ok(())
}

#[tokio::test]
async fn it_is_not_there_for_anyone_else() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let response = made(
        &bench,
        "/v1/responses",
        &json!({"model": "gpt-5", "input": "Mine"}),
    )
    .await?;
    let conversation = made(&bench, "/v1/conversations", &json!({})).await?;
    let (response, conversation) = (id(&response)?, id(&conversation)?);
    let plain = &response[..response.len() - 16];
    let mut tries = Vec::new();
    for id in [response, plain, "resp_1", &response[1..]] {
        let path = format!("/v1/responses/{id}");
        tries.extend([
            ("GET", path.clone(), NONE),
            ("DELETE", path.clone(), NONE),
            ("POST", format!("{path}/cancel"), NONE),
            ("GET", format!("{path}/input_items"), NONE),
            (
                "GET",
                format!("/api/projects/p/openai/v1/responses/{id}"),
                NONE,
            ),
        ]);
    }
    let path = format!("/v1/conversations/{conversation}");
    tries.extend([
        ("GET", path.clone(), NONE),
        ("POST", path.clone(), json!({"metadata": {}})),
        ("DELETE", path.clone(), NONE),
        ("GET", format!("{path}/items"), NONE),
        ("POST", format!("{path}/items"), json!({"items": []})),
        ("GET", format!("{path}/items/msg_1"), NONE),
        ("DELETE", format!("{path}/items/msg_1"), NONE),
        (
            "POST",
            "/v1/responses".to_owned(),
            json!({"model": "gpt-5", "input": "x", "conversation": conversation}),
        ),
    ]);
    let before = sims[0].requests().len();
    for (method, path, body) in tries {
        let answer = ask(&bench, BOB, method, &path, &body).await?;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        let error = answer.json::<Value>()?;
        assert_eq!(error.pointer("/error/code"), Some(&json!("not_kept")));
    }
    let next = json!({"model": "gpt-5", "input": "x", "previous_response_id": response});
    let answer = ask(&bench, BOB, "POST", "/v1/responses", &next).await?;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.json::<Value>()?;
    assert_eq!(
        error.pointer("/error/code"),
        Some(&json!("previous_response_not_found"))
    );
    assert_eq!(sims[0].requests().len(), before, "a backend was asked");
    Ok(())
}

#[tokio::test]
async fn a_conversation_keeps_its_turns_at_one_resource() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    for form in [
        "/v1",
        "/openai/v1",
        "/api/projects/p/openai/v1",
        "/api/projects/p/openai",
    ] {
        let conversation = made(
            &one,
            &format!("{form}/conversations"),
            &json!({"metadata": {"a": "b"}}),
        )
        .await?;
        let path = format!("{form}/conversations/{}", id(&conversation)?);
        for turn in [json!(conversation["id"]), json!({"id": conversation["id"]})] {
            let body = json!({"model": "gpt-5", "input": "Hello", "conversation": turn});
            let response = made(&other, &format!("{form}/responses"), &body).await?;
            assert_eq!(response["conversation"]["id"], conversation["id"]);
        }
        let items = ask(
            &one,
            ANN,
            "GET",
            &format!("{path}/items?limit=10&order=asc"),
            &NONE,
        )
        .await?;
        let items = items.json::<Value>()?;
        let list = items["data"].as_array().context("a list")?;
        assert_eq!(
            list.iter().filter(|one| one["role"] == "user").count(),
            2,
            "{items}"
        );
        let item = format!("{path}/items/{}", id(&list[0])?);
        assert_eq!(ask(&other, ANN, "GET", &item, &NONE).await?.status, 200);
        let left = ask(&other, ANN, "DELETE", &item, &NONE)
            .await?
            .json::<Value>()?;
        assert_eq!(left["id"], conversation["id"]);
        let gone = ask(&one, ANN, "DELETE", &path, &NONE)
            .await?
            .json::<Value>()?;
        assert_eq!(gone["id"], conversation["id"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_continues_from_two_resources_is_refused() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let mut refused = 0;
    for _ in 0..12 {
        let response = made(
            &bench,
            "/v1/responses",
            &json!({"model": "gpt-5", "input": "a"}),
        )
        .await?;
        let conversation = made(&bench, "/v1/conversations", &json!({})).await?;
        let body = json!({
            "model": "gpt-5", "input": "x",
            "previous_response_id": response["id"], "conversation": conversation["id"],
        });
        let answer = ask(&bench, ANN, "POST", "/v1/responses", &body).await?;
        refused += usize::from(answer.status == 400 && answer.text().contains("different Foundry"));
    }
    assert!(refused > 0, "no pair was of two resources");
    Ok(())
}

#[tokio::test]
async fn a_drained_resource_still_has_what_it_keeps() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let response = made(
        &bench,
        "/v1/responses",
        &json!({"model": "gpt-5", "input": "a"}),
    )
    .await?;
    let mut contents = contents(&sims);
    for route in &mut contents.routes {
        for rule in &mut Arc::make_mut(route).rules {
            for target in &mut Arc::make_mut(rule).targets {
                target.weight = 0;
            }
        }
    }
    bench
        .gateway
        .publish(Arc::new(proxy_core::table::Table::new(contents)));
    let path = format!("/v1/responses/{}", id(&response)?);
    assert_eq!(ask(&bench, ANN, "GET", &path, &NONE).await?.status, 200);
    let next = json!({"model": "gpt-5", "input": "b", "previous_response_id": response["id"]});
    assert_eq!(
        ask(&bench, ANN, "POST", "/v1/responses", &next)
            .await?
            .status,
        200
    );
    let new = json!({"model": "gpt-5", "input": "b"});
    assert_eq!(
        ask(&bench, ANN, "POST", "/v1/responses", &new)
            .await?
            .status,
        503
    );
    Ok(())
}

#[tokio::test]
async fn a_stream_has_the_ids_of_a_whole_answer() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let bench = replica(&sims)?;
    let body = json!({"model": "gpt-5", "input": "a", "stream": true});
    let answer = ask(&bench, ANN, "POST", "/v1/responses", &body).await?;
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let ids: Vec<_> = events
        .iter()
        .filter_map(|one| one.pointer("/response/id")?.as_str())
        .collect();
    ensure!(ids.len() >= 3, "{text}");
    assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
    let path = format!("/v1/responses/{}", ids[0]);
    assert_eq!(ask(&bench, ANN, "GET", &path, &NONE).await?.status, 200);
    Ok(())
}

/// The tokens that the gateway has counted for everybody, as input and output.
pub(crate) fn counted(bench: &Bench) -> u64 {
    let lines = bench.counted("tokens_total").into_iter();
    let lines =
        lines.filter(|line| line.contains("type=\"input\"") || line.contains("type=\"output\""));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

async fn billed(bench: &Bench, sim: &Sim) -> Result<()> {
    bench.quiet().await?;
    let billed = sim.billed();
    let billed = billed.deployments.get("gpt-5").context("a bill")?;
    let expect = billed.prompt_tokens + billed.completion_tokens;
    ensure!(expect > 0, "nothing was billed");
    assert_eq!(counted(bench), expect);
    assert_eq!(settled(bench), ["measured 1"]);
    Ok(())
}

/// How what may be billed was settled, and how often. Questions are free, and released.
fn settled(bench: &Bench) -> Vec<String> {
    let lines = bench.counted("settlements_total").into_iter();
    let lines = lines.map(|line| {
        line.replace("settlements_total{kind=\"", "")
            .replace("\"}", "")
    });
    lines.filter(|line| !line.starts_with("released")).collect()
}

#[tokio::test]
async fn a_response_in_the_background_settles_once_if_nobody_asks() -> Result<()> {
    let sims = sims(1, &config()?)?;
    for stream in [false, true] {
        let bench = replica(&sims[..1])?;
        let before = sims[0]
            .billed()
            .deployments
            .get("gpt-5")
            .map_or(0, |one| one.completion_tokens);
        let body = json!({"model": "gpt-5", "input": "a", "background": true, "stream": stream});
        let url = format!("{}/v1/responses", bench.url);
        let mut answer = http::stream_json(&url, &[ANN], body.to_string()).await?;
        assert_eq!(answer.status, 200);
        if stream {
            answer.next().await?.context("an event")?;
            drop(answer);
        } else {
            let whole = answer.whole().await?;
            assert_eq!(
                whole.json::<Value>()?["status"],
                "queued",
                "{}",
                whole.text()
            );
            assert_eq!(counted(&bench), 0, "it has only begun");
        }
        bench.quiet().await?;
        let billed = sims[0].billed();
        assert!(billed.deployments["gpt-5"].completion_tokens > before);
        assert_eq!(settled(&bench), ["measured 1"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_response_in_the_background_settles_once_however_often_it_is_polled() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let body = json!({"model": "gpt-5", "input": "Some words", "background": true});
    let begun = made(&bench, "/v1/responses", &body).await?;
    let path = format!("/v1/responses/{}", id(&begun)?);
    let mut polled = 0;
    loop {
        let got = ask(&bench, ANN, "GET", &path, &NONE)
            .await?
            .json::<Value>()?;
        polled += 1;
        if got["status"] == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(polled > 3, "it was too fast");
    billed(&bench, &sims[0]).await
}

#[tokio::test]
async fn a_cancelled_response_settles_by_what_it_came_to() -> Result<()> {
    let sims = sims(1, &config()?)?;
    let bench = replica(&sims)?;
    let body = json!({"model": "gpt-5", "input": "Some words", "background": true});
    let begun = made(&bench, "/v1/responses", &body).await?;
    let path = format!("/v1/responses/{}/cancel", id(&begun)?);
    let answer = ask(&bench, ANN, "POST", &path, &NONE).await?;
    assert_eq!(
        answer.json::<Value>()?["status"],
        "cancelled",
        "{}",
        answer.text()
    );
    bench.quiet().await?;
    assert_eq!(settled(&bench), ["estimated 1"]);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_left_is_taken_up_where_it_was() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let (one, other) = (replica(&sims)?, replica(&sims)?);
    let body = json!({"model": "gpt-5", "input": "a", "background": true, "stream": true});
    let url = format!("{}/v1/responses", one.url);
    let mut answer = http::stream_json(&url, &[ANN], body.to_string()).await?;
    let first = answer.next().await?.context("an event")?;
    drop(answer);
    let first = String::from_utf8(first.bytes.to_vec())?;
    let data = first.lines().find_map(|line| line.strip_prefix("data: "));
    let event: Value = serde_json::from_str(data.context("data")?)?;
    let id = event.pointer("/response/id").and_then(Value::as_str);
    let id = id.context("an id")?;
    let path = format!("/v1/responses/{id}?stream=true&starting_after=1");
    let text = ask(&other, ANN, "GET", &path, &NONE).await?.text();
    ensure!(
        text.contains("response.completed") && text.contains(id),
        "{text}"
    );
    ensure!(!text.contains("response.created"), "{text}");
    one.quiet().await?;
    other.quiet().await?;
    assert_eq!(settled(&one), ["measured 1"]);
    assert_eq!(settled(&other), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_stream_that_continues_something_costs_what_it_read_though_its_client_left() -> Result<()>
{
    let sims = sims(1, &config()?)?;
    let long = json!({"model": "gpt-5", "input": "word ".repeat(5_000)});
    for kept in ["previous_response_id", "conversation"] {
        let maker = replica(&sims)?;
        let conversation = made(&maker, "/v1/conversations", &json!({})).await?;
        let mut first = long.clone();
        if kept == "conversation" {
            first[kept] = conversation["id"].clone();
        }
        let first = made(&maker, "/v1/responses", &first).await?;
        let bench = replica(&sims)?;
        let continued = if kept == "conversation" {
            &conversation["id"]
        } else {
            &first["id"]
        };
        let body = json!({"model": "gpt-5", "input": "Go on", "stream": true, kept: continued});
        let url = format!("{}/v1/responses", bench.url);
        let mut answer = http::stream_json(&url, &[ANN], body.to_string()).await?;
        assert_eq!(answer.status, 200);
        answer.next().await?.context("an event")?;
        drop(answer);
        bench.quiet().await?;
        assert_eq!(settled(&bench), ["measured 1"], "{kept}");
        assert!(counted(&bench) > 5_000, "{kept}: {}", counted(&bench));
    }
    Ok(())
}

/// A route for callers with a credential of the resources, with a rule for each of these models and resources.
pub(crate) fn passed(sims: &[Sim], models: &[&str]) -> Contents {
    let mut contents = contents(sims);
    for backend in &mut contents.backends {
        Arc::make_mut(backend).auth = BackendAuth::PassThrough;
    }
    for route in &mut contents.routes {
        let route = Arc::make_mut(route);
        route.authentication.pass_through = true;
        route.authentication.keys.clear();
        let rules = route.rules.clone();
        let first = rules.first().expect("a rule");
        let rule_of = |(place, model): (usize, &&str)| {
            let mut rule = (**first).clone();
            rule.name = format!("rule-{place}").into();
            rule.targets = first.targets.iter().skip(place).take(1).cloned().collect();
            rule.matches = vec![Match {
                models: vec![ModelPattern::Exact((*model).into())],
                ..Match::default()
            }];
            Arc::new(rule)
        };
        route.rules = models.iter().enumerate().map(rule_of).collect();
    }
    for (backend, model) in contents.backends.iter_mut().zip(models) {
        Arc::make_mut(backend).deployments = vec![deployment("gpt-5", model)];
    }
    contents
}

#[tokio::test]
async fn who_shows_a_credential_of_the_resource_has_its_own_ids() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let shown = ("api-key", "sim-key");
    let bench = Bench::serve(Vec::new(), passed(&sims[..1], &["gpt-5"]), |_config| ())?;
    let body = json!({"model": "gpt-5", "input": "a"});
    let url = format!("{}/openai/v1/responses", sims[0].url());
    let direct = http::post_json(&url, &[shown], body.to_string()).await?;
    let direct = direct.json::<Value>()?;
    let path = format!("/v1/responses/{}", id(&direct)?);
    let got = ask(&bench, shown, "GET", &path, &NONE).await?;
    assert_eq!(got.status, 200, "made without the gateway: {}", got.text());
    let made = ask(&bench, shown, "POST", "/v1/responses", &body).await?;
    assert_eq!(
        id(&made.json::<Value>()?)?.len(),
        id(&direct)?.len(),
        "no tag"
    );
    Ok(())
}

#[tokio::test]
async fn with_rules_of_two_resources_the_id_says_which() -> Result<()> {
    let sims = sims(2, &config()?)?;
    let shown = ("api-key", "sim-key");
    let bench = Bench::serve(
        Vec::new(),
        passed(&sims, &["gpt-5", "gpt-5-mini"]),
        |_config| (),
    )?;
    for model in ["gpt-5", "gpt-5-mini"] {
        let body = json!({"model": model, "input": "a"});
        let made = ask(&bench, shown, "POST", "/v1/responses", &body).await?;
        ensure!(made.status == 200, "{model}: {}", made.text());
        let made = made.json::<Value>()?;
        let got = ask(
            &bench,
            shown,
            "GET",
            &format!("/v1/responses/{}", id(&made)?),
            &NONE,
        )
        .await?;
        assert_eq!(got.status, 200, "{model}: {}", got.text());
        assert_eq!(got.json::<Value>()?["id"], made["id"]);
    }
    Ok(())
}
