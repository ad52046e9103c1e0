//! The world around the replicas: requests, the network, clocks and accidents, in the order of a
//! seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proxy_core::quota::{Limit, OnStoreLoss, Period, TimeZone, Unit, Window};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::{Flaw, Model, Outcome};
use crate::recount::{Entry, Recount, count, counted, fraction, pick, reported};
use crate::replica::{Call, Fate, Next, Replica};

/// When the story begins, in milliseconds since the Unix epoch: 20 s before a full hour.
const START: i64 = 1_800_000_000_000 - 20_000;
/// How often replicas look after their counters.
const TICK: i64 = 250;
/// How long they wait for an answer.
const ANSWER: i64 = 250;
/// How long a replica counts after its last call.
const COUNTED: i64 = 2_000;
/// How old the totals may be that replicas know when the store goes away: a look after 750 ms, a tick, and
/// the way to the store and back.
const STALE: i64 = 750 + TICK + 10;
/// Nothing bad happens before all replicas know each other.
const QUIET: i64 = 2_000;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accidents {
    /// Nothing.
    None,
    /// Requests use more than they had reserved.
    Overuse,
    /// Calls and answers are lost or late, clocks are wrong and jump, replicas pause, die and restart,
    /// and the store is away for a while. Meanwhile everything is refused (`Deny`).
    All,
    /// The store is away for a while, replicas die and start, and each enforces its share (`Share`).
    Outages,
    /// The store comes back empty (`Share`).
    DataLoss,
}

/// A story.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// What may happen.
    pub accidents: Accidents,
    /// A planted fault of the store.
    pub flaw: Flaw,
}

/// The findings of a story.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first breach of a bound.
    pub breach: Option<String>,
    /// Requests.
    pub admitted: u64,
    /// Requests.
    pub refused: u64,
    /// Requests that got no answer: their replica died.
    pub lost: u64,
    /// Calls to the store.
    pub calls: u64,
    /// The largest part of the first limit that a window, or a moment, held.
    pub peak: f64,
}

#[derive(Debug)]
enum Event {
    Arrives(usize),
    AtStore(usize, u64, u64, Call),
    Answered(usize, u64, u64, Call, Outcome, (i64, String, u64)),
    GivenUp(usize, u64, u64, Call),
    Repeats(usize, u64, Call),
    Recalled(usize, u64, usize),
    Settles(usize, u64, usize),
    Ticks(usize, u64),
    Dies(usize),
    Pauses(usize, i64),
    WallJumps(usize, i64),
    StoreLeaves(i64, bool),
}

struct World {
    rng: StdRng,
    scenario: Scenario,
    limits: Vec<Limit>,
    largest: u64,
    whole_use: bool,
    replicas: Vec<Replica>,
    /// How often each replica has started: events for an earlier start are void.
    starts: Vec<u64>,
    store: Model,
    away_until: i64,
    /// Replicas that died while it was away, with what they had not reported.
    untold: u64,
    heard: BTreeMap<String, i64>,
    events: BinaryHeap<Reverse<(i64, u64)>>,
    pending: BTreeMap<u64, Event>,
    next: u64,
    /// Calls that were answered or given up.
    ended: std::collections::BTreeSet<u64>,
    /// What was admitted: when, how much it counts for each limit, and where it runs.
    log: Vec<Entry>,
    /// One for each limit.
    recounts: Vec<Recount>,
    found: Findings,
    now: i64,
    end: i64,
}

