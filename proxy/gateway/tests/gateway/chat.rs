//! Chat completions: dialects, refusals, quotas, failover, and every way in which a stream can end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use proxy_admin::shutdown;
use proxy_core::quota::{Limit, Unit, Window};
use proxy_core::reach::Reach;
use proxy_core::table::{Retry, Table};
use proxy_gateway::{Config, Gateway, Metrics};
use serde_json::{Value, json};
use tests_foundry::{Fault, Sim};
use tests_support::http::{self, Answer};

use crate::bench::{Bench, chat, contents, minute};

fn events(answer: &Answer) -> Vec<String> {
    answer
        .text()
        .split("\n\n")
        .filter_map(|e| e.strip_prefix("data: ").map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn answers_in_every_dialect_and_charges_what_foundry_bills() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Tokens, 100_000)])?;
    let body = chat(false).to_string();
    for (path, header) in [
        ("/v1/chat/completions", ("authorization", "Bearer ann-key")),
        ("/openai/v1/chat/completions", ("api-key", "ann-key")),
        (
            "/openai/deployments/mini/chat/completions?api-version=2024-10-21",
            ("api-key", "ann-key"),
        ),
        (
            "/openai/v1/deployments/mini/chat/completions?api-version=v1",
            ("x-api-key", "ann-key"),
        ),
    ] {
        let answer = bench.post(path, &[header], &body).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let text = answer.json::<Value>()?;
        assert!(
            text["choices"][0]["message"]["content"].is_string(),
            "{path}: {text}"
        );
    }
    bench.quiet().await?;
    let billed = bench.sims[0].billed().deployments["gpt-4o-mini"];
    let tokens = |kind: &str| {
        bench.metric(&format!(
            "tokens_total{{route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"{kind}\"}}"
        ))
    };
    assert_eq!(tokens("input"), Some(billed.prompt_tokens));
    assert_eq!(tokens("output"), Some(billed.completion_tokens));
    for request in bench.sims[0].requests() {
        assert_eq!(request.header("api-key"), Some("sim-key"));
        assert_eq!(request.header("authorization"), None);
        assert!(
            !format!("{request:?}").contains("ann-key"),
            "the client's key stays here"
        );
    }
    Ok(())
}

#[tokio::test]
async fn streams_with_and_without_the_usage_that_the_client_asked_for() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Tokens, 100_000)])?;
    let plain = bench.ask(&chat(true)).await?;
    assert_eq!(plain.status, 200, "{}", plain.text());
    let got = events(&plain);
    assert_eq!(got.last().map(String::as_str), Some("[DONE]"));
    assert!(
        !got.iter().any(|event| event.contains("\"prompt_tokens\"")),
        "{got:?}"
    );
    let mut asking = chat(true);
    asking["stream_options"] = json!({"include_usage": true});
    let with_usage = events(&bench.ask(&asking).await?);
    assert_eq!(with_usage.len(), got.len() + 1);
    assert!(
        with_usage
            .iter()
            .any(|event| event.contains("\"prompt_tokens\""))
    );
    bench.quiet().await?;
    assert_eq!(
        bench.metric("settlements_total{kind=\"measured\"}"),
        Some(2)
    );
    let billed = &bench.sims[0].billed().deployments["gpt-4o-mini"];
    let output =
        bench.metric("tokens_total{route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"output\"}");
    assert_eq!(output, Some(billed.completion_tokens));
    Ok(())
}

