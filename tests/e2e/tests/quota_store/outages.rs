//! The store killed, stopped, or come back without its data, with requests on their way.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests_support::{Redis, Replica, Replicas, eventually_ok, http};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::load::{
    LIMIT, Outcomes, alone, burst, call, charged, down, light, quota, start, times, up,
};

/// It is noticed within a second; the rest is for cores that others use too.
const NOTICED: Duration = Duration::from_secs(2);
/// A request waits half a second for the store; the rest is for cores that others use too.
const ANSWERED: Duration = Duration::from_millis(600);
/// The same beside the load of an outage's test.
const ANSWERED_UNDER_LOAD: Duration = Duration::from_millis(1_200);
const LIMIT_EACH: u64 = 40;
/// After this time each replica knows what the others have used: unused grants are back after a second, and a
/// look at the store is at most a second old.
const KNOWN: Duration = Duration::from_millis(2_500);
/// A limit of three replicas, and the most that they may admit together.
const WHOLE: u64 = 1_000;
const MOST: u64 = 1_050;
/// A minute, two sub-buckets of it, and a second more; and a bit for the processes.
const WINDOW: Duration = Duration::from_millis(63_500);

fn quotas() -> String {
    ["Share", "Deny", "Allow"]
        .map(|loss| {
            let limit =
                format!("{{name: calls, unit: Requests, limit: {LIMIT_EACH}, window: Minute}}");
            quota(&loss.to_lowercase(), loss, &limit)
        })
        .concat()
}

async fn ready(replica: &Replica) -> Result<()> {
    let answer = http::get(&format!("{}/readyz", replica.admin)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}

/// Calls without an end on both replicas, one after the other, of a consumer without a limit to
/// reach: what an accident under load means. They end when the set is dropped.
fn load(replicas: &Replicas) -> JoinSet<Result<()>> {
    let mut running = JoinSet::new();
    for replica in replicas.all() {
        let url = replica.chat_url();
        running.spawn(async move {
            loop {
                let called = call(&url, "busy", 1).await?;
                ensure!([200, 429].contains(&called.status), "{called:?}");
                ensure!(called.took < ANSWERED_UNDER_LOAD, "{called:?}");
            }
        });
    }
    running
}

/// What holds while the store is away, and what is counted once it is back.
async fn outage(
    redis: &mut Redis,
    away: fn(&mut Redis) -> Result<()>,
    back: fn(&mut Redis) -> Result<()>,
) -> Result<()> {
    let quotas = quotas()
        + &quota(
            "busy",
            "Share",
            "{name: calls, unit: Requests, limit: 1000000, window: Minute}",
        );
    let replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    // A part is used before, most of it on the first.
    let mut urls = times(replicas.at(0), 9);
    urls.extend(times(replicas.at(1), 1));
    let before = burst(urls, "share", 1).await?;
    assert_eq!(before.admitted(), 10);
    // What was borrowed ahead would be lost with the call that gives it back.
    eventually_ok("nothing is borrowed", LIMIT, async || {
        let charged = charged(redis, "share")?;
        ensure!(charged == 10, "{charged} are charged");
        Ok(())
    })
    .await?;
    let mut busy = load(&replicas);
    sleep(KNOWN).await;

    let began = Instant::now();
    away(redis)?;
    for replica in replicas.all() {
        down(replica, NOTICED.saturating_sub(began.elapsed())).await?;
        ready(replica).await?;
    }
    println!("noticed within {:?}", began.elapsed());
    while_away(&replicas).await?;
    back(redis)?;
    after(redis, &replicas).await?;
    busy.abort_all();
    while let Some(ended) = busy.join_next().await {
        // Those that are aborted here have come to nothing else than 200 or 429, and soon.
        if let Ok(result) = ended {
            result?;
        }
    }
    Ok(())
}

/// What is admitted meanwhile, and how soon it is answered.
async fn while_away(replicas: &Replicas) -> Result<()> {
    let mut slowest = Duration::ZERO;
    let mut check = |outcomes: &Outcomes| {
        slowest = slowest.max(outcomes.slowest());
        outcomes.check()
    };
    for replica in replicas.all() {
        let shared = burst(times(replica, 50), "share", 1).await?;
        check(&shared)?;
        // A half each of what was left.
        assert_eq!(shared.admitted(), (LIMIT_EACH - 10) / 2);
        let denied = burst(times(replica, 10), "deny", 1).await?;
        check(&denied)?;
        assert_eq!(denied.refused(), 10);
        for called in &denied.0 {
            let message = called
                .body
                .pointer("/error/message")
                .and_then(|text| text.as_str());
            assert!(
                message.is_some_and(|text| text.contains("the quota store is away")),
                "{called:?}"
            );
        }
        let allowed = burst(times(replica, 30), "allow", 1).await?;
        check(&allowed)?;
        assert_eq!(allowed.admitted(), 30);
        ready(replica).await?;
    }
    println!("slowest of {slowest:?} while the store was away");
    assert!(slowest < ANSWERED_UNDER_LOAD, "{slowest:?}");
    Ok(())
}

/// What is counted once it is back.
async fn after(redis: &Redis, replicas: &Replicas) -> Result<()> {
    for replica in replicas.all() {
        up(replica, LIMIT).await?;
    }
    // All that was admitted meanwhile counts: 40 of 40 by the shares, 60 of 40 where none held.
    for (consumer, used) in [("share", LIMIT_EACH), ("allow", 60)] {
        eventually_ok(
            "the outage is charged",
            Duration::from_secs(3),
            async || {
                let charged = charged(redis, consumer)?;
                ensure!(
                    charged == used,
                    "{charged} of {used} charged for {consumer}"
                );
                Ok(())
            },
        )
        .await?;
        for replica in replicas.all() {
            let after = burst(times(replica, 5), consumer, 1).await?;
            assert_eq!(after.refused(), 5, "{consumer}");
        }
    }
    // Where nothing was admitted, all is left.
    let after = burst(times(replicas.at(0), 50), "deny", 1).await?;
    after.check()?;
    assert_eq!(after.admitted(), LIMIT_EACH);
    Ok(())
}

#[tokio::test]
async fn while_redis_is_dead_each_quota_does_what_it_says_and_its_spend_counts_after() -> Result<()>
{
    let _turn = alone().await;
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])?;
    let dead = |redis: &mut Redis| {
        redis.kill();
        Ok(())
    };
    outage(&mut redis, dead, Redis::restart).await
}

