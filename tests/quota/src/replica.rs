//! A replica that reserves from what it has borrowed, as the gateway does, without network or threads.

use std::collections::VecDeque;

use proxy_core::names::{Moment, Usage};
use proxy_core::quota::{
    Backing, Cost, Counter, Entry, Escrow, LeaseRequest, Limit, Loss, Mode, OnStoreLoss,
    Reservation, RoundTrip, Shortfall, repeats_after, reserve,
};

use crate::model::{Item, Outcome};

/// A call to the store.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its counters, by index.
    pub indexes: Vec<usize>,
    /// The request of each.
    pub asks: Vec<LeaseRequest>,
    /// The epoch that was known when it was sent.
    pub epoch: String,
    /// By the replica's monotonic clock.
    pub sent_ms: u64,
    /// How often it was sent before.
    pub repeats: usize,
}

/// One replica.
#[derive(Debug)]
pub struct Replica {
    /// Unique to each start of the replica.
    pub name: String,
    /// Its monotonic clock less the true time, and its wall clock less the true time.
    pub monotonic_ahead: i64,
    /// May be far off, and jump.
    pub wall_ahead: i64,
    /// The store's clock less its own wall clock, as it knows it.
    store_ahead: i64,
    limits: Vec<Limit>,
    counters: Vec<Counter>,
    escrows: Vec<Escrow>,
    on_loss: OnStoreLoss,
    /// The epoch that it knows.
    pub epoch: String,
    /// It is connected, and may ask.
    pub open: bool,
    /// The number of replicas, as it knows it.
    pub replicas: u64,
    /// When the store last answered, or it started.
    contact: Moment,
    /// What each request asks that waits for an answer.
    pub queue: VecDeque<u64>,
    /// The end of its pause.
    pub paused_until: i64,
}

/// The fate of a request.
#[derive(Debug)]
pub enum Fate {
    /// It runs.
    Admitted(Vec<Reservation>),
    /// It was refused.
    Refused,
    /// It waits for an answer, perhaps of this call.
    Waits(Option<Call>),
}

/// What follows an answer.
#[derive(Debug)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// This call, at once.
    Reports(Call),
    /// The same call again after this many milliseconds: other replicas were asked to return grants.
    Again(i64),
}

impl Replica {
    /// A replica that has just started at the true time `now`.
    #[must_use]
    pub fn new(
        name: String,
        limits: &[Limit],
        on_loss: OnStoreLoss,
        clocks: (i64, i64),
        (replicas, now): (u64, i64),
    ) -> Self {
        let mut replica = Self {
            name,
            monotonic_ahead: clocks.0,
            wall_ahead: clocks.1,
            store_ahead: -clocks.1,
            limits: limits.to_vec(),
            counters: Vec::new(),
            escrows: limits.iter().map(Escrow::new).collect(),
            on_loss,
            epoch: String::new(),
            open: false,
            replicas,
            contact: Moment {
                monotonic_ms: 0,
                unix_ms: 0,
            },
            queue: VecDeque::new(),
            paused_until: 0,
        };
        let moment = replica.moment(now);
        replica.contact = moment;
        replica.counters = limits.iter().map(|l| Counter::new(l, moment)).collect();
        replica
    }

    /// What its clocks show at the true time `now`.
    #[must_use]
    pub fn moment(&self, now: i64) -> Moment {
        Moment {
            monotonic_ms: u64::try_from(now + self.monotonic_ahead).unwrap_or(0),
            unix_ms: now + self.wall_ahead,
        }
    }

    /// A request for `tokens` comes.
    pub fn arrives(&mut self, tokens: u64, now: i64) -> Fate {
        let moment = self.moment(now);
        let cost = cost(tokens);
        let loss = Loss {
            on: self.on_loss,
            replicas: self.replicas.max(1),
            contact: self.contact,
        };
        let mut entries: Vec<Entry<'_>> = self
            .limits
            .iter()
            .zip(&mut self.counters)
            .zip(&mut self.escrows)
            .map(|((limit, counter), escrow)| Entry {
                limit,
                mode: Mode::Enforce,
                counter,
                backing: if self.open {
                    Backing::Lent(escrow)
                } else {
                    Backing::Cut(escrow, loss)
                },
            })
            .collect();
        match reserve(&mut entries, &cost, moment) {
            Ok(taken) => Fate::Admitted(taken),
            Err(Shortfall::Exceeded(_)) => Fate::Refused,
            Err(Shortfall::Lacking(lacking)) => {
                if lacking.iter().any(|&index| self.escrows[index].is_asking()) {
                    for index in lacking {
                        self.escrows[index].wait_for(cost.of(self.limits[index].unit), true);
                    }
                    self.queue.push_back(tokens);
                    return Fate::Waits(None);
                }
                let mut call = self.call(moment);
                for index in 0..self.limits.len() {
                    let lacks = lacking.contains(&index);
                    if lacks || self.escrows[index].joins(self.replicas, moment) {
                        let need = if lacks {
                            cost.of(self.limits[index].unit)
                        } else {
                            0
                        };
                        call.add(
                            index,
                            self.escrows[index].request(need, self.replicas, moment),
                        );
                    }
                }
                self.queue.push_back(tokens);
                // The asking request is not part of the waiting sum: its need is in the call.
                Fate::Waits(Some(call))
            }
        }
    }

    /// Asks for grants ahead of need.
    pub fn borrows_ahead(&mut self, now: i64) -> Option<Call> {
        let moment = self.moment(now);
        let mut call = self.call(moment);
        let replicas = self.replicas;
        let low = |escrow: &Escrow| escrow.runs_low(replicas, moment);
        if !self.open || !self.escrows.iter().any(low) {
            return None;
        }
        for index in 0..self.limits.len() {
            if self.escrows[index].joins(replicas, moment) {
                call.add(index, self.escrows[index].request(0, self.replicas, moment));
            }
        }
        (!call.indexes.is_empty()).then_some(call)
    }

