//! One counter of the ledger: what it is called, and what it says to those who look.

use std::sync::Arc;

use parking_lot::Mutex;
use proxy_core::names::Moment;
use proxy_core::quota::{
    Backing, Counter, CounterReading, Entry, Escrow, LeaseReply, LeaseRequest, Limit, LimitName,
    Mode, RoundTrip, SubjectKey, Wait,
};
use tokio::sync::Notify;

/// Whom a counter counts, for machines and for people.
#[derive(Debug)]
pub(crate) struct Whom {
    pub(crate) key: SubjectKey,
    pub(crate) subject: Arc<str>,
}

/// One counter, and what it is called.
#[derive(Debug)]
pub struct Slot {
    /// Where the ledger keeps it; of this process only.
    pub(crate) place: u128,
    /// The limit.
    pub limit: LimitName,
    pub(crate) key: SubjectKey,
    /// `consumer=ns/name model=gpt-4o`, by the quota's `per`; empty if it does not split.
    pub subject: Arc<str>,
    /// Wakes those who wait for an answer of the store.
    pub(crate) answered: Arc<Notify>,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) counter: Counter,
    /// What running requests have reserved and not settled.
    pub(crate) reserved: u64,
    /// What the shared store has lent, if there is one.
    pub(crate) escrow: Option<Escrow>,
    /// The limit by which it was counted last.
    pub(crate) limit: Limit,
    /// The store looks after it.
    pub(crate) listed: bool,
}

impl State {
    pub(crate) const fn new(counter: Counter, limit: Limit, escrow: Option<Escrow>) -> Self {
        Self {
            counter,
            reserved: 0,
            escrow,
            limit,
            listed: false,
        }
    }

    /// Whether `limit` is the one that was counted by. Looks at what can change under one name.
    pub(crate) fn counts_like(&self, limit: &Limit) -> bool {
        self.limit.amount == limit.amount
            && self.limit.unit == limit.unit
            && self.limit.window == limit.window
    }

    pub(crate) fn is_untouched(&mut self, now: Moment) -> bool {
        self.counter.is_untouched(now) && self.escrow.as_ref().is_none_or(Escrow::is_idle)
    }
}

/// What a counter says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Used in the window, what is reserved and debt included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// Until all of it has left the window, at the latest.
    pub reset_ms: u64,
}

impl Slot {
    pub(crate) fn new(place: u128, limit: LimitName, whom: Whom, state: State) -> Self {
        Self {
            place,
            limit,
            key: whom.key,
            subject: whom.subject,
            answered: Arc::default(),
            state: Mutex::new(state),
        }
    }

    /// What is used at `now`, counted as `limit` counts.
    #[must_use]
    pub fn counted(&self, limit: &Limit, now: Moment) -> Counted {
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            // The next request begins it anew.
            return Counted::default();
        }
        let here = state.counter.used(limit, now);
        let escrow = state.escrow.as_ref();
        let used = escrow.map_or(here, |escrow| escrow.used(here, now));
        Counted {
            used,
            // A request may have begun in a window that has ended.
            reserved: state.reserved.min(used),
            reset_ms: state.counter.reset_ms(limit, now),
        }
    }
}

impl Slot {
    /// Whether a request for `ask` would fit; takes nothing.
    ///
    /// # Errors
    /// How long until it fits, if it does not.
    pub fn forecast(&self, limit: &Limit, ask: u64, now: Moment) -> Result<(), Wait> {
        let mut state = self.state.lock();
        let State {
            counter, escrow, ..
        } = &mut *state;
        if !counter.suits(limit) {
            // The next request begins it anew.
            let mut counter = Counter::new(limit, now);
            return Entry::own(limit, Mode::Enforce, &mut counter).forecast(ask, now);
        }
        let mut entry = Entry::own(limit, Mode::Enforce, counter);
        if let Some(escrow) = escrow {
            entry.backing = Backing::Lent(escrow);
        }
        entry.forecast(ask, now)
    }

    /// What other replicas should know of it; none if nothing counts.
    #[must_use]
    pub fn reading(&self, limit: &Limit, now: Moment) -> Option<CounterReading> {
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            return None;
        }
        let own = state.counter.own_used(limit, now);
        let escrow = state.escrow.as_ref();
        let used = escrow.map_or(own, |escrow| escrow.used(own, now));
        (used > 0).then(|| CounterReading {
            limit: self.limit.clone(),
            key: self.key,
            subject: Arc::clone(&self.subject),
            period_start_ms: state.counter.period_start_ms(limit, now),
            used,
            reserved: state.reserved.min(used),
            amount: limit.amount,
        })
    }
}

/// What the agent of the store does.
impl Slot {
    /// The counter's key in the store: what counts differently has another one.
    pub(crate) fn store_key(&self, limit: &Limit) -> String {
        let Self {
            limit: name, key, ..
        } = self;
        let (unit, window) = (limit.unit.as_str(), &limit.window);
        format!("{name}:{unit}:{window}:{}", hex::encode(key.0))
    }

    pub(crate) fn answered(&self, ask: &LeaseRequest, answer: LeaseReply, trip: RoundTrip) {
        if let Some(escrow) = &mut self.state.lock().escrow {
            escrow.answered(ask, answer, trip);
        }
        self.answered.notify_waiters();
    }

    pub(crate) fn unanswered(&self, ask: &LeaseRequest) {
        if let Some(escrow) = &mut self.state.lock().escrow {
            escrow.unanswered(ask);
        }
        self.answered.notify_waiters();
    }

    pub(crate) fn wait_for(&self, ask: u64, waits: bool) {
        if let Some(escrow) = &mut self.state.lock().escrow {
            escrow.wait_for(ask, waits);
        }
    }

    /// What is due to be told to the store, and whether to look after it any longer.
    pub(crate) fn tend(&self, replicas: u64, now: Moment) -> (Option<(Limit, LeaseRequest)>, bool) {
        let mut state = self.state.lock();
        let State { escrow, limit, .. } = &mut *state;
        let Some(escrow) = escrow else {
            return (None, false);
        };
        if escrow.is_asking() || escrow.is_busy(now) {
            return (None, true);
        }
        if escrow.tidy(replicas, now) {
            return (Some((limit.clone(), escrow.report(now))), true);
        }
        let idle = escrow.is_idle();
        state.listed = !idle;
        (None, !idle)
    }

    /// Another replica lacks what this one may hold: what to tell the store, none if a call is on its
    /// way.
    pub(crate) fn recall(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State { escrow, limit, .. } = &mut *state;
        let escrow = escrow.as_mut()?;
        escrow
            .recall(now)
            .then(|| (limit.clone(), escrow.report(now)))
    }

    /// Whether the store looks after it.
    pub(crate) fn is_listed(&self) -> bool {
        self.state.lock().listed
    }

    /// The store has lost its data: what to tell it of this counter.
    pub(crate) fn retell(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State {
            counter,
            escrow,
            limit,
            ..
        } = &mut *state;
        let escrow = escrow.as_mut()?;
        escrow.forget(counter.own_used(limit, now));
        if escrow.is_idle() {
            return None;
        }
        Some((limit.clone(), escrow.report(now)))
    }

    /// The process ends: what is lent and not used, and what is owed.
    pub(crate) fn surrender(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State { escrow, limit, .. } = &mut *state;
        let escrow = escrow.as_mut()?;
        escrow.surrender();
        (!escrow.is_idle()).then(|| (limit.clone(), escrow.report(now)))
    }
}