#[tokio::test]
async fn refuses_in_the_dialect_with_code_and_reason() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let good = chat(false).to_string();
    let key = [("api-key", "ann-key")];
    let path = "/v1/chat/completions";
    for (path, headers, body, status, code) in [
        (
            path,
            [("x-a", "b")],
            good.as_str(),
            401,
            "missing_credential",
        ),
        (
            path,
            [("api-key", "wrong")],
            &good,
            401,
            "invalid_credential",
        ),
        (
            path,
            [("authorization", "Basic x")],
            &good,
            401,
            "missing_credential",
        ),
        (
            path,
            [("authorization", "Negotiate x")],
            &good,
            400,
            "invalid_request",
        ),
        (path, key, "{", 400, "invalid_request"),
        (
            path,
            key,
            "{\"model\":\"a\",\"model\":\"b\"}",
            400,
            "invalid_request",
        ),
        (path, key, "{\"messages\":[]}", 400, "invalid_request"),
        ("/v1//chat/completions", key, &good, 400, "invalid_request"),
        ("/v1/unknown", key, &good, 404, "unknown_path"),
        ("/v1/models", key, &good, 405, "method_not_allowed"),
    ] {
        let answer = bench.post(path, &headers, body).await?;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        let error = &answer.json::<Value>()?["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(answer.header("x-request-id").is_some());
    }
    let big = format!("{{\"model\":\"mini\",\"x\":\"{}\"}}", "y".repeat(2 << 20));
    let answer = bench.post(path, &key, &big).await?;
    assert_eq!(
        (
            answer.status,
            answer.json::<Value>()?["error"]["code"].as_str()
        ),
        (413, Some("request_too_large"))
    );
    assert!(
        bench.sims[0].requests().is_empty(),
        "nothing of this went upstream"
    );
    Ok(())
}

#[tokio::test]
async fn a_spent_limit_answers_429_with_its_name_and_the_wait() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Requests, 2)])?;
    for _ in 0..2 {
        assert_eq!(bench.ask(&chat(false)).await?.status, 200);
    }
    let refused = bench.ask(&chat(false)).await?;
    assert_eq!(refused.status, 429);
    let error = refused.json::<Value>()?["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("rate_limited"), &json!("ns/q/minute"))
    );
    let wait: u64 = refused
        .header("retry-after-ms")
        .context("a wait")?
        .parse()?;
    assert!((1..=67_000).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    Ok(())
}

