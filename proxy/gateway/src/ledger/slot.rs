//! One counter of the ledger: what it is called, and what it says to those who look.

use std::sync::Arc;

use parking_lot::Mutex;
use proxy_core::admit::{Applied, Permit, SubjectPart};
use proxy_core::auth::Caller;
use proxy_core::names::Moment;
use proxy_core::quota::{Counter, CounterReading, Limit, LimitName, SubjectKey};

/// Characters shown of one part of a subject: models are named by callers, at any length.
const SHOWN: usize = 128;

/// Whom a counter counts, for machines and for people.
#[derive(Debug)]
pub(super) struct Whom {
    pub(super) key: SubjectKey,
    pub(super) subject: Arc<str>,
}

/// One counter, and what it is called.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Where the ledger keeps it; of this process only.
    pub(super) place: u128,
    pub(crate) limit: LimitName,
    pub(crate) key: SubjectKey,
    /// `consumer=ns/name model=gpt-4o`, by the quota's `per`; empty if it does not split.
    pub(crate) subject: Arc<str>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) counter: Counter,
    /// What running requests have reserved and not settled.
    pub(super) reserved: u64,
}

/// What a counter says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Used in the window, what is reserved and debt included.
    pub(crate) used: u64,
    /// The part of it that running requests hold.
    pub(crate) reserved: u64,
    /// Until all of it has left the window, at the latest.
    pub(crate) reset_ms: u64,
}

impl Slot {
    pub(super) fn new(place: u128, limit: LimitName, whom: Whom, counter: Counter) -> Self {
        let state = State {
            counter,
            reserved: 0,
        };
        Self {
            place,
            limit,
            key: whom.key,
            subject: whom.subject,
            state: Mutex::new(state),
        }
    }

    /// What is used at `now`, counted as `limit` counts.
    pub(crate) fn counted(&self, limit: &Limit, now: Moment) -> Counted {
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            // The next request begins it anew.
            return Counted::default();
        }
        let used = state.counter.used(limit, now);
        Counted {
            used,
            // A request may have begun in a window that has ended.
            reserved: state.reserved.min(used),
            reset_ms: state.counter.reset_ms(limit, now),
        }
    }
}

impl Slot {
    /// What other replicas should know of it; none if nothing counts.
    pub(crate) fn reading(&self, limit: &Limit, now: Moment) -> Option<CounterReading> {
        let mut state = self.state.lock();
        if !state.counter.suits(limit) {
            return None;
        }
        let used = state.counter.own_used(limit, now);
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

/// Names what a counter counts for, for people.
pub(crate) fn subject(
    applied: &Applied<'_>,
    caller: &Caller,
    model: Option<&str>,
    permit: &Permit<'_>,
) -> Arc<str> {
    let mut text = String::new();
    for part in applied.subject(caller, model, permit.route) {
        let (name, namespace, value) = match part {
            SubjectPart::Consumer(namespace, name) => ("consumer", namespace, name),
            SubjectPart::Model(model) => ("model", "", model),
            SubjectPart::Route(namespace, name) => ("route", namespace, name),
            SubjectPart::Attribute(value) => (&*applied.quota.attribute, "", value),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend([name, "=", namespace]);
        if !namespace.is_empty() {
            text.push('/');
        }
        // A name of the caller's must not look like another part, nor steer a terminal.
        let plain = |c: char| {
            if c.is_control() || c.is_whitespace() {
                '?'
            } else {
                c
            }
        };
        text.extend(value.chars().take(SHOWN).map(plain));
    }
    text.into()
}
