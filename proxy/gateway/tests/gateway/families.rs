//! Every family of APIs by its own meter: what a simulated Foundry billed is what was counted.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use proxy_core::quota::Unit;
use proxy_core::table::{Backend, Contents};
use proxy_core::test_util::deployment;
use serde_json::{Value, json};
use tests_foundry::{Config, Fault, Sim};
use tokio::io::AsyncWriteExt;

use crate::bench::{Bench, at, minute, routed};
use crate::raw::{Raw, request};

const KEY: &[(&str, &str)] = &[("api-key", "ann-key")];
/// So wide that nothing is refused.
const WIDE: u64 = 100_000_000;

/// A deployment of each kind in front of one rule, which leaves the choice to the model's name.
fn contents(sim: &Sim, limit: Option<u64>) -> Contents {
    let backend = Backend {
        deployments: vec![
            deployment("gpt-5", "gpt-5"),
            deployment("gpt-35-turbo-instruct", "gpt-35-turbo-instruct"),
            deployment("text-embedding-3-large", "text-embedding-3-large"),
            deployment("gpt-image-2", "gpt-image-2"),
            deployment("claude-sonnet-5-5", "claude-sonnet-5-5"),
            deployment("gpt-4o-mini-tts", "gpt-4o-mini-tts"),
            deployment("omni-moderation-latest", "omni-moderation-latest"),
        ],
        ..at(&sim.url())
    };
    let limit = limit.map(|amount| minute(Unit::Tokens, amount));
    let mut contents = routed(vec![backend], limit.into_iter().collect());
    for rule in rules(&mut contents) {
        for target in &mut rule.targets {
            target.deployment = None;
        }
    }
    contents
}

/// Behind a limit in tokens, if there is one.
fn serving(limit: Option<u64>, allows_unmetered: bool) -> Result<Bench> {
    let sim = sim()?;
    let mut contents = contents(&sim, limit);
    for rule in rules(&mut contents) {
        rule.allows_unmetered = allows_unmetered;
    }
    Bench::of(vec![sim], contents)
}

fn rules(contents: &mut Contents) -> impl Iterator<Item = &mut proxy_core::table::Rule> {
    let routes = contents.routes.iter_mut();
    routes.flat_map(|route| Arc::make_mut(route).rules.iter_mut().map(Arc::make_mut))
}

/// With classes of tokens in every answer, where the API has them.
fn sim() -> Result<Sim> {
    let deployments = [
        "gpt-5,cached=2,reasoning=3",
        "gpt-35-turbo-instruct",
        "text-embedding-3-large",
        "gpt-image-2",
        "claude-sonnet-5-5,cached=2,cache_write=1,reasoning=3",
        "gpt-4o-mini-tts",
        "omni-moderation-latest",
    ];
    let config = Config {
        deployments: deployments
            .map(str::parse)
            .into_iter()
            .collect::<Result<_, _>>()?,
        ..Config::default()
    };
    Ok(Sim::start(&config)?)
}

/// Each family as its clients call it: path and body, and whether it streams too.
fn calls() -> Vec<(&'static str, Value, bool)> {
    let messages = json!([{"role": "user", "content": "Say something nice"}]);
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "gpt-5", "messages": messages}),
            true,
        ),
        (
            "/openai/v1/completions",
            json!({"model": "gpt-35-turbo-instruct", "prompt": ["Say", "something"], "n": 2}),
            true,
        ),
        (
            "/openai/deployments/text-embedding-3-large/embeddings?api-version=2024-10-21",
            json!({"input": ["one two", "three"]}),
            false,
        ),
        (
            "/v1/images/generations",
            json!({"model": "gpt-image-2", "prompt": "a vessel", "quality": "low"}),
            true,
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-5", "input": "Say something"}),
            true,
        ),
        (
            "/openai/responses?api-version=2025-04-01-preview",
            json!({"model": "gpt-5", "input": messages, "instructions": "Be brief"}),
            true,
        ),
        (
            "/anthropic/v1/messages",
            json!({"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": messages}),
            true,
        ),
        (
            "/v1/messages",
            json!({"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": messages}),
            true,
        ),
    ]
}

