//! What replicas admit together.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_support::{Redis, Replicas, eventually_ok, http};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::load::{alone, billed, burst, call, light, quota, skewed, start, times};

/// Output tokens of a call: many, so that the estimate of the input hardly matters.
const OUTPUT: u64 = 500;
/// What such a call comes to: 1 word, 6 for the message.
const TOKENS: u64 = 507;
/// Refused callers retry for this time: twice as long as a lease.
const COMES_AGAIN: Duration = Duration::from_secs(2);
const SIMULATOR: [&str; 2] = ["--completion-tokens", "500"];

/// One round for each kind of limit: calls at the same time, most of them to one replica. Tells what
/// part of the limit was admitted at once, and at last.
async fn round(
    replicas: usize,
    calls: usize,
    limit: u64,
    percent: usize,
) -> Result<Vec<(f64, f64)>> {
    let redis = Redis::start()?;
    let quotas = [
        quota(
            "counted",
            "Share",
            &format!("{{name: calls, unit: Requests, limit: {limit}, window: Minute}}"),
        ),
        quota(
            "metered",
            "Share",
            &format!(
                "{{name: tokens, unit: Tokens, limit: {}, window: Minute}}",
                limit * TOKENS
            ),
        ),
    ];
    let more = ["--no-access-log"];
    let replicas = start(replicas, &redis.url(), &quotas.concat(), &more, &SIMULATOR).await?;
    let mut parts = Vec::new();
    let mut before = (0, 0);
    for consumer in ["counted", "metered"] {
        let began = Instant::now();
        let mut outcomes = burst(skewed(&replicas, calls, percent), consumer, OUTPUT).await?;
        let first = outcomes.admitted();
        // Of what is refused all come again, since more is reserved at once than is used in the end.
        let mut open = outcomes.refused();
        while began.elapsed() < COMES_AGAIN && outcomes.admitted() < limit {
            let again = skewed(&replicas, usize::try_from(open)?, percent);
            let more = burst(again, consumer, OUTPUT).await?;
            open = more.refused();
            outcomes.0.extend(more.0);
        }
        outcomes.check()?;
        let (requests, tokens) = billed(&replicas).await?;
        let admitted = outcomes.admitted();
        assert_eq!(requests - before.0, admitted, "{consumer}");
        assert_eq!(tokens - before.1, outcomes.tokens(), "{consumer}");
        assert_eq!(outcomes.tokens(), admitted * TOKENS, "{consumer}");
        assert!(admitted <= limit, "{consumer}: {admitted} of {limit}");
        before = (requests, tokens);
        let part = |count: u64| -> Result<f64> {
            Ok(f64::from(u32::try_from(count)?) / f64::from(u32::try_from(limit)?))
        };
        println!(
            "{} replicas, {calls} calls, {percent} % on one, {consumer}: {first} at once, {admitted} of \
             {limit} in {:?}",
            replicas.all().len(),
            began.elapsed()
        );
        parts.push((part(first)?, part(admitted)?));
    }
    Ok(parts)
}

#[tokio::test]
async fn one_three_and_eight_replicas_admit_no_more_than_the_limit() -> Result<()> {
    let _turn = alone().await;
    for (replicas, calls, limit, percent, at_once, at_last) in [
        (1, 300, 200, 100, 0.9, 0.9),
        // On a busy machine a recall may come too late.
        (3, 300, 200, 80, 0.8, 0.9),
        (8, 300, 200, 70, 0.7, 0.8),
        (3, 3_000, 1_500, 90, 0.8, 0.9),
    ] {
        for (first, last) in round(replicas, calls, limit, percent).await? {
            assert!(
                first >= at_once,
                "{replicas} replicas: {first} of the limit at once"
            );
            assert!(last >= at_last, "{replicas} replicas: {last} of the limit");
        }
    }
    Ok(())
}

/// Opens streams at the same time, and gives them once their first bytes are there.
async fn streams(urls: Vec<String>, consumer: &'static str) -> Result<Vec<http::Streaming>> {
    let mut opened = JoinSet::new();
    for url in urls {
        opened.spawn(async move {
            let body = json!({
                "model": "gpt-5", "max_tokens": OUTPUT, "stream": true,
                "messages": [{"role": "user", "content": "Hi"}],
            });
            let key = format!("{consumer}-key");
            let headers = [("api-key", key.as_str())];
            let mut stream = http::stream_json(&url, &headers, body.to_string()).await?;
            stream.next().await?.context("a first byte")?;
            anyhow::Ok(stream)
        });
    }
    let mut streams = Vec::new();
    while let Some(stream) = opened.join_next().await {
        streams.push(stream??);
    }
    Ok(streams)
}

