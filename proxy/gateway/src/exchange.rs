//! One request from its head to the end of its answer: its record and its charges.
//!
//! Passed by value. It settles and records exactly once, also when it is dropped: a client that hangs
//! up, a connection that breaks and a handler that panics all pass through [`Exchange::drop`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_core::balance::{Demand, Outcome};
use proxy_core::names::{Code, Usage};
use proxy_core::quota::{Cost, LimitName};
use proxy_core::tokens::Price;
use proxy_ledger::{Charge, Levels, Settled};
use smallvec::SmallVec;

use crate::endpoint::{Ended, Placed};
use crate::memory::{Hold, REQUEST};
use crate::record::Record;
use crate::slot::Place;
use crate::state::Core;
use crate::upstream::{Failed, Fate};

#[cfg(test)]
mod tests;

/// One request.
pub(crate) struct Exchange {
    core: Arc<Core>,
    pub(crate) record: Record,
    /// What it takes of the endpoint that it is at, as reckoned, if that is provisioned.
    taken: Option<u64>,
    /// What is reserved and not settled: one charge for most, several for a connection that carries
    /// many answers. The last one belongs to the answer that is under way.
    charges: SmallVec<[Priced; 1]>,
    /// What it holds of the memory budget.
    pub(crate) hold: Option<Hold>,
    /// The place for a response that goes on in the background.
    pub(crate) followed: Option<Place>,
    /// When the last try began.
    call_began: Instant,
    /// How far the call has come that is under way.
    pub(crate) fate: Mutex<Fate>,
    /// What is done if the client leaves: it may be worth to read on.
    pub(crate) if_left: Option<fn(Box<Self>)>,
    ended: bool,
}

/// What several answers have come to, each at its price.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    pub(crate) usage: Usage,
    /// `None`: the price is unknown.
    pub(crate) cost_micros: Option<u64>,
    /// Each answer tells its usage.
    pub(crate) is_told: bool,
}

/// A charge and the price that it settles at.
struct Priced {
    /// Boxed: it is handed on five times, and large.
    charge: Box<Charge>,
    /// `None`: unknown.
    price: Option<Arc<Price>>,
}

// === impl Exchange ===

impl Exchange {
    /// Boxed: it moves through every step of a request.
    pub(crate) fn begin(core: &Arc<Core>, request_id: HeaderValue, now: Instant) -> Box<Self> {
        core.shared.metrics.in_flight.inc();
        core.exchanges.fetch_add(1, Ordering::Relaxed);
        Box::new(Self {
            core: Arc::clone(core),
            record: Record::begin(request_id, now),
            taken: None,
            charges: SmallVec::new(),
            hold: None,
            followed: None,
            call_began: now,
            fate: Mutex::default(),
            if_left: None,
            ended: false,
        })
    }

    /// Takes a charge on, at the dearest price as long as no endpoint is chosen.
    pub(crate) fn charge(&mut self, mut charge: Box<Charge>, price: &Arc<Price>) {
        self.record.held = Some(charge.estimate.usage);
        self.record.shadow_limits.append(&mut charge.would_refuse);
        self.charges.push(Priced {
            charge,
            price: Some(Arc::clone(price)),
        });
    }

    /// The core that it runs on.
    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What the last charge holds.
    pub(crate) fn held(&self) -> Cost {
        let open = self.charges.last();
        open.map_or_else(Cost::default, |open| open.charge.estimate)
    }

    /// What it asks of an endpoint.
    pub(crate) fn demand(&self) -> Demand {
        Demand {
            size: self.record.held.map_or(0, |held| held.total_tokens()),
            class: self.record.class,
        }
    }

    /// Counts the answer that is under way by another charge.
    pub(crate) fn recharge(&mut self, mut charge: Box<Charge>, now: Instant) {
        self.record.shadow_limits.append(&mut charge.would_refuse);
        if let Some(open) = self.charges.last_mut() {
            let before = std::mem::replace(&mut open.charge, charge);
            before.withdraw(clock::moment(now));
        }
    }

    /// Begins a try at an endpoint.
    pub(crate) fn placed(&mut self, at: &Placed, now: Instant) {
        *self.fate.get_mut() = Fate::Unsent;
        self.call_began = now;
        self.record.place = Some(Arc::clone(&at.place));
        self.record.tries = self.record.tries.saturating_add(1);
        let settings = &at.place.declared.backend.health;
        self.record.endpoint = Some(at.endpoint.call(clock::moment(now), settings));
        if let (Some(rated), Some(held)) = (at.place.rated, self.record.held) {
            let now = clock::moment(now);
            self.taken = Some(at.endpoint.takes(rated, 0, held, now));
        }
        if let Some(open) = self.charges.last_mut() {
            open.price.clone_from(&at.place.declared.deployment.price);
        }
    }

