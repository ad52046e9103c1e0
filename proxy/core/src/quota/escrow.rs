//! What a replica has borrowed of a limit from the shared store.
//!
//! The store keeps a ring of K + 2 sub-buckets of length tau for each counter. A **grant** is charged
//! there when it is given, and may be spent until tau has passed since before it was asked for. So
//! what is admitted in an interval of the window's length W was granted in an interval of W + tau,
//! which touches at most K + 2 buckets: whose sum the store keeps at or below the limit. Nothing of
//! this depends on the replica's clock, on its life or on whether an answer arrived. A grant that may
//! be spent for `lasts` times tau is charged to the last of so many buckets, which is the same as if
//! it had been asked for then.
//!
//! Words: a `grant` is what was lent, a `return` what is given back to the bucket that was charged,
//! `owed` what was used without a grant and is still to be charged, `places` are grants of
//! `Concurrency`, which come back when a request ends.

use std::collections::VecDeque;

use super::{Limit, Wait, Window};
use crate::names::Moment;

mod call;
mod loan;
mod pace;
mod places;
mod reckoning;
mod refused;

pub use call::{Answer, Ask, Trip, repeats_after};
pub(super) use loan::Loan;
pub use loan::Part;
use pace::Pace;
use places::Places;
pub use reckoning::Reckoning;
pub use refused::Profile;
use refused::Refused;

#[derive(Clone, Copy, Debug)]
struct Grant {
    at: i64,
    left: u64,
    /// It may not be spent from then on, by the monotonic clock.
    until_ms: u64,
}

/// What a replica may spend of one counter without asking.
#[derive(Debug)]
pub struct Escrow {
    lease_ms: u64,
    /// The longest grant, in leases, and how many the last one lasted that could have been so long.
    reach: u64,
    lasted: u64,
    /// Whichever ends soonest first.
    grants: VecDeque<Grant>,
    returns: Vec<Part>,
    owed: u64,
    /// `Concurrency` only.
    places: Option<Places>,
    pace: Pace,
    /// A call is on its way: whoever lacks something waits for its answer.
    asking: bool,
    /// What those ask who wait for it.
    waiting: u64,
    /// The limit's amount when it was last looked at.
    amount: u64,
    /// What the store said last, and when.
    seen: Option<(u64, u64)>,
    refused: Option<Refused>,
    /// The store had nothing to lend ahead; it is not asked for that again before then.
    dry_until_ms: u64,
    /// Grows when the store lost its data.
    life: u64,
}

impl Escrow {
    /// Nothing yet, of `limit`.
    #[must_use]
    pub fn new(limit: &Limit) -> Self {
        Self {
            lease_ms: limit.window.lease_ms(),
            reach: limit.window.reach(),
            lasted: 1,
            grants: VecDeque::new(),
            returns: Vec::new(),
            owed: 0,
            places: (limit.window == Window::Held).then(Places::default),
            pace: Pace::default(),
            asking: false,
            waiting: 0,
            amount: limit.amount,
            seen: None,
            refused: None,
            dry_until_ms: 0,
            life: 0,
        }
    }

    /// What can be spent at `now` without asking.
    #[must_use]
    pub fn available(&self, now: Moment) -> u64 {
        self.lasting(now.monotonic_ms)
    }

    /// What can still be spent at `when_ms`.
    fn lasting(&self, when_ms: u64) -> u64 {
        if let Some(places) = &self.places {
            return places.idle(when_ms);
        }
        let valid = self.grants.iter().filter(|grant| grant.until_ms > when_ms);
        valid.fold(0, |sum, grant| sum.saturating_add(grant.left))
    }

    /// How much of the limit all replicas use at `now`, if this one alone has used so much `here`.
    #[must_use]
    pub fn used(&self, here: u64, now: Moment) -> u64 {
        self.used_by_all(now).map_or(here, |all| all.max(here))
    }