#[tokio::test]
async fn while_redis_hangs_each_quota_does_what_it_says_and_its_spend_counts_after() -> Result<()> {
    let _turn = alone().await;
    outage(&mut Redis::start()?, Redis::pause, Redis::resume).await
}

#[tokio::test]
async fn whoever_asks_when_redis_begins_to_hang_is_answered_within_600_ms() -> Result<()> {
    let _turn = alone().await;
    let mut redis = Redis::start()?;
    // Too small to borrow ahead: every call asks the store.
    let quotas = quota(
        "exact",
        "Deny",
        "{name: calls, unit: Requests, limit: 30, window: Minute}",
    );
    let replicas = start(2, &redis.url(), &quotas, &["--no-access-log"], &[]).await?;
    assert_eq!(
        burst(times(replicas.at(0), 5), "exact", 1)
            .await?
            .admitted(),
        5
    );
    redis.pause()?;
    let mut urls = times(replicas.at(0), 20);
    urls.extend(times(replicas.at(1), 20));
    let outcomes = burst(urls, "exact", 1).await?;
    println!("slowest of {:?}", outcomes.slowest());
    assert_eq!(outcomes.refused(), 40);
    assert!(outcomes.slowest() < ANSWERED, "{:?}", outcomes.slowest());
    redis.resume()
}

#[tokio::test]
async fn a_store_that_comes_back_empty_is_told_what_was_used() -> Result<()> {
    let _turn = light().await;
    let mut redis = Redis::start()?;
    let limit =
        |limit: u64| format!("{{name: calls, unit: Requests, limit: {limit}, window: Minute}}");
    let quotas = [
        quota("spent", "Deny", &limit(30)),
        quota("half", "Deny", &limit(200)),
    ];
    let replicas = start(2, &redis.url(), &quotas.concat(), &["--no-access-log"], &[]).await?;
    let used = async |first: usize, second: usize, consumer: &str| -> Result<u64> {
        let mut urls = times(replicas.at(0), first);
        urls.extend(times(replicas.at(1), second));
        let outcomes = burst(urls, consumer, 1).await?;
        outcomes.check()?;
        Ok(outcomes.admitted())
    };
    assert_eq!(used(30, 20, "spent").await?, 30);
    assert_eq!(used(70, 30, "half").await?, 100);

    redis.restart()?;
    let began = Instant::now();
    // Not a single one passes at any time, though the store is empty.
    let within = Duration::from_secs(2);
    while began.elapsed() < within {
        assert_eq!(used(2, 2, "spent").await?, 0, "after {:?}", began.elapsed());
        if charged(&redis, "spent")? == 30 && charged(&redis, "half")? == 100 {
            break;
        }
    }
    println!("told after {:?}", began.elapsed());
    assert_eq!(charged(&redis, "spent")?, 30);
    assert_eq!(charged(&redis, "half")?, 100);
    for replica in replicas.all() {
        up(replica, LIMIT).await?;
    }
    assert_eq!(used(5, 5, "spent").await?, 0);
    // The other half is left, once the store grants again.
    let mut more = 0;
    eventually_ok("the rest is admitted", LIMIT, async || {
        more += used(60, 60, "half").await?;
        ensure!(more >= 90, "{more} of 100");
        Ok(())
    })
    .await?;
    assert!(more <= 100, "{more} of 100");
    Ok(())
}

