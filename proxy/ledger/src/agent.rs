//! Carries calls to the store and answers back, keeps the connection, and tends the counters without
//! requests: grants that they no longer use are returned.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use proxy_core::quota::{RoundTrip, repeats_after};
use redis::Script;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use crate::ledger::Ledger;
use crate::link::Link;
use crate::looks::Looks;
use crate::metrics::{Metrics, StoreMetrics};
use crate::recall::Recall;
use crate::script::{self, Caller, Item, Outcome, Reply};
use crate::slot::Slot;
use crate::store::{Asked, Call, Phase, Store, StoreConfig};

/// How often counters without requests are tended.
const TICK: Duration = Duration::from_millis(250);
/// After this silence the agent pings the store: with a tick and the wait for an answer, a loss is
/// noticed within 0.9 s.
const SILENT: Duration = Duration::from_millis(400);
/// How often a replica registers; the store forgets one that was silent for 2 s.
const COUNT: Duration = Duration::from_millis(500);
/// Longest wait for an answer. Then the store is away.
const ANSWER: Duration = Duration::from_millis(250);
/// Connecting may take longer: TLS, Sentinels, the nodes of a cluster.
const CONNECT: Duration = Duration::from_millis(1_000);
/// Most counters of one call, which takes the store about 2 ms.
const BATCH: usize = 64;
/// Longest wait for the returns at shutdown. What is not returned by then expires.
const FAREWELL: Duration = Duration::from_millis(1_000);
/// The store's side of a replica; runs until the shutdown.
pub struct Agent {
    ledger: Arc<Ledger>,
    config: StoreConfig,
    store: Arc<Store>,
    calls: mpsc::Receiver<Call>,
    metrics: StoreMetrics,
    script: Arc<Script>,
    /// The counters that the store knows, by their keys there.
    lent: HashMap<String, Arc<Slot>>,
    /// The epoch of the store's data; empty before the first answer.
    epoch: Arc<str>,
    looks: Looks,
    /// When the store last answered, and when it last counted the replicas.
    answered: Option<Instant>,
    counted: Option<Instant>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A call that was sent, with its answer or the reason why there is none.
struct Returned {
    call: Call,
    /// How often it was repeated.
    repeats: usize,
    trip: RoundTrip,
    took: Duration,
    reply: Result<Reply, String>,
}

/// What follows an answer.
enum Next {
    Nothing,
    /// The store's data has a new epoch.
    Begins(String),
    /// Repeat the call after a pause: other replicas were asked to return what they do not use.
    Again {
        call: Call,
        repeats: usize,
        pause: Duration,
    },
}

/// Why a connection is given up.
enum Lost {
    /// The process stops.
    Stopped,
    /// The store misbehaves, or the connection broke.
    Broken(String),
}

impl Agent {
    /// A ledger whose counters a shared store lends, and the agent that carries its calls.
    #[must_use]
    pub fn new(config: StoreConfig, metrics: &Metrics) -> (Arc<Ledger>, Self) {
        let (store, calls) = Store::new();
        let ledger = Arc::new(Ledger::with_store(metrics, Some(Arc::clone(&store))));
        metrics.store.up.show();
        // Unique per process: the grants of an earlier process are not ours.
        let replica = format!("{}-{:08x}", config.replica, rand::random::<u32>());
        let agent = Self {
            ledger: Arc::clone(&ledger),
            config: StoreConfig { replica, ..config },
            store,
            calls,
            metrics: metrics.store.clone(),
            script: Arc::new(Script::new(script::TEXT)),
            lent: HashMap::new(),
            epoch: "".into(),
            looks: Looks::default(),
            answered: None,
            counted: None,
        };
        (ledger, agent)
    }

    /// Connects, serves and reconnects until `shutdown`; then returns the unused grants.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut logged = String::new();
        loop {
            let opened = tokio::select! {
                () = shutdown.requested() => return,
                opened = self.open() => opened,
            };
            let broken = match opened {
                Ok((link, mut recalls)) => {
                    info!(address = %self.config.address, "quota store connected");
                    logged.clear();
                    match self.serve(&link, &mut recalls, &mut shutdown).await {
                        Lost::Stopped => return self.farewell(&link).await,
                        Lost::Broken(why) => {
                            self.metrics.losses.inc();
                            why
                        }
                    }
                }
                Err(why) => why,
            };
            self.leave();
            (self.answered, self.counted) = (None, None);
            if logged != broken {
                let address = &self.config.address;
                warn!(%address, error = %broken, "quota store lost; limits follow onStoreLoss");
                logged = broken;
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = sleep(TICK) => {}
            }
            self.drop_calls();
        }
    }

    async fn open(&self) -> Result<(Link, mpsc::Receiver<Recall>), String> {
        let Self { config, .. } = self;
        let (address, ca_file) = (&config.address, config.ca_file.as_deref());
        let opened = Link::open(address, ca_file, &config.prefix, CONNECT);
        match timeout(CONNECT, opened).await {
            Ok(link) => link.map_err(|error| error.to_string()),
            Err(_elapsed) => Err("no connection in time".to_owned()),
        }
    }