    /// The try came to nothing for the client: `cause` is a word of docs/errors.md, or `upstream_error`.
    pub(crate) fn failed(
        &mut self,
        status: Option<StatusCode>,
        (cause, error): (&'static str, &str),
        now: Instant,
    ) {
        let status = status.map(|status| status.as_u16());
        let lasted = now.saturating_duration_since(self.call_began);
        self.took(Usage::default(), now);
        self.record.tried(status, Some((cause, error)), lasted);
    }

    /// How the limits stood once the last charge was reserved.
    pub(crate) fn levels(&self) -> Levels {
        self.charges
            .last()
            .map_or_else(Levels::default, |open| open.charge.levels)
    }

    /// The limit that is nearest to be spent, if it has reached a warning level, and how much of it is used in
    /// per cent.
    pub(crate) fn warning(&self) -> Option<(&LimitName, u64)> {
        self.charges.last()?.charge.warning()
    }

    /// The head of an answer has come.
    pub(crate) fn answered(&mut self, status: StatusCode, now: Instant) {
        self.record.answered(status.as_u16(), self.call_began, now);
    }

    /// The body of the answer has ended: a good one, or one that was cut, or is an error within a success.
    pub(crate) fn body_ended(&self, is_good: bool) {
        let (Some(endpoint), Some(place)) = (&self.record.endpoint, &self.record.place) else {
            return;
        };
        let is_success = (200..300).contains(&self.record.status);
        if !is_success || (is_good && endpoint.is_well()) {
            return;
        }
        let metrics = &self.core.shared.metrics;
        let cut = Failed::cut();
        let (result, outcome) = if is_good {
            (Ok(StatusCode::OK), Outcome::Answered)
        } else {
            metrics.cut(&endpoint.backend, &endpoint.deployment);
            (Err(&cut), Outcome::Failed)
        };
        let ended = Ended {
            result,
            outcome: Some(outcome),
            request_id: &self.record.request_id,
            demand: self.demand(),
            began: self.call_began,
            now: clock::instant(),
        };
        let settings = &place.declared.backend.health;
        endpoint.tells(&ended, settings, metrics);
    }

    /// Whether the price depends on the model that the answer names.
    pub(crate) fn is_routed(&self) -> bool {
        let price = self.charges.last().and_then(|open| open.price.as_ref());
        price.is_some_and(|price| !price.routed.is_empty())
    }

    /// Takes note of the model that the answer names.
    pub(crate) fn answered_by(&mut self, model: Option<&str>) {
        self.record.answered_model = model.map(Box::from);
    }

    /// Whether everything is settled and recorded.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes the exchange out of a place that is about to go.
    pub(crate) fn taken(&mut self) -> Box<Self> {
        let ended = Self {
            core: Arc::clone(&self.core),
            record: Record::begin(self.record.request_id.clone(), self.call_began),
            taken: None,
            charges: SmallVec::new(),
            hold: None,
            followed: None,
            call_began: self.call_began,
            fate: Mutex::default(),
            if_left: None,
            ended: true,
        };
        Box::new(std::mem::replace(self, ended))
    }

    /// Holds memory for `bytes` of its answer that are kept. False if there is none.
    pub(crate) fn keeps(&mut self, bytes: usize) -> bool {
        let Some((hold, caller)) = self.hold.as_mut().zip(self.record.caller.as_ref()) else {
            return true;
        };
        hold.has_room() && hold.grow(caller, REQUEST.saturating_add(bytes)).is_ok()
    }

    /// The same for bytes that are there already, and must be.
    pub(crate) fn must_keep(&mut self, bytes: usize) {
        if let Some(hold) = &mut self.hold {
            hold.force(REQUEST.saturating_add(bytes));
        }
    }

    /// The client has left: what it holds of `Concurrency` limits is free for others.
    pub(crate) fn release_permits(&mut self) {
        for open in &mut self.charges {
            open.charge.release_permits();
        }
    }

    /// The client has left, and no answer has come that it was sent for: as reserved, unless the endpoint has
    /// given no answer since. Then it is taken for a black hole, which bills nothing.
    pub(crate) fn left_unanswered(mut self: Box<Self>, now: Instant) {
        let endpoint = self.record.endpoint.as_deref();
        if endpoint.is_some_and(|endpoint| endpoint.has_answered_since(self.call_began)) {
            self.settle(|held| held, Settled::Estimated, now);
        } else {
            self.unconfirmed();
            self.released(now);
        }
        self.end("client_aborted", now);
    }

    /// The gateway stops before an answer has begun: as if a timeout of its own had ended the wait.
    fn cut_off(&mut self, now: Instant) {
        if let Fate::Sent(_) = std::mem::take(self.fate.get_mut()) {
            self.unconfirmed();
        }
        self.record.status = Code::ShuttingDown.status();
        self.released(now);
        self.end(Code::ShuttingDown.as_str(), now);
    }

    /// A call was sent and has no answer. It costs the consumer nothing, and may be billed.
    pub(crate) fn unconfirmed(&self) {
        if let (Some(endpoint), Some(open)) = (self.record.endpoint.as_deref(), self.charges.last())
        {
            let tokens = open.charge.estimate.usage.total_tokens();
            let metrics = &self.core.shared.metrics;
            metrics.unconfirmed(&endpoint.backend, &endpoint.deployment, tokens);
        }
    }

    /// Settles by what the backend reported.
    pub(crate) fn measured(&mut self, usage: Usage, now: Instant) {
        if let Some(endpoint) = &self.record.endpoint {
            endpoint.read(usage, &self.core.shared.metrics);
        }
        self.settle(|_held| usage, Settled::Measured, now);
    }

    /// Settles by the input that was held and the output that was counted.
    pub(crate) fn estimated(&mut self, output_tokens: u64, now: Instant) {
        let usage = |held: Usage| Usage {
            output_tokens,
            ..held
        };
        self.settle(usage, Settled::Estimated, now);
    }

    /// Settles by the input of the stream and the output that was counted.
    pub(crate) fn counted(&mut self, usage: Usage, now: Instant) {
        self.settle(|_held| usage, Settled::Estimated, now);
    }

    /// Settles an answer of `size` bytes that reports no usage: perhaps it goes on in the background.
    pub(crate) fn unknown(&mut self, size: usize, now: Instant) {
        let read = u64::try_from(size.div_ceil(4)).unwrap_or(u64::MAX);
        let bound = self.record.shape.max_output_tokens.unwrap_or(u64::MAX);
        let read = read.min(bound.saturating_mul(self.record.shape.choices.max(1)));
        let usage = |held: Usage| Usage {
            output_tokens: held.output_tokens.max(read),
            ..held
        };
        self.settle(usage, Settled::Estimated, now);
    }

    /// The answer has no body: there is nothing that could be billed.
    pub(crate) fn empty(&mut self, now: Instant) {
        self.refused(now);
        self.end("upstream_error", now);
    }

    /// Gives back what a backend does not bill that answered all the same: it counts as a request.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.settle(|_held| Usage::default(), Settled::Refused, now);
    }