#[tokio::test]
async fn a_client_that_waits_as_advised_is_admitted_soon() -> Result<()> {
    let second = Limit {
        name: "second".into(),
        window: Window::Second,
        ..minute(Unit::Requests, 3)
    };
    let bench = Bench::start(1, vec![second])?;
    for _ in 0..4 {
        let refused = loop {
            let answer = bench.ask(&chat(false)).await?;
            if answer.status == 429 {
                break answer;
            }
        };
        let stated = refused.header("retry-after-ms").context("a wait")?;
        let stated = Duration::from_millis(stated.parse()?);
        let since = tokio::time::Instant::now();
        while bench.ask(&chat(false)).await?.status == 429 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let needed = since.elapsed();
        let late = stated.saturating_sub(needed);
        assert!(
            late < Duration::from_secs(1),
            "stated {stated:?}, needed {needed:?}"
        );
        // Some milliseconds pass between the refusal and the first look at the clock here.
        let early = needed.saturating_sub(stated);
        assert!(
            early < Duration::from_millis(300),
            "stated {stated:?}, needed {needed:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_shows_the_tightest_limit_of_its_kind() -> Result<()> {
    let wide = Limit {
        name: "wide".into(),
        ..minute(Unit::Requests, 100)
    };
    let limits = vec![
        wide,
        minute(Unit::Requests, 10),
        Limit {
            name: "tokens".into(),
            ..minute(Unit::Tokens, 5_000)
        },
    ];
    let bench = Bench::start(1, limits)?;
    for stream in [false, true] {
        let answer = bench.ask(&chat(stream)).await?;
        assert_eq!(answer.status, 200);
        let level = |name: &str| answer.header(&format!("x-ratelimit-{name}"));
        assert_eq!(level("limit-requests"), Some("10"));
        let remaining = if stream { "8" } else { "9" };
        assert_eq!(level("remaining-requests"), Some(remaining));
        assert!(matches!(level("reset-requests"), Some("60" | "61")));
        assert_eq!(level("limit-tokens"), Some("5000"));
        let left: u64 = level("remaining-tokens").context("a level")?.parse()?;
        assert!((4_000..5_000).contains(&left), "{left}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_models_for_a_known_caller() -> Result<()> {
    let bench = Bench::start(1, Vec::new())?;
    let get = async |path: &str| {
        let url = format!("{}{path}", bench.url);
        http::request(http_method(), &url, &[("api-key", "ann-key")], "").await
    };
    let list = get("/v1/models").await?.json::<Value>()?;
    let names: Vec<_> = list["data"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(names, [&json!("gpt-4o-mini"), &json!("mini")]);
    assert_eq!(
        get("/openai/v1/models/mini").await?.json::<Value>()?["id"],
        "mini"
    );
    assert_eq!(get("/v1/models/none").await?.status, 404);
    assert_eq!(
        http::get(&format!("{}/v1/models", bench.url)).await?.status,
        401
    );
    Ok(())
}

fn http_method() -> ::http::Method {
    ::http::Method::GET
}

#[tokio::test]
async fn fails_over_to_the_next_tier_before_the_first_byte() -> Result<()> {
    let bench = Bench::start(2, Vec::new())?;
    for status in [500, 503, 408, 529] {
        bench.sims[0].faults(vec![Fault {
            status: Some(status),
            times: Some(1),
            ..Fault::default()
        }])?;
        assert_eq!(bench.ask(&chat(false)).await?.status, 200, "after {status}");
    }
    assert_eq!(bench.sims[1].requests().len(), 4);
    let failures = |backend: &str| {
        let labels = format!("{{backend=\"{backend}\",deployment=\"gpt-4o-mini\"}}");
        bench.metric(&format!("upstream_failures_in_a_row{labels}"))
    };
    assert_eq!((failures("ns/b0"), failures("ns/b1")), (Some(4), Some(0)));
    bench.sims[0].faults(vec![Fault {
        status: Some(400),
        ..Fault::default()
    }])?;
    assert_eq!(
        bench.ask(&chat(false)).await?.status,
        400,
        "the client's own fault is not retried"
    );
    assert_eq!(bench.sims[1].requests().len(), 4);
    assert_eq!(failures("ns/b0"), Some(0), "the backend works");
    Ok(())
}

#[tokio::test]
async fn all_backends_throttled_is_429_with_the_shortest_wait() -> Result<()> {
    let bench = Bench::start(2, vec![minute(Unit::Tokens, 10_000)])?;
    for (sim, wait) in bench.sims.iter().zip(["9000", "2000"]) {
        let headers = [("retry-after-ms".to_owned(), wait.to_owned())].into();
        sim.faults(vec![Fault {
            status: Some(429),
            headers,
            ..Fault::default()
        }])?;
    }
    let answer = bench.ask(&chat(false)).await?;
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.json::<Value>()?["error"]["code"],
        "backend_throttled"
    );
    let wait: u64 = answer.header("retry-after-ms").context("a wait")?.parse()?;
    assert!((2_000..=2_200).contains(&wait), "{wait}");
    bench.quiet().await?;
    assert_eq!(
        bench.metric("settlements_total{kind=\"released\"}"),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn an_unreachable_backend_is_502_and_costs_nothing() -> Result<()> {
    let bench = Bench::start(0, vec![minute(Unit::Tokens, 10_000)])?;
    let sim = Sim::start(&tests_foundry::Config::default())?;
    let mut gone = contents(
        std::slice::from_ref(&sim),
        vec![minute(Unit::Tokens, 10_000)],
    );
    drop(sim);
    let route = Arc::make_mut(&mut gone.routes[0]);
    Arc::make_mut(&mut route.rules[0]).retry = Retry::default();
    bench.gateway.publish(Arc::new(Table::new(gone)));
    let answer = bench.ask(&chat(false)).await?;
    assert_eq!(
        answer.json::<Value>()?["error"]["code"],
        "upstream_unreachable"
    );
    assert_eq!(answer.status, 502);
    bench.quiet().await?;
    assert_eq!(
        bench.metric("settlements_total{kind=\"released\"}"),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_client_that_hangs_up_is_charged_for_what_it_got_and_stops_the_backend() -> Result<()> {
    let sim = tests_foundry::Config {
        token_interval: Duration::from_millis(20),
        completion_tokens: 10_000,
        ..tests_foundry::Config::default()
    };
    let bench = Bench::with(1, vec![minute(Unit::Tokens, 100_000)], &sim)?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let body = chat(true).to_string();
    let mut stream = http::stream_json(&url, &[("api-key", "ann-key")], body).await?;
    for _ in 0..5 {
        stream.next().await?.context("a chunk")?;
    }
    drop(stream);
    bench.quiet().await?;
    assert_eq!(
        bench.metric("settlements_total{kind=\"estimated\"}"),
        Some(1)
    );
    let aborted = bench.sims[0]
        .wait_until(Duration::from_secs(5), |sim| {
            sim.requests()
                .iter()
                .any(|r| r.outcome == tests_foundry::Outcome::AbortedByClient)
        })
        .await;
    assert!(aborted, "{:?}", bench.sims[0].requests());
    let output =
        bench.metric("tokens_total{route=\"ns/chat\",consumer=\"ns/ann\",token_type=\"output\"}");
    assert!(
        output.is_some_and(|tokens| (1..200).contains(&tokens)),
        "{output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_cut_stream_ends_in_an_error_event_and_never_in_done() -> Result<()> {
    let bench = Bench::start(1, vec![minute(Unit::Tokens, 100_000)])?;
    bench.sims[0].faults(vec![Fault {
        cut_after_chunks: Some(6),
        ..Fault::default()
    }])?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let body = chat(true).to_string();
    let mut stream = http::stream_json(&url, &[("api-key", "ann-key")], body).await?;
    let mut text = String::new();
    let ended = loop {
        match stream.next().await {
            Ok(Some(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk.bytes)),
            other => break other.is_ok(),
        }
    };
    assert!(
        !ended,
        "the connection is cut, so that no client takes the answer for whole"
    );
    assert!(text.contains("\"code\":\"upstream_failed\""), "{text}");
    assert!(!text.contains("[DONE]"));
    bench.quiet().await?;
    assert_eq!(
        bench.metric("settlements_total{kind=\"estimated\"}"),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_silent_backend_is_given_up_after_its_idle_timeout() -> Result<()> {
    let sim = tests_foundry::Config {
        token_interval: Duration::from_secs(30),
        ..tests_foundry::Config::default()
    };
    let bench = Bench::with(1, vec![minute(Unit::Tokens, 100_000)], &sim)?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let body = chat(true).to_string();
    let mut stream = http::stream_json(&url, &[("api-key", "ann-key")], body).await?;
    let mut text = String::new();
    while let Ok(Some(chunk)) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&chunk.bytes));
    }
    assert!(text.contains("\"code\":\"upstream_timeout\""), "{text}");
    bench.quiet().await
}

#[tokio::test]
async fn a_running_stream_ends_whole_within_the_drain() -> Result<()> {
    let sim = tests_foundry::Config {
        token_interval: Duration::from_millis(30),
        ..tests_foundry::Config::default()
    };
    let bench = Bench::with(1, Vec::new(), &sim)?;
    let url = format!("{}/v1/chat/completions", bench.url);
    let body = chat(true).to_string();
    let mut stream = http::stream_json(&url, &[("api-key", "ann-key")], body).await?;
    stream.next().await?.context("a chunk")?;
    bench.trigger.stop();
    let mut text = String::new();
    while let Some(chunk) = stream.next().await? {
        text.push_str(&String::from_utf8_lossy(&chunk.bytes));
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    Ok(())
}

#[tokio::test]
async fn without_a_table_it_is_not_ready() -> Result<()> {
    let mut registry = Registry::default();
    let config = Config {
        listen: "127.0.0.1:0".parse()?,
        reuse_port: false,
        apis: proxy_api::ROWS,
        threads: 1,
        trusted_hops: 0,
        proxy_protocol: false,
        tls: None,
        max_body: 1 << 20,
        max_upload: 64 << 20,
        memory_budget: 256 << 20,
        default_output_tokens: 100,
        reach: Arc::new(Reach::everywhere()),
        drain_grace: Duration::from_secs(1),
        limit_series: 0,
        state_keys: proxy_gateway::StateKeys::of_this_process(),
        access_log: None,
        store: None,
        identity: crate::bench::no_identity(),
    };
    let gateway = Gateway::new(config, Metrics::register(&mut registry));
    let (trigger, shutdown) = shutdown::channel();
    let serving = gateway.start(&shutdown)?;
    let url = format!("http://{}/v1/chat/completions", serving.address());
    let answer = http::post_json(&url, &[("api-key", "k")], chat(false).to_string()).await?;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json::<Value>()?["error"]["code"], "not_ready");
    trigger.stop();
    serving.join();
    Ok(())
}