    fn leave(&mut self) {
        self.store.enter(Phase::Away);
        self.metrics.up.set(false);
        self.drop_calls();
    }

    fn drop_calls(&mut self) {
        while let Ok(call) = self.calls.try_recv() {
            call.fail();
        }
    }

    async fn serve(
        &mut self,
        link: &Link,
        recalls: &mut mpsc::Receiver<Recall>,
        shutdown: &mut Shutdown,
    ) -> Lost {
        let mut sent: FuturesUnordered<BoxFuture<'static, Returned>> = FuturesUnordered::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = loop {
            tokio::select! {
                biased;
                Some(returned) = sent.next() => {
                    match self.returned(returned) {
                        Ok(Next::Nothing) => {}
                        Ok(Next::Begins(epoch)) => {
                            for call in self.begin(&epoch) {
                                sent.push(self.send(call, link));
                            }
                        }
                        Ok(Next::Again { call, repeats, pause }) => {
                            sent.push(self.send_after(pause, call, repeats, link));
                        }
                        Err(why) => break Lost::Broken(why),
                    }
                }
                Some(call) = self.calls.recv() => sent.push(self.send(call, link)),
                Some(recall) = recalls.recv() => {
                    if let Some(call) = self.recalled(&recall) {
                        sent.push(self.send(call, link));
                    }
                }
                _ = ticks.tick() => {
                    for call in self.round() {
                        sent.push(self.send(call, link));
                    }
                }
                () = shutdown.requested() => break Lost::Stopped,
            }
        };
        // Requests no longer wait for these, but each counter must learn whether its call was answered.
        if let Lost::Broken(_) = lost {
            self.store.enter(Phase::Away);
        }
        while let Some(returned) = sent.next().await {
            match returned.reply {
                Ok(Reply {
                    outcome: Outcome::Done(answers, without_grants_ms),
                    ..
                }) => {
                    let settling = without_grants_ms > 0;
                    let trip = RoundTrip {
                        settling,
                        ..returned.trip
                    };
                    returned.call.answered(answers, trip);
                }
                Ok(_) | Err(_) => returned.call.fail(),
            }
        }
        lost
    }

    /// The calls that are due without a request; a call without counters is a ping, after a silence.
    fn round(&mut self) -> Vec<Call> {
        let now = clock::now();
        let replicas = self.store.replicas();
        let mut asked = Vec::new();
        let mut unlisted = false;
        // Taken out of the lock: requests list counters while they hold the counters' own locks.
        let mut listed = std::mem::take(&mut *self.store.listed.lock());
        listed.retain(|slot| {
            let (due, keep) = slot.tend(replicas, &mut self.looks, now);
            unlisted |= !keep;
            asked.extend(due.map(|(limit, ask)| Asked {
                slot: Arc::clone(slot),
                limit,
                ask,
            }));
            keep
        });
        self.looks.renew();
        self.store.listed.lock().append(&mut listed);
        if unlisted {
            self.lent.retain(|_, slot| slot.is_listed());
        }
        if asked.is_empty() && is_past(self.answered, SILENT) && self.calls.is_empty() {
            return vec![Call(Vec::new())];
        }
        batches(asked)
    }

    /// The return that another replica asks for.
    fn recalled(&self, recall: &Recall) -> Option<Call> {
        if recall.by == self.config.replica {
            return None;
        }
        let key = script::without_prefix(&recall.key, &self.config.prefix)?;
        let slot = self.lent.get(key)?;
        let (limit, ask) = slot.recall(clock::now())?;
        self.metrics.recalls.inc();
        Some(Call(vec![Asked {
            slot: Arc::clone(slot),
            limit,
            ask,
        }]))
    }

    fn send(&mut self, call: Call, link: &Link) -> BoxFuture<'static, Returned> {
        self.send_after(Duration::ZERO, call, 0, link)
    }

    fn send_after(
        &mut self,
        pause: Duration,
        call: Call,
        repeats: usize,
        link: &Link,
    ) -> BoxFuture<'static, Returned> {
        let counts = is_past(self.counted, COUNT);
        if counts {
            self.counted = Some(clock::instant());
        }
        let unix_ms = self.store.unix_ms();
        let item = |asked: &Asked| Item {
            key: asked.slot.store_key(&asked.limit),
            amount: asked.limit.amount,
            window: asked.limit.window.in_store(unix_ms),
            ask: asked.ask.clone(),
        };
        let items: Vec<Item> = call.0.iter().map(item).collect();
        for (item, asked) in items.iter().zip(&call.0) {
            self.lent.insert(item.key.clone(), Arc::clone(&asked.slot));
        }
        let (mut link, script) = (link.clone(), Arc::clone(&self.script));
        let (prefix, replica) = (self.config.prefix.clone(), self.config.replica.clone());
        let (epoch, replicas) = (Arc::clone(&self.epoch), self.store.replicas());
        Box::pin(async move {
            let caller = Caller {
                prefix: &prefix,
                replica: &replica,
                epoch: &epoch,
                counts,
                replicas,
            };
            let invocation = caller.fill(&script, &items);
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let started = clock::instant();
            let sent_ms = clock::now().monotonic_ms;
            let answer = timeout(ANSWER, link.invoke(&invocation)).await;
            let received_ms = clock::now().monotonic_ms;
            let reply = match answer {
                Err(_elapsed) => Err("no answer in time".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(value)) => Reply::read(&value, &items)
                    .ok_or_else(|| "the answer cannot be read".to_owned()),
            };
            Returned {
                call,
                repeats,
                trip: RoundTrip {
                    sent_ms,
                    received_ms,
                    settling: false,
                },
                took: clock::instant().saturating_duration_since(started),
                reply,
            }
        })
    }

    /// Passes an answer on to its counters.
    ///
    /// # Errors
    /// The store is away.
    fn returned(&mut self, returned: Returned) -> Result<Next, String> {
        let Returned {
            call,
            repeats,
            trip,
            took,
            reply,
        } = returned;
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => {
                self.metrics.called("failed");
                // Before the counters learn it: a request that asks again must see the store away.
                self.store.enter(Phase::Away);
                call.fail();
                return Err(why);
            }
        };
        self.metrics.called("answered");
        self.answered = Some(clock::instant());
        self.metrics.duration.observe(took.as_secs_f64());
        let now = clock::now();
        self.store.touch(now);
        let ahead = reply.unix_ms.saturating_sub(now.unix_ms);
        self.store.ahead_ms.store(ahead, Ordering::Relaxed);
        self.store.counted.store(reply.replicas, Ordering::Relaxed);
        self.metrics
            .replicas
            .set(i64::try_from(reply.replicas).unwrap_or(i64::MAX));
        match reply.outcome {
            Outcome::Done(answers, without_grants_ms) => {
                if let Some(pause_ms) = repeats_after(&answers, repeats) {
                    return Ok(Next::Again {
                        call: call.again(),
                        repeats: repeats.saturating_add(1),
                        pause: Duration::from_millis(pause_ms),
                    });
                }
                let settling = without_grants_ms > 0;
                call.answered(answers, RoundTrip { settling, ..trip });
                let phase = if settling {
                    Phase::Settling
                } else {
                    Phase::Open
                };
                if self.store.phase() != phase {
                    self.metrics.up.set(true);
                    self.store.enter(phase);
                }
            }
            Outcome::OtherPeriod => call.fail(),
            Outcome::OtherEpoch => {
                call.fail();
                if *self.epoch != *reply.epoch {
                    return Ok(Next::Begins(reply.epoch));
                }
            }
        }
        Ok(Next::Nothing)
    }

    /// Adopts a new epoch of the data. Earlier grants are void, and the use of this replica is reported
    /// again.
    fn begin(&mut self, epoch: &str) -> Vec<Call> {
        if !self.epoch.is_empty() {
            warn!("the quota store has lost its data; reporting what was used here");
        }
        self.store.enter(Phase::Settling);
        self.epoch = epoch.into();
        let now = clock::now();
        let reports = self.ledger.slots().into_iter().filter_map(|slot| {
            let (limit, ask) = slot.retell(now)?;
            Some(Asked { slot, limit, ask })
        });
        let calls = batches(reports.collect());
        if calls.is_empty() {
            // Only a call under the new epoch opens the store again.
            return vec![Call(Vec::new())];
        }
        calls
    }

    /// Returns the unused grants, so that others need not wait until they expire.
    async fn farewell(&mut self, link: &Link) {
        self.store.enter(Phase::Away);
        let now = clock::now();
        let slots = std::mem::take(&mut *self.store.listed.lock());
        let reports = slots.into_iter().filter_map(|slot| {
            let (limit, ask) = slot.surrender(now)?;
            Some(Asked { slot, limit, ask })
        });
        let calls: FuturesUnordered<_> = batches(reports.collect())
            .into_iter()
            .map(|call| self.send(call, link))
            .collect();
        if timeout(FAREWELL, calls.collect::<Vec<_>>()).await.is_err() {
            warn!("unused grants were not returned to the quota store; they will expire");
        }
    }
}

/// Whether `time` has passed since `then`.
fn is_past(then: Option<Instant>, time: Duration) -> bool {
    then.is_none_or(|then| clock::instant().saturating_duration_since(then) >= time)
}

fn batches(asked: Vec<Asked>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for asked in asked {
        if calls.last().is_none_or(|call| call.0.len() >= BATCH) {
            calls.push(Call(Vec::new()));
        }
        if let Some(call) = calls.last_mut() {
            call.0.push(asked);
        }
    }
    calls
}
