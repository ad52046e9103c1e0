//! The store's script on a real Redis against its model, call by call.
//!
//! Windows are milliseconds long, so that buckets expire, periods end and leases run out within a
//! story.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_core::quota::{LeaseReport, LeaseRequest, Slice, StoreWindow};
use proxy_ledger::test_util::{ScriptCaller, ScriptItem, ScriptOutcome, StoreScript};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tests_quota::model::{Item, Outcome};
use tests_quota::{Flaw, Model};
use tests_support::{Redis, eventually_ok};
use tokio::time::Instant;

use crate::load::light;

const STORIES: u64 = 12;
const CALLS: usize = 120;
const REPLICAS: [&str; 3] = ["a", "b", "c"];

/// A counter of a story, and what was lent of it.
struct Counter {
    key: String,
    amount: u64,
    kind: Kind,
    granted: Vec<Slice>,
}

#[derive(Clone, Copy)]
enum Kind {
    Rolling {
        tau_ms: u64,
        buckets: u64,
        reach: u64,
    },
    /// Of periods of this number of milliseconds.
    Calendar(i64),
    Permits,
}

struct Story {
    rng: StdRng,
    counters: Vec<Counter>,
    model: Model,
    /// The life of the data as the script calls it.
    epoch: String,
    /// The server's clock, when it told it last.
    now: i64,
    turns: HashMap<&'static str, u64>,
    found: Found,
}

/// How many answers were of a kind: otherwise there is little to compare.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    granted: u64,
    /// For more than one sub-bucket.
    lasting: u64,
    refused: u64,
    /// While others held something.
    recalled: u64,
}

impl Story {
    fn new(seed: u64, model: Model) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut counters = Vec::new();
        for index in 0..6 {
            let kind = match index {
                0..3 => Kind::Rolling {
                    tau_ms: rng.random_range(3..40),
                    buckets: rng.random_range(3..14),
                    reach: rng.random_range(1..6),
                },
                3..5 => Kind::Calendar(rng.random_range(20..300)),
                _ => Kind::Permits,
            };
            counters.push(Counter {
                key: format!("{seed}-{index}"),
                amount: rng.random_range(1..200),
                kind,
                granted: Vec::new(),
            });
        }
        Self {
            rng,
            counters,
            model,
            epoch: String::new(),
            now: 0,
            turns: HashMap::new(),
            found: Found::default(),
        }
    }

    fn items(&mut self, replica: &'static str) -> Vec<(usize, ScriptItem)> {
        let mut items = Vec::new();
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if self.rng.random_bool(0.7) {
                continue;
            }
            if self.rng.random_bool(0.05) {
                counter.amount = self.rng.random_range(1..200);
            }
            let turn = self.turns.entry(replica).or_default();
            *turn += 1;
            let ask = ask(&mut self.rng, counter, self.now, *turn);
            let window = match counter.kind {
                Kind::Rolling {
                    tau_ms,
                    buckets,
                    reach,
                } => StoreWindow::Rolling {
                    tau_ms,
                    buckets,
                    reach,
                },
                Kind::Calendar(length) => StoreWindow::Calendar {
                    lease_ms: 50,
                    periods: periods(&mut self.rng, length, self.now),
                },
                Kind::Permits => StoreWindow::Permits { lease_ms: 60 },
            };
            let item = ScriptItem {
                key: counter.key.clone(),
                amount: counter.amount,
                window,
                ask,
            };
            items.push((index, item));
        }
        items
    }

    /// The life that a caller knows, as the script and as the model call it.
    fn known(&mut self) -> (String, String) {
        let model = self.model.epoch.as_ref();
        let model = model.map_or("before", |(epoch, _)| epoch).to_owned();
        match self.rng.random_range(0..60) {
            0 => (String::new(), String::new()),
            1 => ("1:1:unknown".to_owned(), "another".to_owned()),
            _ if self.epoch.is_empty() => (String::new(), String::new()),
            _ => (self.epoch.clone(), model),
        }
    }

    /// One call to both.
    async fn step(&mut self, script: &mut StoreScript, redis: &Redis) -> Result<Option<String>> {
        self.lose_data(redis).await?;
        if self.rng.random_bool(0.2) {
            // Time is what is tested here: buckets, periods and leases must end.
            let pause = Duration::from_millis(self.rng.random_range(1..30));
            tokio::time::sleep(pause).await;
        }
        let replica = REPLICAS[self.rng.random_range(0..REPLICAS.len())];
        let items = self.items(replica);
        let (known, model_known) = self.known();
        let caller = ScriptCaller {
            replica,
            epoch: &known,
            counts: self.rng.random_bool(0.2),
            replicas: self.rng.random_range(1..5),
        };
        let asked: Vec<ScriptItem> = items.iter().map(|(_, item)| item.clone()).collect();
        let reply = script.call(caller, &asked).await?;
        let reply = reply.context("an answer that can be read")?;
        self.now = reply.unix_ms;
        let told: Vec<Item> = asked
            .iter()
            .map(|item| Item {
                key: item.key.clone(),
                amount: item.amount,
                window: item.window.clone(),
                ask: item.ask.clone(),
            })
            .collect();
        let expected = self
            .model
            .call(replica, &model_known, reply.replicas, &told, reply.unix_ms);
        let expected = match expected {
            Outcome::Done(answers, grace) => ScriptOutcome::Done(answers, grace),
            Outcome::OtherEpoch => ScriptOutcome::OtherEpoch,
            Outcome::OtherPeriod => ScriptOutcome::OtherPeriod,
        };
        if reply.outcome != expected {
            return Ok(Some(format!(
                "the script {:#?}, the model {expected:#?}; asked at {} by {caller:?}: {asked:#?}",
                reply.outcome, reply.unix_ms
            )));
        }
        self.epoch = reply.epoch;
        if let ScriptOutcome::Done(answers, _) = reply.outcome {
            for ((index, item), answer) in items.iter().zip(answers) {
                self.found.granted += u64::from(answer.granted > 0);
                self.found.lasting += u64::from(answer.lasts > 1);
                self.found.refused += u64::from(answer.profile.is_some());
                self.found.recalled += u64::from(answer.elsewhere > 0);
                if answer.granted > 0 && !matches!(item.window, StoreWindow::Permits { .. }) {
                    self.counters[*index].granted.push(Slice {
                        at: answer.at,
                        amount: answer.granted,
                    });
                }
            }
        }
        Ok(None)
    }

    /// Now and then everything is gone, or only the name of its life, as when a key is evicted.
    async fn lose_data(&mut self, redis: &Redis) -> Result<()> {
        let lost = self.rng.random_range(0..100);
        if lost < 3 {
            // A life is named by the millisecond in which it begins.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        match lost {
            0 => {
                redis.command(&["FLUSHALL"])?;
                self.model.empty();
                self.forget_epoch();
            }
            1 | 2 => {
                redis.command(&["DEL", "{test}:epoch"])?;
                self.model.epoch = None;
                self.forget_epoch();
            }
            _ => {}
        }
        Ok(())
    }

    /// In most cases no replica remembers another epoch: a loss is reported as a loss, and nothing is
    /// granted for a second, only by those who do.
    fn forget_epoch(&mut self) {
        if self.rng.random_bool(0.8) {
            self.epoch.clear();
        }
    }
}