#[tokio::test]
async fn places_are_shared_and_come_free_when_a_stream_ends_or_its_client_leaves() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let quotas = quota(
        "few",
        "Deny",
        "{name: at-once, unit: Concurrency, limit: 10}",
    );
    // Streams of ten seconds, so that none ends by itself.
    let simulator = ["--completion-tokens", "500", "--token-interval", "20ms"];
    let replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &simulator).await?;
    let everywhere = |count: usize| {
        let mut urls = times(replicas.at(0), count);
        urls.extend(times(replicas.at(1), count));
        urls
    };
    let mut running = streams(everywhere(15), "few").await?;
    running.retain(|stream| stream.status == 200);
    assert_eq!(running.len(), 10);
    for replica in replicas.all() {
        let refused = call(&replica.chat_url(), "few", 1).await?;
        assert_eq!(refused.status, 429, "{refused:?}");
    }
    // Four clients hang up; whichever replica they were on, the other one may have their places.
    running.truncate(6);
    for index in [0, 1] {
        let mut open = Vec::new();
        eventually_ok("four places", Duration::from_secs(2), async || {
            let mut more = streams(times(replicas.at(index), 10), "few").await?;
            more.retain(|stream| stream.status == 200);
            open.append(&mut more);
            ensure!(open.len() >= 4, "{} of 4", open.len());
            Ok(())
        })
        .await?;
        assert_eq!(open.len(), 4, "on replica {index}");
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_killed_within_streams_costs_the_others_nothing_but_what_it_held() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let limit = 100;
    let quotas = quota(
        "metered",
        "Share",
        &format!(
            "{{name: tokens, unit: Tokens, limit: {}, window: Minute}}",
            limit * TOKENS
        ),
    );
    let simulator = ["--completion-tokens", "500", "--token-interval", "10ms"];
    let mut replicas = start(3, &redis.url(), &quotas, &[], &simulator).await?;

    // Ten streams of five seconds each on the one that dies.
    let open = streams(times(replicas.at(2), 10), "metered").await?;
    assert!(open.iter().all(|stream| stream.status == 200));
    replicas.kill(2)?;
    for mut stream in open {
        assert!(stream.chunks().await.is_err(), "cut within");
    }

    // The two others go on, and all together stay below the limit.
    let mut urls = times(replicas.at(0), 60);
    urls.extend(times(replicas.at(1), 60));
    let outcomes = burst(urls, "metered", OUTPUT).await?;
    outcomes.check()?;
    assert_eq!(outcomes.0.len(), 120);
    let (requests, tokens) = billed(&replicas).await?;
    assert_eq!(requests, outcomes.admitted() + 10);
    assert!(tokens <= limit * TOKENS, "{tokens} of {}", limit * TOKENS);
    // What the dead one held is lost for the window: ten calls and what it had borrowed ahead.
    println!(
        "{} admitted by two, beside 10 streams of the dead one",
        outcomes.admitted()
    );
    assert!(
        outcomes.admitted() >= 60,
        "{} by the two",
        outcomes.admitted()
    );
    Ok(())
}

#[tokio::test]
async fn what_a_killed_replica_held_of_a_second_is_free_after_it() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let quotas = quota(
        "brisk",
        "Share",
        "{name: calls, unit: Requests, limit: 40, window: Second}",
    );
    let mut replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    // All of the second is taken by the one that dies.
    let before = burst(times(replicas.at(1), 60), "brisk", 1).await?;
    before.check()?;
    assert!(before.admitted() >= 20, "{}", before.admitted());
    replicas.kill(1)?;
    let mut admitted = 0;
    eventually_ok(
        "two seconds' worth by the other",
        Duration::from_secs(4),
        async || {
            let outcomes = burst(times(replicas.at(0), 60), "brisk", 1).await?;
            outcomes.check()?;
            admitted += outcomes.admitted();
            ensure!(admitted >= 72, "{admitted} admitted");
            Ok(())
        },
    )
    .await?;
    // Each call is in the store's ring until it has left the window; twelve sub-buckets of 100 ms.
    let requests: Vec<serde_json::Value> = http::get(&format!("{}/_sim/requests", replicas.sim))
        .await?
        .json()?;
    let mut at: Vec<u64> = requests
        .iter()
        .filter_map(|request| request.get("received_ms")?.as_u64())
        .collect();
    at.sort_unstable();
    let most = (0..at.len())
        .map(|first| {
            at[first..]
                .iter()
                .take_while(|ms| **ms < at[first] + 900)
                .count()
        })
        .max();
    println!("{} admitted, at most {most:?} within 900 ms", at.len());
    // 100 ms are left for the way from the admission to the backend.
    assert!(
        most.is_some_and(|most| most <= 40),
        "{most:?} within 900 ms"
    );
    Ok(())
}

