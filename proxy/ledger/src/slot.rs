//! One counter of the ledger: its identity, its state, and what pages and the store's agent ask of it.

use std::sync::Arc;

use parking_lot::Mutex;
use proxy_core::names::Moment;
use proxy_core::quota::{
    Backing, Counter, CounterReading, Entry, Escrow, LeaseReply, LeaseRequest, Limit, LimitName,
    Mode, RoundTrip, SubjectKey, Wait,
};
use tokio::sync::Notify;

use crate::exposure::Exposure;
use crate::limit::EnforcedLimit;
use crate::looks::Looks;
use crate::reached::ReachedLevels;

/// The subject of a counter, as a key and as text.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: SubjectKey,
    pub(crate) subject: Arc<str>,
}

/// One counter.
#[derive(Debug)]
pub struct Slot {
    /// Its place in the ledger, in this process only.
    pub(crate) place: u128,
    /// The limit.
    pub limit: LimitName,
    pub(crate) key: SubjectKey,
    /// `consumer=ns/name model=gpt-4o`, by the quota's `per`; empty if it does not split.
    pub subject: Arc<str>,
    /// Wakes the requests that wait for an answer of the store.
    pub(crate) answered: Arc<Notify>,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) counter: Counter,
    /// Reserved by running requests, and not settled.
    pub(crate) reserved: u64,
    /// What these may use beyond it.
    pub(crate) exposure: Exposure,
    /// The part of it that unproved callers hold.
    pub(crate) unproved: u64,
    /// The grants of the shared store, if there is one.
    pub(crate) escrow: Option<Escrow>,
    /// What it last counted by.
    pub(crate) by: Arc<EnforcedLimit>,
    /// The agent tends it.
    pub(crate) listed: bool,
    /// The levels of a limit that warns, from the first that it reached on.
    pub(crate) reached: Option<Box<ReachedLevels>>,
}

impl State {
    pub(crate) fn new(counter: Counter, by: Arc<EnforcedLimit>, escrow: Option<Escrow>) -> Self {
        Self {
            counter,
            reserved: 0,
            exposure: Exposure::default(),
            unproved: 0,
            escrow,
            by,
            listed: false,
            reached: None,
        }
    }

    pub(crate) fn is_untouched(&mut self, now: Moment) -> bool {
        self.counter.is_untouched(now) && self.escrow.as_ref().is_none_or(Escrow::is_idle)
    }
}

/// A counter at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Used in the window, reservations and debt included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// Latest time until all of it has left the window.
    pub reset_ms: u64,
}

impl Slot {
    pub(crate) fn new(place: u128, limit: LimitName, identity: Identity, state: State) -> Self {
        Self {
            place,
            limit,
            key: identity.key,
            subject: identity.subject,
            answered: Arc::default(),
            state: Mutex::new(state),
        }
    }

    /// What counts here of a limit of the table in force: its override for the subject's caller, if it has one.
    #[must_use]
    pub fn enforced(&self, limit: &Arc<EnforcedLimit>) -> Arc<EnforcedLimit> {
        Arc::clone(limit.like(&self.state.lock().by))
    }

    /// What is used at `now`, counted as `limit` counts.
    #[must_use]
    pub fn counted(&self, limit: &Limit, now: Moment) -> Counted {
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            // The next request starts a new counter.
            return Counted::default();
        }
        let here = state.counter.used(limit, now);
        let escrow = state.escrow.as_ref();
        let used = escrow.map_or(here, |escrow| escrow.used(here, now));
        Counted {
            used,
            // A running request may have reserved in an earlier window.
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
            // The next request starts a new counter.
            let mut counter = Counter::new(limit, now);
            return Entry::own(limit, Mode::Enforce, &mut counter).forecast(ask, now);
        }
        let mut entry = Entry::own(limit, Mode::Enforce, counter);
        if let Some(escrow) = escrow {
            entry.backing = Backing::Lent(escrow);
        }
        entry.forecast(ask, now)
    }

    /// The reading for other replicas; `None` for an unused counter without a warning.
    #[must_use]
    pub fn reading(&self, enforced: &EnforcedLimit, now: Moment) -> Option<CounterReading> {
        let limit = &enforced.limit;
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            return None;
        }
        let own = state.counter.own_used(limit, now);
        let escrow = state.escrow.as_ref();
        let used = escrow.map_or(own, |escrow| escrow.used(own, now));
        let period_start_ms = state.counter.period_start_ms(limit, now);
        // A short window may be empty again before the next report.
        let reached = state.reached.as_ref();
        let warned = reached.and_then(|reached| reached.last(period_start_ms, now));
        (used > 0 || warned.is_some()).then(|| CounterReading {
            limit: self.limit.clone(),
            key: self.key,
            subject: Arc::clone(&self.subject),
            period_start_ms,
            used,
            reserved: state.reserved.min(used),
            amount: limit.amount,
            overridden: enforced.overridden(),
            warned,
        })
    }
}

/// The agent's side.
impl Slot {
    /// The counter's key in the store. A limit that counts in another way has another key.
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

    /// The report that is due, and whether to go on tending the counter.
    pub(crate) fn tend(
        &self,
        replicas: u64,
        looks: &mut Looks,
        now: Moment,
    ) -> (Option<(Limit, LeaseRequest)>, bool) {
        let mut state = self.state.lock();
        let State { escrow, by, .. } = &mut *state;
        let limit = &by.limit;
        let Some(escrow) = escrow else {
            return (None, false);
        };
        if escrow.is_asking() || escrow.is_busy(now) {
            return (None, true);
        }
        if escrow.tidy(replicas, now) {
            return (Some((limit.clone(), escrow.report(now))), true);
        }
        if escrow.is_active(looks.within_ms, now) {
            let due = escrow.is_look_due(now) && looks.take();
            return (due.then(|| (limit.clone(), escrow.report(now))), true);
        }
        let idle = escrow.is_idle();
        state.listed = !idle;
        (None, !idle)
    }

    /// The return for another replica that is short; `None` while a call is under way.
    pub(crate) fn recall(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State { escrow, by, .. } = &mut *state;
        let limit = &by.limit;
        let escrow = escrow.as_mut()?;
        escrow
            .recall(now)
            .then(|| (limit.clone(), escrow.report(now)))
    }

    /// Whether the agent tends it.
    pub(crate) fn is_listed(&self) -> bool {
        self.state.lock().listed
    }

    /// The report of this counter to a store that has lost its data.
    pub(crate) fn retell(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State {
            counter,
            escrow,
            by,
            ..
        } = &mut *state;
        let limit = &by.limit;
        let escrow = escrow.as_mut()?;
        escrow.forget(counter.own_used(limit, now));
        if escrow.is_idle() {
            return None;
        }
        Some((limit.clone(), escrow.report(now)))
    }

    /// The final report: unused grants are returned, and use that is not reported yet.
    pub(crate) fn surrender(&self, now: Moment) -> Option<(Limit, LeaseRequest)> {
        let mut state = self.state.lock();
        let State { escrow, by, .. } = &mut *state;
        let limit = &by.limit;
        let escrow = escrow.as_mut()?;
        escrow.surrender();
        (!escrow.is_idle()).then(|| (limit.clone(), escrow.report(now)))
    }
}