    /// The same as far as the store has told: what this replica holds and does not use is left out, also
    /// what it has not given back yet. None if it has told nothing within a lease or two.
    pub(super) fn used_by_all(&self, now: Moment) -> Option<u64> {
        let (used, at) = self.seen?;
        let fresh =
            now.monotonic_ms.saturating_sub(at) <= self.lease_ms.saturating_mul(2).max(2_000);
        let returned = |sum: u64, part: &Part| sum.saturating_add(part.amount);
        let held = self.returns.iter().fold(self.available(now), returned);
        let unknown = self.owed.saturating_sub(held);
        let unused = held.saturating_sub(self.owed);
        fresh.then(|| used.saturating_add(unknown).saturating_sub(unused))
    }

    /// Takes note of a changed amount: what was lent of a larger one is given back.
    pub(super) fn adapt(&mut self, amount: u64) {
        if amount == self.amount {
            return;
        }
        if amount < self.amount {
            self.surrender();
        }
        self.amount = amount;
        self.refused = None;
    }

    /// Whether, and how long, a request for `ask` has to wait as far as the store has told; none if
    /// it must be asked.
    pub(super) fn refusal(&self, ask: u64, now: Moment) -> Option<Wait> {
        let lacking = ask.saturating_sub(self.available(now));
        let refused = self.refused.as_ref()?;
        refused
            .wait_ms(lacking, self.amount, now.monotonic_ms)
            .map(Wait::Millis)
    }

    /// Takes `ask` out of what is lent, what ends soonest first; call it only if so much is available.
    pub(super) fn take(&mut self, ask: u64, now: Moment) -> Loan {
        self.pace.spend(ask, now.monotonic_ms, self.lease_ms);
        let mut loan = Loan::new(self.life);
        if let Some(places) = &mut self.places {
            places.occupy(ask);
            return loan;
        }
        let mut open = ask;
        for grant in &mut self.grants {
            if open == 0 {
                break;
            }
            if grant.until_ms <= now.monotonic_ms || grant.left == 0 {
                continue;
            }
            let amount = grant.left.min(open);
            grant.left = grant.left.saturating_sub(amount);
            open = open.saturating_sub(amount);
            loan.push(Part {
                at: grant.at,
                amount,
            });
        }
        self.grants.retain(|grant| grant.left > 0);
        loan
    }

    /// Uses `ask` without a grant: the store is away, and learns of it when it is back.
    pub(super) fn overdraw(&mut self, ask: u64) -> Loan {
        match &mut self.places {
            Some(places) => places.overfill(ask),
            None => self.owed = self.owed.saturating_add(ask),
        }
        Loan::owing(ask, self.life)
    }

    /// Takes note of what a shadowed limit would count; it is charged when it is settled.
    pub(super) fn watch(&mut self, ask: u64) -> Loan {
        if let Some(places) = &mut self.places {
            places.overfill(ask);
        }
        Loan::new(self.life)
    }

    /// Replaces what `loan` took for `reserved` by what was used.
    pub(super) fn settle(&mut self, loan: &Loan, reserved: u64, actual: u64, now: Moment) {
        if let Some(places) = &mut self.places {
            places.free(reserved);
            return;
        }
        if loan.owed > 0 || loan.life != self.life {
            // All of it is owed, or has been charged meanwhile, nobody knows in which bucket.
            self.owed = self
                .owed
                .saturating_sub(reserved.saturating_sub(actual))
                .saturating_add(actual.saturating_sub(reserved));
            return;
        }
        let lent = loan.amount();
        self.owed = self.owed.saturating_add(actual.saturating_sub(lent));
        let mut back = lent.saturating_sub(actual);
        for part in loan.newest_first() {
            let amount = part.amount.min(back);
            if amount > 0 {
                self.put_back(
                    Part {
                        at: part.at,
                        amount,
                    },
                    now,
                );
            }
            back = back.saturating_sub(amount);
        }
    }

    /// Keeps it for the next request while a grant of the same bucket lives, else gives it back.
    fn put_back(&mut self, part: Part, now: Moment) {
        let alive = |grant: &&mut Grant| grant.at == part.at && grant.until_ms > now.monotonic_ms;
        match self.grants.iter_mut().rev().find(alive) {
            Some(grant) => grant.left = grant.left.saturating_add(part.amount),
            None => self.give_back(part),
        }
    }