    /// The call of a tick: reports that are due, and a sign of life.
    pub fn ticks(&mut self, now: i64) -> Call {
        let moment = self.moment(now);
        let mut call = self.call(moment);
        for index in 0..self.limits.len() {
            let escrow = &mut self.escrows[index];
            let calls = escrow.is_asking() || escrow.is_busy(moment);
            let due =
                |escrow: &Escrow| escrow.is_active(600_000, moment) && escrow.is_look_due(moment);
            if !calls && (escrow.tidy(self.replicas, moment) || due(escrow)) {
                call.add(index, escrow.report(moment));
            }
        }
        call
    }

    fn call(&self, moment: Moment) -> Call {
        Call {
            indexes: Vec::new(),
            asks: Vec::new(),
            epoch: self.epoch.clone(),
            sent_ms: moment.monotonic_ms,
            repeats: 0,
        }
    }

    /// Another replica lacks what this one may hold of a counter.
    pub fn recalled(&mut self, index: usize, now: i64) -> Option<Call> {
        let moment = self.moment(now);
        let mut call = self.call(moment);
        if self.escrows[index].recall(moment) {
            call.add(index, self.escrows[index].report(moment));
        }
        (!call.indexes.is_empty()).then_some(call)
    }

    /// The call to send again.
    #[must_use]
    pub fn again(&self, call: &Call, now: i64) -> Call {
        Call {
            indexes: call.indexes.clone(),
            asks: call.asks.iter().map(LeaseRequest::again).collect(),
            repeats: call.repeats + 1,
            ..self.call(self.moment(now))
        }
    }

    /// The items of a call, as the store gets them.
    #[must_use]
    pub fn items(&self, call: &Call, now: i64) -> Vec<Item> {
        let store_time = self.moment(now).unix_ms + self.store_ahead;
        let item = |(index, ask): (&usize, &LeaseRequest)| Item {
            key: format!("limit {index}"),
            amount: self.limits[*index].amount,
            window: self.limits[*index].window.in_store(store_time),
            ask: ask.clone(),
        };
        call.indexes.iter().zip(&call.asks).map(item).collect()
    }

    /// An answer comes, of a store whose clock showed `store_ms` and whose data has this epoch.
    pub fn answered(
        &mut self,
        call: &Call,
        outcome: &Outcome,
        store: (i64, &str, u64),
        now: i64,
    ) -> Next {
        let (store_ms, epoch, replicas) = store;
        let moment = self.moment(now);
        self.store_ahead = store_ms - moment.unix_ms;
        self.replicas = replicas;
        self.contact = moment;
        let trip = RoundTrip {
            sent_ms: call.sent_ms,
            received_ms: moment.monotonic_ms,
            settling: matches!(outcome, Outcome::Done(_, grace) if *grace > 0),
        };
        match outcome {
            Outcome::Done(answers, grace) => {
                if let Some(pause) = repeats_after(answers, call.repeats) {
                    return Next::Again(i64::try_from(pause).unwrap_or(i64::MAX));
                }
                for ((index, ask), answer) in call.indexes.iter().zip(&call.asks).zip(answers) {
                    self.escrows[*index].answered(ask, answer.clone(), trip);
                }
                if call.epoch == self.epoch {
                    self.open = *grace == 0;
                }
                Next::Nothing
            }
            Outcome::OtherPeriod => {
                self.unanswered(call);
                Next::Nothing
            }
            Outcome::OtherEpoch => {
                self.unanswered(call);
                if epoch == self.epoch {
                    return Next::Nothing;
                }
                epoch.clone_into(&mut self.epoch);
                self.open = false;
                let mut reports = self.call(moment);
                for index in 0..self.limits.len() {
                    let used = self.counters[index].own_used(&self.limits[index], moment);
                    let escrow = &mut self.escrows[index];
                    escrow.forget(used);
                    if !escrow.is_idle() {
                        reports.add(index, escrow.report(moment));
                    }
                }
                Next::Reports(reports)
            }
        }
    }

    /// No answer came.
    pub fn unanswered(&mut self, call: &Call) {
        for (index, ask) in call.indexes.iter().zip(&call.asks) {
            self.escrows[*index].unanswered(ask);
        }
    }

    /// The requests that waited, to try again.
    pub fn waiting(&mut self) -> Vec<u64> {
        let waiting: Vec<u64> = self.queue.drain(..).collect();
        for index in 0..self.limits.len() {
            // The whole queue leaves.
            self.escrows[index].wait_for(u64::MAX, false);
        }
        waiting
    }

    /// A request ends after using `tokens`.
    pub fn settles(&mut self, running: Vec<Reservation>, tokens: u64, now: i64) {
        let moment = self.moment(now);
        let used = cost(tokens);
        for (((limit, counter), escrow), taken) in self
            .limits
            .iter()
            .zip(&mut self.counters)
            .zip(&mut self.escrows)
            .zip(running)
        {
            let mut entry = Entry {
                limit,
                mode: Mode::Enforce,
                counter,
                backing: Backing::Lent(escrow),
            };
            entry.settle(taken, used.of(limit.unit), moment);
        }
    }
}

impl Call {
    fn add(&mut self, index: usize, ask: LeaseRequest) {
        self.indexes.push(index);
        self.asks.push(ask);
    }
}

/// Tokens as a cost.
#[must_use]
pub fn cost(tokens: u64) -> Cost {
    Cost {
        usage: Usage {
            input_tokens: tokens,
            ..Usage::default()
        },
        cost_micros: 0,
    }
}