fn whole() -> String {
    let limit = format!("{{name: calls, unit: Requests, limit: {WHOLE}, window: Minute}}");
    quota("team", "Share", &limit)
}

/// `count` calls at once, spread over `replicas`; how many of them each admits.
async fn spread(replicas: &[&Replica], count: usize) -> Result<Vec<u64>> {
    let mut bursts = JoinSet::new();
    for (index, replica) in replicas.iter().enumerate() {
        let urls = times(replica, count / replicas.len());
        bursts.spawn(async move { (index, burst(urls, "team", 1).await) });
    }
    let mut admitted = vec![0; replicas.len()];
    while let Some(ended) = bursts.join_next().await {
        let (index, outcomes) = ended?;
        let outcomes = outcomes?;
        outcomes.check()?;
        admitted[index] = outcomes.admitted();
    }
    Ok(admitted)
}

async fn kill(redis: &mut Redis, replicas: &Replicas) -> Result<()> {
    redis.kill();
    for replica in replicas.all() {
        down(replica, LIMIT).await?;
    }
    Ok(())
}

/// Without the store the replicas use what `before` calls have left of the whole, and little more.
async fn fills_the_whole(before: u64, replicas: &[&Replica]) -> Result<()> {
    let after = spread(replicas, 1_500).await?;
    let used = before + after.iter().sum::<u64>();
    println!("{before} before, {after:?} of 1,500 after: {used} of {WHOLE}");
    assert!((950..=MOST).contains(&used), "{used} of {WHOLE}");
    Ok(())
}

#[tokio::test]
async fn replicas_share_what_was_left_of_the_whole_when_redis_died() -> Result<()> {
    let _turn = alone().await;
    let mut redis = Redis::start()?;
    let replicas = start(3, &redis.url(), &whole(), &["--no-access-log"], &[]).await?;
    let all: Vec<_> = replicas.all().iter().collect();
    let before: u64 = spread(&all, 99).await?.iter().sum();
    assert_eq!(before, 99);
    sleep(KNOWN).await;
    kill(&mut redis, &replicas).await?;
    fills_the_whole(before, &all).await
}

#[tokio::test]
async fn a_replica_that_was_idle_for_long_knows_what_the_others_used() -> Result<()> {
    let _turn = alone().await;
    let mut redis = Redis::start()?;
    let replicas = start(3, &redis.url(), &whole(), &["--no-access-log"], &[]).await?;
    let all: Vec<_> = replicas.all().iter().collect();
    let mut before: u64 = spread(&all, 30).await?.iter().sum();
    let idle = Instant::now();
    sleep(Duration::from_secs(47)).await;
    // The others go on, and the first window still has the calls from before.
    before += spread(&all[..2], 600).await?.iter().sum::<u64>();
    assert_eq!(before, 630);
    sleep(KNOWN).await;
    assert!(
        idle.elapsed() >= Duration::from_secs(48),
        "{:?}",
        idle.elapsed()
    );
    kill(&mut redis, &replicas).await?;
    fills_the_whole(before, &all).await
}

#[tokio::test]
async fn a_replica_that_starts_without_redis_admits_nothing_for_a_window() -> Result<()> {
    let _turn = alone().await;
    let mut redis = Redis::start()?;
    let url = redis.url();
    let replicas = start(2, &url, &whole(), &["--no-access-log"], &[]).await?;
    let old: Vec<_> = replicas.all().iter().collect();
    let before: u64 = spread(&old, 100).await?.iter().sum();
    assert_eq!(before, 100);
    sleep(KNOWN).await;
    kill(&mut redis, &replicas).await?;
    let more = ["--quota-store", &url, "--replicas", "3", "--no-access-log"];
    let late = Replicas::start(1, &whole(), &more, &[]).await?;
    let began = Instant::now();
    let all: Vec<_> = old.iter().copied().chain(late.all()).collect();
    let after = spread(&all, 1_500).await?;
    let used = before + after.iter().sum::<u64>();
    println!("{before} before, {after:?} of 1,500 after: {used} of {WHOLE}");
    assert_eq!(after.last(), Some(&0), "the one that has just started");
    assert!((950..=MOST).contains(&used), "{used} of {WHOLE}");
    // Then it has its third, as the operator said; the two others know of two replicas.
    sleep(WINDOW.saturating_sub(began.elapsed())).await;
    let own = spread(&all[2..], 500).await?;
    println!("{own:?} of the one that started, after a window");
    assert_eq!(own, [WHOLE / 3]);
    Ok(())
}