/// Lets the story of `scenario` happen.
#[must_use]
pub fn run(scenario: Scenario) -> Findings {
    let mut world = World::new(scenario);
    while let Some(Reverse((at, id))) = world.events.pop() {
        if at > world.end || world.found.breach.is_some() {
            break;
        }
        world.now = at;
        if let Some(event) = world.pending.remove(&id) {
            world.happens(event);
        }
    }
    world.found
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let (window, length) = match scenario.seed % 3 {
            0 => (Window::Second, 6_000),
            1 => (Window::Minute, 130_000),
            _ => (Window::Calendar(Period::Hour, TimeZone::UTC), 40_000),
        };
        let amount = *pick(&mut rng, &[60, 1_000, 9_000]);
        let largest = *pick(&mut rng, &[1, 8, 40]);
        let limit = |name: &str, unit, amount, window| Limit {
            name: name.into(),
            unit,
            amount,
            window,
        };
        let mut limits = vec![limit("tokens", Unit::Tokens, amount, window)];
        match rng.random_range(0..3) {
            0 => limits.push(limit("places", Unit::Concurrency, 12, Window::Held)),
            1 => limits.push(limit("requests", Unit::Requests, 150, Window::Second)),
            _ => {}
        }
        let replicas = rng.random_range(1..=5);
        let mut world = Self {
            scenario,
            largest,
            whole_use: rng.random(),
            replicas: Vec::new(),
            starts: vec![0; replicas],
            store: Model::with(scenario.flaw),
            away_until: 0,
            untold: 0,
            heard: BTreeMap::new(),
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next: 0,
            ended: std::collections::BTreeSet::new(),
            recounts: vec![Recount::default(); limits.len()],
            log: Vec::new(),
            limits,
            found: Findings::default(),
            now: START,
            end: START + length,
            rng,
        };
        for index in 0..replicas {
            let replica = world.started(index, world.on_loss());
            world.replicas.push(replica);
            let first = world.rng.random_range(0..TICK);
            world.later(first, Event::Ticks(index, 0));
            world.requests(index, length);
        }
        world.accidents(length);
        world
    }

    const fn on_loss(&self) -> OnStoreLoss {
        match self.scenario.accidents {
            Accidents::None | Accidents::Overuse | Accidents::All => OnStoreLoss::Deny,
            Accidents::Outages | Accidents::DataLoss => OnStoreLoss::Share,
        }
    }

    fn started(&mut self, index: usize, on_loss: OnStoreLoss) -> Replica {
        let monotonic = self.rng.random_range(1_000_000..9_000_000) - START;
        let wall = match self.scenario.accidents {
            Accidents::All => self.rng.random_range(-600_000..600_000),
            Accidents::None | Accidents::Overuse | Accidents::Outages | Accidents::DataLoss => 0,
        };
        let name = format!("{index}-{}", self.starts[index]);
        let known = (count(self.starts.len()), self.now);
        Replica::new(name, &self.limits, on_loss, (monotonic, wall), known)
    }

    /// Pulses of demand between pauses, some of them at the edges of sub-buckets.
    fn requests(&mut self, index: usize, length: i64) {
        let tau = i64::try_from(self.limits[0].window.lease_ms().min(1_000)).unwrap_or(1_000);
        let budget = self.limits[0].amount.saturating_mul(2) / self.largest.max(1);
        let mut at = 0;
        let mut made = 0;
        while at < length && made < 1_200 {
            at += self.rng.random_range(1..3 * tau);
            if self.rng.random_range(0..3) == 0 {
                at = (at / tau + 1) * tau + self.rng.random_range(-3..3);
            }
            let pulse = self.rng.random_range(1..=(budget / 6).clamp(2, 60));
            let within = self.rng.random_range(1..=tau);
            for _ in 0..pulse {
                let after = (at + self.rng.random_range(0..within)).max(0);
                self.later(after, Event::Arrives(index));
                made += 1;
            }
        }
    }

    fn accidents(&mut self, length: i64) {
        let kind = self.scenario.accidents;
        if matches!(kind, Accidents::None | Accidents::Overuse) {
            return;
        }
        let outages = if kind == Accidents::All { 2 } else { 1 };
        if kind == Accidents::Outages {
            for index in 0..self.starts.len() {
                if self.rng.random_range(0..3) == 0 {
                    let at = self.rng.random_range(QUIET..length);
                    self.later(at, Event::Dies(index));
                }
            }
        }
        for _ in 0..self.rng.random_range(0..=outages) {
            let at = self.rng.random_range(QUIET..length);
            let longest = if kind == Accidents::Outages && self.rng.random() {
                // Longer than the window, if that is rolling.
                length * 3 / 4
            } else {
                1_600
            };
            let lasts = self.rng.random_range(50..longest);
            self.later(at, Event::StoreLeaves(lasts, kind == Accidents::DataLoss));
        }
        if kind != Accidents::All {
            return;
        }
        for index in 0..self.starts.len() {
            for _ in 0..self.rng.random_range(0..3) {
                let at = self.rng.random_range(0..length);
                let event = match self.rng.random_range(0..4) {
                    0 => Event::Dies(index),
                    1 => Event::WallJumps(index, self.rng.random_range(-400_000..400_000)),
                    _ => Event::Pauses(index, self.rng.random_range(1..3_500)),
                };
                self.later(at, event);
            }
        }
    }

    fn later(&mut self, after: i64, event: Event) {
        self.next += 1;
        self.pending.insert(self.next, event);
        self.events.push(Reverse((self.now + after, self.next)));
    }

    /// Whether it waits until its replica runs again.
    fn is_held_up(&mut self, index: usize, event: Event) -> Option<Event> {
        let until = self.replicas[index].paused_until;
        if until > self.now {
            self.later(until - self.now, event);
            return None;
        }
        Some(event)
    }

    fn happens(&mut self, event: Event) {
        let owner = match &event {
            Event::Arrives(index)
            | Event::Answered(index, ..)
            | Event::GivenUp(index, ..)
            | Event::Repeats(index, ..)
            | Event::Recalled(index, ..)
            | Event::Settles(index, ..)
            | Event::Ticks(index, _) => Some(*index),
            Event::AtStore(..)
            | Event::Dies(_)
            | Event::Pauses(..)
            | Event::WallJumps(..)
            | Event::StoreLeaves(..) => None,
        };
        let Some(event) = (match owner {
            Some(index) => self.is_held_up(index, event),
            None => Some(event),
        }) else {
            return;
        };
        match event {
            Event::Arrives(index) => {
                let tokens = self.rng.random_range(1..=self.largest);
                self.arrives(index, tokens);
            }
            Event::AtStore(index, life, number, call) => self.at_store(index, life, number, call),
            Event::Answered(index, life, number, call, outcome, store) => {
                if life == self.starts[index] && self.ended.insert(number) {
                    self.answered(index, call, &outcome, &store);
                }
            }
            Event::Repeats(index, life, call) => {
                if life == self.starts[index] {
                    let call = self.replicas[index].again(&call, self.now);
                    self.send(index, Some(call));
                }
            }
            Event::Recalled(index, life, limit) => {
                if life == self.starts[index] {
                    let call = self.replicas[index].recalled(limit, self.now);
                    self.send(index, call);
                }
            }
            Event::GivenUp(index, life, number, call) => {
                if life == self.starts[index] && self.ended.insert(number) {
                    self.replicas[index].unanswered(&call);
                    self.replicas[index].open = false;
                    self.again(index);
                }
            }
            Event::Settles(index, life, entry) => self.settles(index, life, entry),
            Event::Ticks(index, life) => {
                if life == self.starts[index] {
                    let call = self.replicas[index].ticks(self.now);
                    self.send(index, Some(call));
                    self.later(TICK, Event::Ticks(index, life));
                }
            }
            Event::Dies(index) => {
                self.found.lost += count(self.replicas[index].queue.len());
                self.starts[index] += 1;
                self.untold += u64::from(self.now < self.away_until);
                let replica = self.started(index, self.on_loss());
                self.replicas[index] = replica;
                self.later(TICK, Event::Ticks(index, self.starts[index]));
            }
            Event::Pauses(index, lasts) => self.replicas[index].paused_until = self.now + lasts,
            Event::WallJumps(index, by) => self.replicas[index].wall_ahead += by,
            Event::StoreLeaves(lasts, empties) => self.store_leaves(lasts, empties),
        }
    }

    fn store_leaves(&mut self, lasts: i64, empties: bool) {
        self.away_until = self.now + lasts;
        for recount in &mut self.recounts {
            let moved = recount.moved.iter();
            let late = moved.filter(|(at, _)| *at >= self.now - STALE);
            recount.unknown = late.map(|(_, amount)| amount).sum();
        }
        if empties {
            self.store.empty();
        }
    }

    fn arrives(&mut self, index: usize, tokens: u64) {
        match self.replicas[index].arrives(tokens, self.now) {
            Fate::Admitted(taken) => {
                self.found.admitted += 1;
                self.log.push(Entry {
                    at: self.now,
                    counts: tokens,
                    excess: 0,
                    taken: Some(taken),
                });
                let lasts = self.rng.random_range(0..900);
                let number = self.log.len() - 1;
                self.later(lasts, Event::Settles(index, self.starts[index], number));
                for (recount, limit) in self.recounts.iter_mut().zip(&self.limits) {
                    recount.sum += counted(limit, tokens);
                }
                self.check();
                let ahead = self.replicas[index].borrows_ahead(self.now);
                self.send(index, ahead);
            }
            Fate::Refused => self.found.refused += 1,
            Fate::Waits(call) => self.send(index, call),
        }
    }

    fn answered(
        &mut self,
        index: usize,
        call: Call,
        outcome: &Outcome,
        store: &(i64, String, u64),
    ) {
        let store = (store.0, store.1.as_str(), store.2);
        match self.replicas[index].answered(&call, outcome, store, self.now) {
            Next::Nothing => {}
            Next::Reports(call) => self.send(index, Some(call)),
            Next::Again(pause) => {
                self.later(pause, Event::Repeats(index, self.starts[index], call));
                return;
            }
        }
        self.again(index);
    }

    /// Those who waited for an answer.
    fn again(&mut self, index: usize) {
        for tokens in self.replicas[index].waiting() {
            self.arrives(index, tokens);
        }
    }

    fn send(&mut self, index: usize, call: Option<Call>) {
        let Some(call) = call else { return };
        self.next += 1;
        let (number, life) = (self.next, self.starts[index]);
        self.later(ANSWER, Event::GivenUp(index, life, number, call.clone()));
        if self.is_lost() {
            return;
        }
        let travels = self.travel();
        self.later(travels, Event::AtStore(index, life, number, call));
    }

    /// Recalls from all replicas but one, which lacks what they may hold.
    fn recall(&mut self, by: usize, limit: usize) {
        for index in (0..self.starts.len()).filter(|index| *index != by) {
            if !self.is_lost() {
                let travels = self.travel();
                self.later(travels, Event::Recalled(index, self.starts[index], limit));
            }
        }
    }

    /// Whether something on its way gets lost.
    fn is_lost(&mut self) -> bool {
        self.scenario.accidents == Accidents::All && self.rng.random_range(0..200) == 0
    }

    fn travel(&mut self) -> i64 {
        let hostile = self.scenario.accidents == Accidents::All;
        match self.rng.random_range(0..100) {
            0 if hostile => self.rng.random_range(0..400),
            1..4 if hostile => self.rng.random_range(0..60),
            _ => self.rng.random_range(0..2),
        }
    }

    fn at_store(&mut self, index: usize, life: u64, number: u64, call: Call) {
        if self.now < self.away_until {
            return;
        }
        self.found.calls += 1;
        let name = format!("{index}-{life}");
        self.heard.insert(name.clone(), self.now + COUNTED);
        self.heard.retain(|_, until| *until > self.now);
        let replicas = count(self.heard.len());
        // What the replica sent does not change on its way, except that its clocks are read here.
        let items = self.replicas[index].items(&call, self.now);
        let outcome = self
            .store
            .call(&name, &call.epoch, replicas, &items, self.now);
        let epoch = self
            .store
            .epoch
            .clone()
            .map_or(String::new(), |(name, _)| name);
        if let Outcome::Done(answers, _) = &outcome {
            for (&limit, answer) in call.indexes.iter().zip(answers) {
                if answer.elsewhere > 0 {
                    self.recall(index, limit);
                }
                let moved = answer.granted + reported(&call.asks, &call.indexes, limit);
                self.recounts[limit].moved.push((self.now, moved));
            }
        }
        if self.is_lost() {
            return;
        }
        let travels = self.travel();
        let store = (self.now, epoch, replicas);
        let event = Event::Answered(index, life, number, call, outcome, store);
        self.later(travels, event);
    }

    fn settles(&mut self, index: usize, life: u64, number: usize) {
        let entry = &mut self.log[number];
        let Some(taken) = entry.taken.take() else {
            return;
        };
        let before = entry.counts;
        let starts = life == self.starts[index];
        // If its replica is gone it counts whole.
        let most = if self.scenario.accidents == Accidents::Overuse {
            3 * before
        } else {
            before
        };
        if starts && !self.whole_use {
            entry.counts = self.rng.random_range(0..=most);
        }
        let counts = entry.counts;
        entry.excess = counts.saturating_sub(before);
        for (recount, limit) in self.recounts.iter_mut().zip(&self.limits) {
            if limit.window == Window::Held {
                recount.sum -= 1;
            } else if number >= recount.from {
                recount.sum = recount.sum + counted(limit, counts) - counted(limit, before);
                if limit.unit == Unit::Tokens {
                    recount.excess += self.log[number].excess;
                }
            }
        }
        if starts {
            self.replicas[index].settles(taken, counts, self.now);
        }
    }

    /// Recounts every limit from the log.
    fn check(&mut self) {
        let replicas = count(self.starts.len());
        for (index, limit) in self.limits.iter().enumerate() {
            let since = match &limit.window {
                Window::Second => self.now - 1_000,
                Window::Minute => self.now - 60_000,
                Window::Calendar(..) => self.now.div_euclid(3_600_000) * 3_600_000 - 1,
                Window::Held => i64::MIN,
            };
            let recount = &mut self.recounts[index];
            while self.log[recount.from].at <= since {
                recount.sum -= counted(limit, self.log[recount.from].counts);
                if limit.unit == Unit::Tokens {
                    recount.excess -= self.log[recount.from].excess;
                }
                recount.from += 1;
            }
            let held = recount.sum;
            let bound = match self.scenario.accidents {
                Accidents::None | Accidents::All => limit.amount,
                Accidents::Overuse => limit.amount + recount.excess,
                Accidents::Outages | Accidents::DataLoss => {
                    // Once the store is back, some replicas still use their parts, while others
                    // have grants; what the dead ones have used is not known.
                    let parts = if self.now >= self.away_until {
                        replicas - 1 + self.untold
                    } else {
                        0
                    };
                    let unknown = recount.unknown * (replicas - 1) / replicas;
                    limit.amount + parts * limit.amount / replicas + unknown
                }
            };
            if index == 0 {
                let part = fraction(held) / fraction(limit.amount);
                self.found.peak = self.found.peak.max(part);
            }
            if held > bound && self.found.breach.is_none() {
                self.found.breach = Some(format!(
                    "{} holds {held} of {} (bound {bound}) after {} ms: {:?}",
                    limit.name,
                    limit.amount,
                    self.now - START,
                    self.scenario
                ));
            }
        }
    }
}
