//! The use of running calendar periods by replicas that are gone, as the operators report it.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use proxy_core::quota::{Carried, Counter, LimitName, SubjectKey};

/// By limit and subject: when the period began, and how much.
type Uses = HashMap<(LimitName, SubjectKey), (i64, u64), RandomState>;

/// Kept beside the counters, since most subjects have no counter here yet when the report comes.
#[derive(Debug, Default)]
pub(crate) struct Carryover(RwLock<Uses>);

impl Carryover {
    pub(crate) fn replace(&self, carried: Vec<Carried>) {
        let uses = carried.into_iter().map(|one| {
            let counter = (one.limit, one.key);
            (counter, (one.period_start_ms, one.amount))
        });
        *self.0.write() = uses.collect();
    }

    /// Makes `counter` count what is carried for it, if it counts the same period.
    pub(crate) fn apply(&self, limit: &LimitName, key: SubjectKey, counter: &mut Counter) {
        let uses = self.0.read();
        match uses.get(&(limit.clone(), key)) {
            Some((period_start_ms, amount)) => counter.carry(*period_start_ms, *amount),
            None => counter.carry_nothing(),
        }
    }
}
