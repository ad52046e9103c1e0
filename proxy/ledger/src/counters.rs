//! The counters that requests of one caller for one model charge, found once for all of them.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::Unit;
use proxy_core::table::QuotaFacts;
use smallvec::SmallVec;

use crate::ledger::Ledger;
use crate::limit::EnforcedLimit;
use crate::slot::{Identity, Slot};
use crate::unproved::is_shared;

/// What decides which counters a request charges.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What may apply, by its rule.
    pub limits: &'a [Arc<EnforcedLimit>],
    /// What decides which of them do, and by which counter.
    pub facts: QuotaFacts<'a>,
    /// No backend has accepted the caller's credential yet.
    pub unproved: bool,
}

/// The counters of a subject, in the one order that all requests lock them in: otherwise two of them
/// could wait for each other. Valid as long as the limits are; keeps its counters from being swept.
#[derive(Debug, Default)]
pub struct Counters {
    slots: SmallVec<[(Arc<Slot>, Arc<EnforcedLimit>); 4]>,
    warn: bool,
    /// A limit that counts money applies, whether its counter is among them or not.
    has_money: bool,
    pub(crate) unproved: bool,
}

/// Counters, each with the limit that it is charged by.
pub(crate) type Slots = [(Arc<Slot>, Arc<EnforcedLimit>)];

impl Counters {
    /// Whether a limit among them counts tokens or money.
    #[must_use]
    pub fn has_amounts(&self) -> bool {
        self.slots.iter().any(|(_, live)| match live.limit.unit {
            Unit::InputTokens | Unit::OutputTokens | Unit::Tokens | Unit::CostMicros => true,
            Unit::Requests | Unit::Concurrency => false,
        })
    }

    /// Whether a limit counts money, of all that apply.
    #[must_use]
    pub const fn has_money(&self) -> bool {
        self.has_money
    }

    /// Those that count requests, however large these are.
    #[must_use]
    pub fn of_requests(mut self) -> Self {
        self.slots.retain(|(_, live)| match live.limit.unit {
            Unit::Requests | Unit::Concurrency => true,
            Unit::InputTokens | Unit::OutputTokens | Unit::Tokens | Unit::CostMicros => false,
        });
        self.warn = self.slots.iter().any(|(_, live)| live.warnings.is_some());
        self
    }
}

impl Ledger {
    /// Finds the counters of a subject, and makes those that are missing.
    #[must_use]
    pub fn counters(&self, subject: &Subject<'_>, now: Moment) -> Counters {
        let Subject {
            limits,
            facts,
            unproved,
        } = subject;
        let mut slots: SmallVec<_> = limits
            .iter()
            .filter(|live| live.flat.applies(facts))
            .map(|live| {
                let live = live.for_caller(facts.caller);
                let place = self.place(&live.flat, facts);
                let identity = || Identity {
                    key: live.flat.subject_key(facts),
                    subject: live.flat.subject_text(facts).into(),
                };
                let (slot, made) = self.slot(place, live, identity, now);
                if *unproved && made.0 && !is_shared(live) {
                    self.unproved.made(place, |oldest| self.forget(oldest));
                }
                (slot, Arc::clone(live))
            })
            .collect();
        slots.sort_unstable_by_key(|(slot, _): &(Arc<Slot>, _)| slot.place);
        Counters {
            warn: slots
                .iter()
                .any(|(_, live): &(_, Arc<EnforcedLimit>)| live.warnings.is_some()),
            has_money: slots
                .iter()
                .any(|(_, live)| live.limit.unit == Unit::CostMicros),
            slots,
            unproved: *unproved,
        }
    }
}

impl Counters {
    pub(crate) fn all(&self) -> &Slots {
        &self.slots
    }

    /// Whether one of them may warn.
    pub(crate) const fn warn(&self) -> bool {
        self.warn
    }
}