fn ask(rng: &mut StdRng, counter: &mut Counter, now: i64, turn: u64) -> LeaseRequest {
    let report = match counter.kind {
        Kind::Permits => {
            let stale = rng.random_bool(0.15);
            LeaseReport::Permits {
                held: rng.random_range(0..=counter.amount / 2),
                turn: if stale { turn.saturating_sub(3) } else { turn },
            }
        }
        Kind::Rolling { .. } | Kind::Calendar(_) => grants_report(rng, counter, now),
    };
    let mut ask = LeaseRequest::new(report);
    if rng.random_bool(0.6) {
        // Sometimes more than there is at all.
        ask.need = rng.random_range(0..=counter.amount + counter.amount / 8);
        ask.need /= rng.random_range(1..20);
        ask.want = ask.need + rng.random_range(0..=counter.amount);
    }
    if rng.random_bool(0.5) {
        ask.idle = rng.random_range(0..=counter.amount / 4);
    }
    ask.look = rng.random_range(0..24_u64).saturating_sub(14);
    ask
}

fn grants_report(rng: &mut StdRng, counter: &mut Counter, now: i64) -> LeaseReport {
    let mut returns = Vec::new();
    while rng.random_bool(0.3) && !counter.granted.is_empty() {
        let index = rng.random_range(0..counter.granted.len());
        let mut slice = counter.granted.swap_remove(index);
        // Returns that were sent before, or of another time, must not free anything.
        slice.amount = rng.random_range(0..=slice.amount);
        returns.push(slice);
    }
    if rng.random_bool(0.05) {
        let at = match counter.kind {
            Kind::Rolling { tau_ms, .. } => now / i64::try_from(tau_ms).unwrap_or(1),
            Kind::Calendar(_) | Kind::Permits => now,
        };
        returns.push(Slice {
            at: at + rng.random_range(-20..20),
            amount: rng.random_range(0..20),
        });
    }
    LeaseReport::Grants {
        returns,
        owed: if rng.random_bool(0.04) {
            rng.random_range(1..=counter.amount + counter.amount / 4)
        } else {
            0
        },
        lasts: rng.random_range(1..8),
    }
}

