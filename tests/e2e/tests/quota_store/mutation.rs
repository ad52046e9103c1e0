//! The store's script with one sub-bucket too few in its ring: by what real replicas admit it must be
//! found out, and with the true one there is nothing to find.
//!
//! Between the replicas and Redis a relay names another script in their calls. The load is made for
//! the fault: what is lent late in a sub-bucket is spent late, in the next one, along with everything
//! else that is free. Then nothing of it may come free again within a second.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tests_support::http::Connection;
use tests_support::{Redis, Relay, Replica};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::load::{alone, quota, start};

const SCRIPT: &str = include_str!("../../../../proxy/ledger/src/script.lua");
/// The first line that uses the number of sub-buckets.
const BEFORE: &str = "local at = math.floor(now / c.tau)\n";
const FAULT: &str = "c.len = c.len - 1\n";

/// Requests of a second for each replica. Twice as many as they need to borrow ahead, and so few that
/// a busy machine answers a burst of them within a sub-bucket.
const LIMIT: usize = 40;
/// Connections of a consumer to each replica.
const EACH: usize = 3;
/// Each has a limit of its own, and its rounds begin at other times.
const CONSUMERS: [&str; 3] = ["first", "second", "third"];
/// About a third of a round: their bursts do not meet.
const APART: Duration = Duration::from_millis(900);
/// A sub-bucket of a second, in milliseconds.
const TAU: u64 = 100;
/// A second, less what a wall clock that is being set right may gain in it: the store counts by one.
const WINDOW: Duration = Duration::from_millis(999);

/// How demand comes: a burst, so that the replicas borrow as much ahead as they may; in the next
/// sub-bucket a few requests more, for which they borrow; then silence, and then everything.
#[derive(Clone, Copy)]
struct Round {
    /// Some requests come all the time before, so that more than half of the limit is used; then what
    /// is lent lasts a sub-bucket. Otherwise up to five.
    steady: bool,
    /// How many milliseconds of its sub-bucket have gone when they borrow.
    borrows: u64,
    /// How many sub-buckets later everything is spent,
    later: u64,
    /// and how many milliseconds of that have passed: within them the fault admits too much.
    spends: u64,
}

/// The later replicas borrow, the later may it be spent. What is left until it may not is for the
/// burst, which takes longer on a busy machine.
const ROUNDS: [Round; 4] = [
    Round {
        steady: true,
        borrows: 88,
        later: 1,
        spends: 60,
    },
    Round {
        steady: false,
        borrows: 85,
        later: 5,
        spends: 55,
    },
    Round {
        steady: true,
        borrows: 75,
        later: 1,
        spends: 40,
    },
    Round {
        steady: false,
        borrows: 75,
        later: 5,
        spends: 45,
    },
];

/// When the sub-buckets of the store begin.
#[derive(Clone, Copy)]
struct Buckets {
    /// The first one; the others are counted from it.
    began: Instant,
}

/// A request that was admitted, surely not before it was sent nor after it was answered.
#[derive(Clone, Copy)]
struct Admitted {
    sent: Instant,
    answered: Instant,
}

/// A connection of a consumer.
struct Caller {
    index: usize,
    connection: Connection,
    key: String,
    admitted: Vec<Admitted>,
    refused: usize,
}

struct Consumer {
    buckets: Buckets,
    /// [`EACH`] to a replica, one replica after the other.
    callers: Vec<Caller>,
}

/// What became of some rounds.
#[derive(Debug, Default)]
struct Seen {
    /// Surely admitted within a second of one consumer, at most.
    most: usize,
    refused: usize,
    rounds: usize,
    /// How often another script was named.
    replaced: u64,
}

// === impl Buckets ===

impl Buckets {
    fn of(redis: &Redis) -> Result<Self> {
        let mut nearest: Option<(Duration, Instant)> = None;
        for _ in 0..8 {
            let asked = Instant::now();
            let time = redis.command(&["TIME"])?;
            let took = asked.elapsed();
            let micros = time.lines().nth(1).context("microseconds")?;
            let gone = Duration::from_micros(micros.parse::<u64>()? % (1_000 * TAU));
            let began = (asked + took / 2).checked_sub(gone);
            let began = began.context("a clock that runs for longer")?;
            if nearest.is_none_or(|(least, _)| took < least) {
                nearest = Some((took, began));
            }
        }
        let (_, began) = nearest.context("it was asked")?;
        Ok(Self { began })
    }