    fn give_back(&mut self, part: Part) {
        match self.returns.iter_mut().find(|known| known.at == part.at) {
            Some(known) => known.amount = known.amount.saturating_add(part.amount),
            None => self.returns.push(part),
        }
    }

    /// Everything that is lent and not used is to be given back.
    pub fn surrender(&mut self) {
        if let Some(places) = &mut self.places {
            places.release_idle(0);
        }
        while let Some(grant) = self.grants.pop_front() {
            self.give_back(Part {
                at: grant.at,
                amount: grant.left,
            });
        }
    }

    /// The store lost its data: what was lent is void, and what this replica `used` is to be told anew.
    pub fn forget(&mut self, used: u64) {
        self.life = self.life.saturating_add(1);
        self.grants.clear();
        self.returns.clear();
        self.seen = None;
        self.refused = None;
        match &mut self.places {
            Some(places) => places.release_idle(0),
            None => self.owed = used,
        }
    }

    /// Gives back what has expired. True if there is something to tell the store.
    pub fn tidy(&mut self, replicas: u64, now: Moment) -> bool {
        let (exact, lease_ms) = (self.is_exact(replicas), self.lease_ms);
        let cap = self.cap(replicas);
        if let Some(places) = &mut self.places {
            let keep = if exact { 0 } else { places.target(cap) };
            places.release_idle(if places.idle(now.monotonic_ms) > 0 {
                keep
            } else {
                0
            });
            return places.is_due(now.monotonic_ms, lease_ms);
        }
        while let Some(grant) = self.grants.front().copied()
            && grant.until_ms <= now.monotonic_ms
        {
            self.grants.pop_front();
            self.give_back(Part {
                at: grant.at,
                amount: grant.left,
            });
        }
        !self.returns.is_empty() || self.owed > 0
    }

    /// Whether a call was answered just now: what is to be told goes with the next one.
    #[must_use]
    pub fn is_busy(&self, now: Moment) -> bool {
        let answered = self.seen.map_or(0, |(_, at)| at);
        now.monotonic_ms.saturating_sub(answered) < BUSY_MS
    }

    /// Whether nothing is lent, owed or to be given back: nobody needs to look after it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.asking
            && self.grants.is_empty()
            && self.returns.is_empty()
            && self.owed == 0
            && self.places.as_ref().is_none_or(Places::is_empty)
    }

    /// Whether a call for this counter is on its way.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        self.asking
    }

    /// Adds what a request asks that waits for a call on its way, or takes it off again.
    pub const fn wait_for(&mut self, ask: u64, waits: bool) {
        self.waiting = if waits {
            self.waiting.saturating_add(ask)
        } else {
            self.waiting.saturating_sub(ask)
        };
    }

    /// Small limits are asked for one by one: what one replica kept would be missing to others.
    const fn is_exact(&self, replicas: u64) -> bool {
        let needs = self
            .pace
            .largest()
            .saturating_mul(replicas)
            .saturating_mul(EXACT_BELOW);
        self.amount < needs
    }

    /// The most that is borrowed ahead, for so many leases.
    fn chunk(&self, leases: u64, replicas: u64) -> u64 {
        let cap = self.cap(replicas);
        match &self.places {
            Some(places) => places.target(cap),
            None => self.pace.expected().saturating_mul(leases).min(cap),
        }
    }

    /// What one replica may hold at most: all of them together a quarter of the limit.
    const fn cap(&self, replicas: u64) -> u64 {
        match self.amount.checked_div(replicas.saturating_mul(4)) {
            Some(cap) => cap,
            None => self.amount,
        }
    }
}

/// A counter that is asked for more often needs no call of its own to give something back.
const BUSY_MS: u64 = 600;

/// Below so many of the largest requests per replica a limit is asked for one by one.
const EXACT_BELOW: u64 = 20;