/// The period of `now` and its neighbours, the present one first; sometimes of another time.
fn periods(rng: &mut StdRng, length: i64, now: i64) -> Vec<(i64, i64)> {
    let wrong = if rng.random_bool(0.02) { 10_000 } else { 0 };
    let present = (now + wrong).div_euclid(length) * length;
    [0, -1, 1]
        .map(|offset| present + offset * length)
        .map(|start| (start, start + length))
        .to_vec()
}

/// The results of this number of histories, and the first difference.
async fn tell(seeds: u64, flaw: Flaw) -> Result<(Found, Option<String>)> {
    let redis = Redis::start()?;
    let mut script = StoreScript::connect(&redis.url()).await?;
    let mut found = Found::default();
    for seed in 0..seeds {
        redis.command(&["FLUSHALL"])?;
        let mut story = Story::new(seed, Model::with(flaw));
        for call in 0..CALLS {
            if let Some(difference) = story.step(&mut script, &redis).await? {
                let what = format!("call {call} of story {seed}: {difference}");
                return Ok((found, Some(what)));
            }
        }
        found.granted += story.found.granted;
        found.lasting += story.found.lasting;
        found.refused += story.found.refused;
        found.recalled += story.found.recalled;
    }
    Ok((found, None))
}

#[tokio::test]
async fn the_script_does_what_the_model_does() -> Result<()> {
    let _turn = light().await;
    let (found, difference) = tell(STORIES, Flaw::None).await?;
    println!("{STORIES} stories: {found:?}");
    assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    assert!(found.granted > 30 * STORIES, "{found:?}");
    assert!(found.lasting > 2 * STORIES, "{found:?}");
    assert!(found.refused > 20 * STORIES, "{found:?}");
    assert!(found.recalled > 5 * STORIES, "{found:?}");
    Ok(())
}

/// Otherwise the comparison would be blind.
#[tokio::test]
async fn a_model_with_one_sub_bucket_too_few_is_found_out() -> Result<()> {
    let _turn = light().await;
    let (_, difference) = tell(STORIES, Flaw::ShortRing).await?;
    assert!(difference.is_some());
    Ok(())
}

/// Otherwise nothing would expire whose place debt could take, and it would bar the limit for good.
#[tokio::test]
async fn what_is_given_back_pays_debt_first() -> Result<()> {
    let _turn = light().await;
    let redis = Redis::start()?;
    let mut script = StoreScript::connect(&redis.url()).await?;
    let mut epoch = String::new();
    let mut granted = async |ask: LeaseRequest| -> Result<Option<(u64, i64, u64)>> {
        let caller = ScriptCaller {
            replica: "a",
            epoch: &epoch,
            counts: false,
            replicas: 1,
        };
        let item = ScriptItem {
            key: "debt".to_owned(),
            amount: 100,
            window: StoreWindow::Rolling {
                tau_ms: 20,
                buckets: 12,
                reach: 1,
            },
            ask,
        };
        let reply = script.call(caller, &[item]).await?.context("an answer")?;
        epoch = reply.epoch;
        let ScriptOutcome::Done(answers, _) = reply.outcome else {
            return Ok(None);
        };
        let answer = answers.first().context("an answer for the counter")?;
        Ok(Some((answer.granted, answer.at, answer.used)))
    };
    let reports = |need: u64, owed: u64, returns: Vec<Slice>| {
        let mut ask = LeaseRequest::new(LeaseReport::Grants {
            returns,
            owed,
            lasts: 1,
        });
        (ask.need, ask.want) = (need, need);
        ask
    };
    let asks = |need: u64| reports(need, 0, Vec::new());
    granted(asks(1)).await?;
    let (all, at, _) = granted(asks(100)).await?.context("known by now")?;
    assert_eq!(all, 100);
    granted(reports(0, 200, Vec::new())).await?;
    let returns = vec![Slice { at, amount: 100 }];
    let (_, _, used) = granted(reports(0, 0, returns))
        .await?
        .context("known by now")?;
    assert_eq!(
        used, 200,
        "of what was used all counts, of what was returned nothing"
    );
    // 200 of 100 are worked off in two windows.
    let began = Instant::now();
    let windows = Duration::from_millis(20 * 12 * 5);
    eventually_ok("the debt is worked off", windows, async || {
        let (granted, _, used) = granted(asks(100)).await?.context("known by now")?;
        ensure!(granted == 100, "{used} are used");
        Ok(())
    })
    .await?;
    assert!(
        began.elapsed() >= Duration::from_millis(20 * 12 * 2 - 40),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}