    /// When this number of milliseconds of that one has passed.
    fn at(self, bucket: u64, gone_ms: u64) -> Instant {
        self.began + Duration::from_millis(bucket * TAU + gone_ms)
    }

    /// The one that begins next.
    fn next(self) -> Result<u64> {
        Ok(u64::try_from(self.began.elapsed().as_millis())? / TAU + 1)
    }
}

// === impl Caller ===

impl Caller {
    /// Calls once; whether it was admitted.
    async fn call(&mut self) -> Result<bool> {
        let body = json!({
            "model": "gpt-5", "max_tokens": 1,
            "messages": [{"role": "user", "content": "Hi"}],
        });
        let body = body.to_string();
        let headers = [("api-key", self.key.as_str())];
        let path = "/v1/chat/completions";
        let sent = Instant::now();
        let answer = self.connection.post_json(path, &headers, body).await?;
        let answered = Instant::now();
        match answer.status {
            200 => self.admitted.push(Admitted { sent, answered }),
            429 => self.refused += 1,
            status => bail!("{status}: {}", answer.text()),
        }
        Ok(answer.status == 200)
    }

    /// Calls one after the other, until it is refused or has called so often.
    async fn calls(mut self, times: usize) -> Result<Self> {
        for _ in 0..times {
            if !self.call().await? {
                break;
            }
        }
        Ok(self)
    }
}

// === impl Consumer ===

impl Consumer {
    async fn open(name: &str, replicas: &[Replica], buckets: Buckets) -> Result<Self> {
        let mut callers = Vec::new();
        for index in 0..EACH * replicas.len() {
            callers.push(Caller {
                index,
                connection: Connection::open(&replicas[index / EACH].gateway).await?,
                key: format!("{name}-key"),
                admitted: Vec::new(),
                refused: 0,
            });
        }
        Ok(Self { buckets, callers })
    }

    /// This number of callers of each replica call at the same time, this often each, unless refused.
    async fn call(&mut self, of_each: usize, times: usize) -> Result<()> {
        let (calling, mut back): (Vec<_>, Vec<_>) = std::mem::take(&mut self.callers)
            .into_iter()
            .partition(|caller| caller.index % EACH < of_each);
        let mut running: JoinSet<_> = calling
            .into_iter()
            .map(|caller| caller.calls(times))
            .collect();
        while let Some(caller) = running.join_next().await {
            back.push(caller??);
        }
        self.callers = back;
        Ok(())
    }

    async fn play(&mut self, round: Round) -> Result<()> {
        let buckets = self.buckets;
        // Nothing is lent ahead within a second of a refusal, and what was spent counts for 1.2 s.
        let first = buckets.next()? + 2;
        let (burst, borrows) = (first + 10, first + 11);
        for bucket in first..burst {
            if round.steady {
                sleep_until(buckets.at(bucket, 45)).await;
                self.call(1, 1).await?;
            }
        }
        // What is lent in a burst lasts a sub-bucket.
        sleep_until(buckets.at(burst, 45)).await;
        self.call(EACH, if round.steady { 4 } else { 2 }).await?;
        if !round.steady {
            // What is lent beside a request that waits for it lasts a sub-bucket too; for those that
            // come now more is lent before it is missing.
            sleep_until(buckets.at(borrows, 30)).await;
            self.call(1, 1).await?;
        }
        sleep_until(buckets.at(borrows, round.borrows)).await;
        self.call(if round.steady { 1 } else { EACH }, 1).await?;

        sleep_until(buckets.at(borrows + round.later, round.spends)).await;
        let end = Instant::now() + WINDOW;
        self.spend().await?;
        loop {
            // Use expires when a sub-bucket begins. A replica learns of it when its last answer
            // expires, which is some milliseconds late.
            let next = buckets.next()?;
            for gone_ms in [4, 16, 32] {
                if buckets.at(next, gone_ms) >= end {
                    return Ok(());
                }
                sleep_until(buckets.at(next, gone_ms)).await;
                self.spend().await?;
            }
        }
    }

