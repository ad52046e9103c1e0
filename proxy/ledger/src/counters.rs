//! The counters that requests of one caller for one model charge, found once for all of them.

use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::table::QuotaFacts;
use smallvec::SmallVec;

use crate::ledger::Ledger;
use crate::limit::EnforcedLimit;
use crate::slot::{Identity, Slot};

/// What decides which counters a request charges.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What may apply, by its rule.
    pub limits: &'a [Arc<EnforcedLimit>],
    /// What decides which of them do, and by which counter.
    pub facts: QuotaFacts<'a>,
}

/// The counters of a subject, in the one order that all requests lock them in: otherwise two of them
/// could wait for each other. Valid as long as the limits are; keeps its counters from being swept.
#[derive(Debug, Default)]
pub struct Counters(SmallVec<[(Arc<Slot>, Arc<EnforcedLimit>); 4]>);

/// Counters, each with the limit that it is charged by.
pub(crate) type Slots = [(Arc<Slot>, Arc<EnforcedLimit>)];

impl Ledger {
    /// Finds the counters of a subject, and makes those that are missing.
    #[must_use]
    pub fn counters(&self, subject: &Subject<'_>, now: Moment) -> Counters {
        let Subject { limits, facts } = subject;
        let mut counters: SmallVec<_> = limits
            .iter()
            .filter(|live| live.flat.applies(facts))
            .map(|live| {
                let place = self.place(&live.flat, facts);
                let identity = || Identity {
                    key: live.flat.subject_key(facts),
                    subject: live.flat.subject_text(facts).into(),
                };
                (self.slot(place, live, identity, now), Arc::clone(live))
            })
            .collect();
        counters.sort_unstable_by_key(|(slot, _): &(Arc<Slot>, _)| slot.place);
        Counters(counters)
    }
}

impl Counters {
    pub(crate) fn all(&self) -> &Slots {
        &self.0
    }
}
