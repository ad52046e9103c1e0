//! One request from its head to the end of its answer: its record and its charges.
//!
//! Passed by value. It settles and records exactly once, also when it is dropped: a client that hangs
//! up, a connection that breaks and a handler that panics all pass through [`Exchange::drop`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::HeaderValue;
use proxy_admin::clock;
use proxy_core::names::Usage;
use proxy_core::quota::Cost;
use proxy_core::tokens::Price;
use proxy_ledger::{Charge, Levels, Settled};
use smallvec::SmallVec;

use crate::endpoint::Placed;
use crate::record::Record;
use crate::state::Core;

#[cfg(test)]
mod tests;

/// One request.
pub(crate) struct Exchange {
    core: Arc<Core>,
    pub(crate) record: Record,
    /// What is reserved and not settled: one charge for most, several for a connection that carries
    /// many answers. The last one belongs to the answer that is under way.
    charges: SmallVec<[Priced; 1]>,
    ended: bool,
}

/// A charge and the price that it settles at.
struct Priced {
    charge: Charge,
    price: Price,
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
            charges: SmallVec::new(),
            ended: false,
        })
    }

    /// Takes a charge on, at the dearest price as long as no endpoint is chosen.
    pub(crate) fn charge(&mut self, charge: Charge, price: Price) {
        self.charges.push(Priced { charge, price });
    }

    /// Begins a try at an endpoint.
    pub(crate) fn placed(&mut self, at: &Placed) {
        self.record.tries = self.record.tries.saturating_add(1);
        self.record.endpoint = Some(at.endpoint.call());
        if let Some(open) = self.charges.last_mut() {
            open.price = at.place.declared.deployment.price;
        }
    }

    /// How the limits stood once the last charge was reserved.
    pub(crate) fn levels(&self) -> Levels {
        self.charges
            .last()
            .map_or_else(Levels::default, |open| open.charge.levels)
    }

    /// Takes note of the output so far: what a drop settles at, should the client hang up now.
    pub(crate) fn progress(&mut self, output_tokens: u64) {
        if let Some(open) = self.charges.last_mut() {
            let estimate = &mut open.charge.estimate;
            estimate.usage.output_tokens = output_tokens;
            estimate.cost_micros = open.price.cost_micros(estimate.usage);
        }
    }

    /// Settles by what the backend reported.
    pub(crate) fn measured(&mut self, usage: Usage, now: Instant) {
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

    /// Settles an answer of `size` bytes that reports no usage: perhaps it goes on in the background.
    pub(crate) fn unknown(&mut self, size: usize, now: Instant) {
        let read = u64::try_from(size.div_ceil(4)).unwrap_or(u64::MAX);
        let usage = |held: Usage| Usage {
            output_tokens: held.output_tokens.max(read),
            ..held
        };
        self.settle(usage, Settled::Estimated, now);
    }

    /// Gives the reservation back.
    pub(crate) fn released(&mut self, now: Instant) {
        self.settle(|_held| Usage::default(), Settled::Released, now);
    }

    /// Settles the last charge, once, by what it held.
    fn settle(&mut self, usage: impl FnOnce(Usage) -> Usage, how: Settled, now: Instant) {
        let Some(Priced { charge, price }) = self.charges.pop() else {
            return;
        };
        let usage = usage(charge.estimate.usage);
        let cost = Cost {
            usage,
            cost_micros: price.cost_micros(usage),
        };
        charge.settle(cost, how, clock::moment(now));
        self.record.settled(usage, how);
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
        let code = if std::thread::panicking() {
            "internal"
        } else {
            "client_aborted"
        };
        self.end(code, clock::instant());
    }
}