    /// All call until they are refused.
    async fn spend(&mut self) -> Result<()> {
        self.call(EACH, LIMIT).await
    }

    /// The most that was surely admitted within a second.
    fn most(&self) -> usize {
        let callers = self.callers.iter();
        let mut admitted: Vec<Admitted> = callers
            .flat_map(|caller| caller.admitted.iter().copied())
            .collect();
        admitted.sort_by_key(|one| one.sent);
        let from = |first: usize| {
            let end = admitted[first].sent + WINDOW;
            let sent = admitted[first..].iter().take_while(|one| one.sent < end);
            sent.filter(|one| one.answered < end).count()
        };
        (0..admitted.len()).map(from).max().unwrap_or(0)
    }

    /// Plays this number of rounds, from that one on, or until more than `limit` is admitted.
    async fn rounds(mut self, from: usize, count: usize, limit: usize) -> Result<Seen> {
        let mut seen = Seen::default();
        for round in ROUNDS.into_iter().cycle().skip(from).take(count) {
            self.play(round).await?;
            seen.rounds += 1;
            seen.most = self.most();
            if seen.most > limit {
                break;
            }
        }
        seen.refused = self.callers.iter().map(|caller| caller.refused).sum();
        Ok(seen)
    }
}

/// What consumers see of replicas that run `script`, each in this number of rounds, or until one is admitted
/// more than its limit.
async fn play(count: usize, script: &str, rounds: usize) -> Result<Seen> {
    let redis = Redis::start()?;
    let load = |text: &str| redis.command(&["SCRIPT", "LOAD", text]);
    let relay = Relay::start(redis.port(), &load(SCRIPT)?, &load(script)?).await?;
    let store = format!("redis://127.0.0.1:{}", relay.port());
    let limit = LIMIT * count;
    let limits = format!("{{name: calls, unit: Requests, limit: {limit}, window: Second}}");
    let quotas = CONSUMERS.map(|name| quota(name, "Deny", &limits)).concat();
    let (more, simulator) = (["--no-access-log"], ["--record", "0"]);
    let replicas = start(count, &store, &quotas, &more, &simulator).await?;
    let buckets = Buckets::of(&redis)?;
    let mut playing = JoinSet::new();
    for (index, name) in CONSUMERS.into_iter().enumerate() {
        let consumer = Consumer::open(name, replicas.all(), buckets).await?;
        let begins = Instant::now() + APART * u32::try_from(index)?;
        playing.spawn(async move {
            sleep_until(begins).await;
            consumer.rounds(index, rounds, limit).await
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = playing.join_next().await {
        let seen = seen??;
        all.most = all.most.max(seen.most);
        all.refused += seen.refused;
        all.rounds += seen.rounds;
        if seen.most > limit {
            break;
        }
    }
    all.replaced = relay.replaced();
    ensure!(all.replaced > 0, "tundish was built with another script");
    ensure!(all.refused > 0, "the limit was not reached: {all:?}");
    println!("{count} replicas: {all:?} of {limit}");
    Ok(all)
}

/// The true script, through the same relay, is never found guilty.
async fn is_found_out(replicas: usize) -> Result<()> {
    let _turn = alone().await;
    let faulty = SCRIPT.replacen(BEFORE, &format!("{FAULT}  {BEFORE}"), 1);
    assert_ne!(faulty, SCRIPT, "no such line: {BEFORE}");
    let limit = LIMIT * replicas;
    let seen = play(replicas, SCRIPT, 2).await?;
    assert!(seen.most <= limit, "the true script: {seen:?} of {limit}");
    // Mostly the first round is enough.
    let seen = play(replicas, &faulty, 8).await?;
    assert!(seen.most > limit, "a sub-bucket less: {seen:?} of {limit}");
    Ok(())
}

#[tokio::test]
async fn one_sub_bucket_too_few_is_found_out_by_what_a_replica_admits() -> Result<()> {
    is_found_out(1).await
}

#[tokio::test]
async fn one_sub_bucket_too_few_is_found_out_by_what_three_replicas_admit() -> Result<()> {
    is_found_out(3).await
}