#[tokio::test]
async fn replicas_that_have_just_started_have_no_limit_of_their_own() -> Result<()> {
    let _turn = alone().await;
    let redis = Redis::start()?;
    let quotas = quota(
        "fresh",
        "Share",
        "{name: calls, unit: Requests, limit: 30, window: Minute}",
    );
    let replicas = start(3, &redis.url(), &quotas, &[], &[]).await?;
    let mut running = JoinSet::new();
    for _ in 0..20 {
        for replica in replicas.all() {
            let url = replica.chat_url();
            running.spawn(async move { call(&url, "fresh", 1).await });
        }
    }
    let mut admitted = 0;
    while let Some(ended) = running.join_next().await {
        admitted += u32::from(ended??.status == 200);
    }
    assert!((20..=30).contains(&admitted), "{admitted} of 30");
    Ok(())
}

#[tokio::test]
async fn a_steady_load_below_its_limit_rarely_asks_the_store() -> Result<()> {
    let _turn = alone().await;
    let redis = Redis::start()?;
    let calls = "{name: calls, unit: Requests, limit: 500000, window: Minute}";
    let tokens = "{name: tokens, unit: Tokens, limit: 50000000, window: Minute}";
    let quotas = [
        quota("one", "Share", calls),
        quota("two", "Share", &format!("{calls}, {tokens}")),
    ];
    let more = ["--no-access-log"];
    let replicas = start(3, &redis.url(), &quotas.concat(), &more, &["--record", "0"]).await?;
    // All limits of a request are borrowed ahead by one call, whatever the rate.
    for consumer in ["one", "two"] {
        let per_second = steady(&replicas, consumer).await?;
        assert!(
            per_second < 6.0,
            "{consumer}: {per_second} calls a second of a replica"
        );
    }
    Ok(())
}

/// Calls to the store per second and replica, while each serves 300 requests per second.
async fn steady(replicas: &Replicas, consumer: &'static str) -> Result<f64> {
    const PER_SECOND: u32 = 300;
    const SECONDS: u32 = 3;
    // What is borrowed ahead follows what was used; what is steady comes after.
    pour(replicas, consumer, PER_SECOND, 2).await?;
    let asked = async || -> Result<f64> {
        let mut sum = 0.0;
        for replica in replicas.all() {
            sum += replica.metric("tundish_quota_store_calls_total").await?;
        }
        Ok(sum)
    };
    let before = asked().await?;
    let took = pour(replicas, consumer, PER_SECOND, SECONDS).await?;
    let calls = asked().await? - before;
    let requests = 3 * PER_SECOND * SECONDS;
    println!(
        "{consumer}: {requests} requests in {took:?}, {calls} calls to the store, {:.4} each",
        calls / f64::from(requests)
    );
    Ok(calls / took.as_secs_f64() / 3.0)
}

/// Sends each of three replicas this number of requests per second.
async fn pour(
    replicas: &Replicas,
    consumer: &'static str,
    per_second: u32,
    seconds: u32,
) -> Result<Duration> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..per_second * seconds {
        for replica in replicas.all() {
            let url = replica.chat_url();
            let due = began + Duration::from_secs(1) * index / per_second;
            running.spawn(async move {
                sleep_until(due).await;
                call(&url, consumer, 1).await
            });
        }
    }
    let mut admitted = 0u32;
    while let Some(ended) = running.join_next().await {
        let called = ended??;
        ensure!(called.status == 200, "{called:?}");
        admitted += 1;
    }
    assert_eq!(admitted, 3 * per_second * seconds);
    Ok(began.elapsed())
}