/// Sums of the tokens that the gateway counted, by class.
fn counted(bench: &Bench, class: &str) -> u64 {
    let lines = bench.counted("tokens_total").into_iter();
    let of_class = lines.filter(|line| line.contains(&format!("type=\"{class}\"")));
    of_class
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn what_each_family_bills_is_what_is_counted() -> Result<()> {
    for (path, body, streams) in calls() {
        for stream in [false, true]
            .into_iter()
            .filter(|stream| streams || !stream)
        {
            let bench = serving(Some(WIDE), false)?;
            let mut body = body.clone();
            if stream {
                body["stream"] = true.into();
            }
            let mut headers = KEY.to_vec();
            headers.push(("anthropic-version", "2023-06-01"));
            let answer = bench.post(path, &headers, &body.to_string()).await?;
            ensure!(
                answer.status == 200,
                "{path} {}: {}",
                answer.status,
                answer.text()
            );
            bench.quiet().await?;
            let billed = bench.sims[0].billed();
            let (_, billed) = billed
                .deployments
                .iter()
                .next()
                .context("nothing was billed")?;
            let is = |class| counted(&bench, class);
            let at = format!("{path}, stream: {stream}");
            let input = billed.prompt_tokens;
            assert_eq!(is("input"), input, "{at}");
            assert_eq!(is("output"), billed.completion_tokens, "{at}");
            assert_eq!(is("cached_input"), billed.cached_tokens, "{at}");
            assert_eq!(is("reasoning"), billed.reasoning_tokens, "{at}");
            assert_eq!(
                bench.counted("settlements_total"),
                ["settlements_total{kind=\"measured\"} 1"],
                "{at}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_spent_in_one_api_is_spent_in_all() -> Result<()> {
    let bench = serving(Some(200), false)?;
    let body = json!({"model": "gpt-5", "input": "Say something", "max_output_tokens": 150});
    let answer = bench.post("/v1/responses", KEY, &body.to_string()).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    bench.quiet().await?;
    for (path, mut body, _) in calls() {
        body["max_tokens"] = 190.into();
        body["max_output_tokens"] = 190.into();
        let answer = bench.post(path, KEY, &body.to_string()).await?;
        let embeds = path.contains("embeddings");
        let expect = if embeds { 200 } else { 429 };
        assert_eq!(answer.status, expect, "{path}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn what_is_free_drains_nothing() -> Result<()> {
    // The next token would be one too many.
    let bench = serving(Some(1), false)?;
    let messages = json!([{"role": "user", "content": "Count me"}]);
    for (path, body) in [
        (
            "/v1/messages/count_tokens",
            json!({"model": "claude-sonnet-5-5", "messages": messages}),
        ),
        (
            "/v1/responses/input_tokens",
            json!({"model": "gpt-5", "input": "Count me"}),
        ),
    ] {
        let mut headers = KEY.to_vec();
        headers.push(("anthropic-version", "2023-06-01"));
        for _ in 0..3 {
            let answer = bench.post(path, &headers, &body.to_string()).await?;
            ensure!(answer.status == 200, "{path}: {}", answer.text());
            ensure!(
                answer.json::<Value>()?["input_tokens"].is_u64(),
                "{}",
                answer.text()
            );
        }
    }
    bench.quiet().await?;
    assert_eq!(bench.counted("tokens_total"), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_judgement_is_free_and_needs_no_model() -> Result<()> {
    let bench = serving(Some(0), false)?;
    let named = json!({"model": "omni-moderation-latest", "input": "they kill"});
    let unnamed = json!({"input": ["they kill"]});
    let dated = "api-version=2024-10-21";
    for (path, body) in [
        ("/v1/moderations".to_owned(), &named),
        ("/openai/v1/moderations".to_owned(), &unnamed),
        (format!("/openai/moderations?{dated}"), &unnamed),
        (
            format!("/openai/deployments/omni-moderation-latest/moderations?{dated}"),
            &unnamed,
        ),
    ] {
        let answer = bench.post(&path, KEY, &body.to_string()).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        let flagged = answer.json::<Value>()?["results"][0]["flagged"].clone();
        assert_eq!(flagged, json!(true), "{path}");
    }
    bench.quiet().await?;
    assert_eq!(bench.counted("tokens_total"), Vec::<String>::new());
    let unknown = json!({"model": "none", "input": "they kill"}).to_string();
    let answer = bench.post("/v1/moderations", KEY, &unknown).await?;
    assert_eq!(answer.status, 404, "{}", answer.text());
    Ok(())
}

/// The table for backends that are pinned to these versions, each with a model of its own name.
fn pinned_to(versions: &[(&Sim, Option<&str>)]) -> Contents {
    let backends = versions.iter().map(|(sim, version)| Backend {
        deployments: vec![deployment("gpt-5", "gpt-5")],
        api_version: version.map(Into::into),
        ..at(&sim.url())
    });
    let mut contents = routed(backends.collect(), vec![minute(Unit::Tokens, WIDE)]);
    for rule in rules(&mut contents) {
        for target in &mut rule.targets {
            target.deployment = None;
        }
    }
    contents
}

fn asked(sim: &Sim) -> usize {
    sim.requests().len()
}

#[tokio::test]
async fn what_no_dated_api_has_goes_to_a_backend_without_a_date() -> Result<()> {
    let body = json!({"model": "gpt-5", "input": "one two three"}).to_string();
    let (pinned, plain) = (sim()?, sim()?);
    let contents = pinned_to(&[(&pinned, Some("2025-04-01-preview")), (&plain, None)]);
    let bench = Bench::of(vec![pinned, plain], contents)?;
    for path in ["/v1/responses/compact", "/openai/v1/responses/input_tokens"] {
        let answer = bench.post(path, KEY, &body).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
    }
    // The same rule serves what the first backend has there.
    let answer = bench.post("/v1/responses", KEY, &body).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    assert_eq!((asked(&bench.sims[0]), asked(&bench.sims[1])), (1, 2));

    let pinned = sim()?;
    let contents = pinned_to(&[(&pinned, Some("2025-04-01-preview"))]);
    let bench = Bench::of(vec![pinned], contents)?;
    let answer = bench.post("/v1/responses/compact", KEY, &body).await?;
    let error = answer.json::<Value>()?;
    let code = json!("unsupported_api_version");
    assert_eq!(
        (answer.status, error.pointer("/error/code")),
        (400, Some(&code))
    );
    for part in [
        "responses/compact",
        "2025-04-01-preview",
        "remove apiVersion",
    ] {
        ensure!(answer.text().contains(part), "{}", answer.text());
    }
    bench.quiet().await?;
    assert_eq!(asked(&bench.sims[0]), 0);
    let released = ["settlements_total{kind=\"released\"} 1"];
    assert_eq!(bench.counted("settlements_total"), released);
    Ok(())
}

/// Each operation in the last version that lacks it and in the first that has it, for clients of the undated API
/// and for those that name a version of their own.
#[tokio::test]
async fn a_backend_is_not_asked_for_what_came_after_its_version() -> Result<()> {
    let body = json!({"model": "gpt-5", "input": "one two three"}).to_string();
    let (old, new) = ("2025-02-01-preview", "2025-03-01-preview");
    let paths = [
        "/v1/responses",
        "/openai/v1/responses",
        "/openai/responses?api-version=2025-04-01-preview",
    ];
    let pinned = sim()?;
    let contents = pinned_to(&[(&pinned, Some(old))]);
    let bench = Bench::of(vec![pinned], contents)?;
    for path in paths {
        let answer = bench.post(path, KEY, &body).await?;
        let error = answer.json::<Value>()?;
        let code = json!("unsupported_api_version");
        let found = (answer.status, error.pointer("/error/code"));
        assert_eq!(found, (400, Some(&code)), "{path}");
        for part in [old, "no responses, which came with 2025-03-01-preview"] {
            ensure!(answer.text().contains(part), "{path}: {}", answer.text());
        }
    }
    let chat = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let answer = bench
        .post("/v1/chat/completions", KEY, &chat.to_string())
        .await?;
    assert_eq!((answer.status, asked(&bench.sims[0])), (200, 1));

    // Another backend of the rule has it.
    let (pinned, newer) = (sim()?, sim()?);
    let contents = pinned_to(&[(&pinned, Some(old)), (&newer, Some(new))]);
    let bench = Bench::of(vec![pinned, newer], contents)?;
    for path in paths {
        let answer = bench.post(path, KEY, &body).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
    }
    assert_eq!((asked(&bench.sims[0]), asked(&bench.sims[1])), (0, 3));

    // The version of a client is a wish: what it lacks is asked for without one.
    let plain = sim()?;
    let contents = pinned_to(&[(&plain, None)]);
    let bench = Bench::of(vec![plain], contents)?;
    let answer = bench
        .post("/openai/responses?api-version=2024-10-21", KEY, &body)
        .await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn speech_needs_leave_where_tokens_are_limited() -> Result<()> {
    let speech = json!({"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"});
    for (limit, allowed, status) in [
        (Some(WIDE), false, 403),
        (Some(WIDE), true, 200),
        (None, false, 200),
    ] {
        let bench = serving(limit, allowed)?;
        let answer = bench
            .post("/v1/audio/speech", KEY, &speech.to_string())
            .await?;
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 403 {
            let error = answer.json::<Value>()?;
            assert_eq!(error.pointer("/error/code"), Some(&json!("unmetered")));
        } else {
            ensure!(!answer.body.is_empty(), "no sound");
        }
        bench.quiet().await?;
        assert_eq!(bench.counted("tokens_total"), Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn speech_in_events_is_metered_by_the_last_one() -> Result<()> {
    let mut speech = json!({"model": "gpt-4o-mini-tts", "input": "Hello there", "voice": "alloy"});
    speech["stream_format"] = "sse".into();
    for allowed in [false, true] {
        let bench = serving(Some(WIDE), allowed)?;
        let answer = bench
            .post("/v1/audio/speech", KEY, &speech.to_string())
            .await?;
        ensure!(
            answer.text().contains("speech.audio.done"),
            "{}",
            answer.text()
        );
        bench.quiet().await?;
        assert_eq!(
            (counted(&bench, "input"), counted(&bench, "output")),
            (2, 20)
        );
        let measured = ["settlements_total{kind=\"measured\"} 1"];
        assert_eq!(bench.counted("settlements_total"), measured);
    }
    // One that breaks off has told nothing. Where the format is written oddly the answer's type still tells.
    for (fault, format) in [(Some(1), "sse"), (None, "\\u0073se")] {
        let bench = serving(Some(WIDE), true)?;
        bench.sims[0].faults(vec![Fault {
            cut_after_chunks: fault,
            ..Fault::default()
        }])?;
        let body = speech.to_string().replace("sse", format);
        drop(bench.post("/v1/audio/speech", KEY, &body).await);
        bench.quiet().await?;
        let how = if fault.is_some() {
            "estimated"
        } else {
            "measured"
        };
        let expect = format!("settlements_total{{kind=\"{how}\"}} 1");
        assert_eq!(bench.counted("settlements_total"), [expect]);
        assert!(counted(&bench, "output") >= 20, "as held, or as told");
    }
    Ok(())
}

#[tokio::test]
async fn sound_that_was_asked_for_as_events_settles_as_held() -> Result<()> {
    let raw = Raw::start(|mut stream| async move {
        request(&mut stream).await?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 2\r\n\r\nID";
        Ok(stream.write_all(answer).await?)
    })
    .await?;
    let bench = Bench::limited(at(&raw.url), vec![minute(Unit::Tokens, WIDE)])?;
    for (format, tokens) in [("sse", true), ("audio", false)] {
        let speech =
            json!({"model": "mini", "input": "Hi", "voice": "alloy", "stream_format": format});
        let answer = bench
            .post("/v1/audio/speech", KEY, &speech.to_string())
            .await?;
        assert_eq!(answer.status, if tokens { 200 } else { 403 });
        bench.quiet().await?;
        assert!(counted(&bench, "output") > 0);
    }
    Ok(())
}

#[tokio::test]
async fn each_dialect_lists_the_models_in_its_own_shape() -> Result<()> {
    let bench = serving(None, false)?;
    let version = ("anthropic-version", "2023-06-01");
    for (path, headers, is_anthropic) in [
        ("/v1/models", KEY.to_vec(), false),
        ("/v1/models?limit=1000", vec![KEY[0], version], true),
        ("/anthropic/v1/models", KEY.to_vec(), true),
    ] {
        let answer = bench.send("GET", path, &headers).await?.json::<Value>()?;
        assert_eq!(answer.get("has_more").is_some(), is_anthropic, "{path}");
        let ids = answer["data"].as_array().context("a list")?.iter();
        let ids: Vec<_> = ids.filter_map(|one| one["id"].as_str()).collect();
        ensure!(ids.contains(&"claude-sonnet-5-5"), "{path}: {ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_is_named_only_where_the_rule_says_so() -> Result<()> {
    let named = [
        ("x-ms-region", "East US 2"),
        ("x-ms-deployment-name", "gpt-5-ptu"),
        ("x-ms-spillover-from-gpt-5-ptu", "true"),
        ("azure-openai-deployment-utilization", "37.5%"),
    ];
    for shows in [false, true] {
        let sim = sim()?;
        sim.faults(vec![Fault {
            headers: named
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Fault::default()
        }])?;
        let mut contents = contents(&sim, None);
        for rule in rules(&mut contents) {
            rule.shows_backend = shows;
        }
        let bench = Bench::of(vec![sim], contents)?;
        let body = json!({"model": "gpt-5", "input": "Say something"}).to_string();
        let answer = bench.post("/v1/responses", KEY, &body).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        for (name, value) in named {
            assert_eq!(answer.header(name), shows.then_some(value), "{name}");
        }
        assert!(
            answer.header("apim-request-id").is_some(),
            "support asks for it"
        );
    }
    Ok(())
}