    /// Gives the reservation back.
    pub(crate) fn released(&mut self, now: Instant) {
        self.settle(|_held| Usage::default(), Settled::Released, now);
    }

    /// The price that the last charge settles at.
    pub(crate) fn price(&self) -> Option<Arc<Price>> {
        self.charges.last()?.price.clone()
    }

    /// Settles the last charge by what several answers have come to.
    pub(crate) fn summed(&mut self, sum: Sum, now: Instant) {
        if let Some(Priced { charge, .. }) = self.charges.pop() {
            let how = if sum.is_told {
                Settled::Measured
            } else {
                Settled::Estimated
            };
            self.settle_charge(charge, (sum.usage, sum.cost_micros), how, now);
        }
    }

    /// Settles the last charge, once, by what it held.
    fn settle(&mut self, usage: impl FnOnce(Usage) -> Usage, how: Settled, now: Instant) {
        let Some(Priced { charge, price }) = self.charges.pop() else {
            return;
        };
        let usage = usage(charge.estimate.usage);
        let model = self.record.answered_model.as_deref();
        let cost_micros = price.map(|price| price.cost_micros(usage, model));
        self.settle_charge(charge, (usage, cost_micros), how, now);
    }

    #[inline]
    fn settle_charge(
        &mut self,
        charge: Box<Charge>,
        (usage, cost_micros): (Usage, Option<u64>),
        how: Settled,
        now: Instant,
    ) {
        // No limit in money covers a deployment without a price.
        let cost = Cost {
            usage,
            cost_micros: cost_micros.unwrap_or(0),
        };
        charge.settle(cost, how, clock::moment(now));
        self.took(usage, now);
        self.record.settled(usage, cost_micros, how);
    }

    /// It has taken this much of a provisioned deployment.
    fn took(&mut self, usage: Usage, now: Instant) {
        let Some(before) = self.taken.take() else {
            return;
        };
        let rated = self.record.place.as_ref().and_then(|place| place.rated);
        if let (Some(endpoint), Some(rated)) = (self.record.endpoint.as_deref(), rated) {
            endpoint.takes(rated, before, usage, clock::moment(now));
        }
    }

    /// Ends the request with a code: `ok`, `upstream_error`, `client_aborted` or a reason word.
    pub(crate) fn end(&mut self, code: &'static str, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Still unsettled: settle at what is known so far.
        while !self.charges.is_empty() {
            self.settle(|held| held, Settled::Estimated, now);
        }
        let shared = &self.core.shared;
        shared.metrics.in_flight.dec();
        self.core.exchanges.fetch_sub(1, Ordering::Relaxed);
        self.record.count(&shared.metrics, code, now);
        if let Some(log) = &self.core.log {
            log.write(&self.record.entry(code, now));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(if_left) = self.if_left.take()
            && !std::thread::panicking()
        {
            if self.core.is_cut() {
                return self.cut_off(clock::instant());
            }
            return if_left(self.taken());
        }
        let code = if std::thread::panicking() {
            "internal"
        } else {
            "client_aborted"
        };
        self.end(code, clock::instant());
    }
}
