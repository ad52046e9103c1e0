//! Callers whose credential no backend has accepted yet. Anybody can make as many as it likes, so what they
//! hold of a limit that they share with others is small, and so is the number of counters of their own.
//!
//! A limit is `shared` if its counters are not those of single consumers.

use std::collections::VecDeque;

use parking_lot::Mutex;
use proxy_core::quota::{Cost, Mode, Per, Unit};

use crate::limit::EnforcedLimit;

/// What all of them together may hold of a shared limit: this part.
const PART: u64 = 10;
/// Counters of their own, in all. Beyond it the oldest one that no request charges is forgotten: whoever made
/// it could have taken another credential. A counter takes about 1 KB.
const MOST: usize = 1_000;
/// How many are looked at for one that can be forgotten.
const LOOKS: usize = 8;

#[cfg(test)]
mod tests;

/// The counters that single unproved callers have, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Unproved(Mutex<VecDeque<u128>>);

/// Whether unproved callers share the limit with others.
pub(crate) fn is_shared(live: &EnforcedLimit) -> bool {
    !live.flat.quota.per.contains(&Per::Consumer)
}

/// What an unproved caller holds of a limit of `amount`, of what it asks, while others of its kind hold
/// `held`; `None` if it must wait for them. One call is always let in, and leaves half of the part to others.
pub(crate) fn part(ask: u64, amount: u64, held: u64) -> Option<u64> {
    let part = (amount / PART).max(1);
    if held == 0 {
        return Some(ask.min(part.div_ceil(2)));
    }
    (held.saturating_add(ask) <= part).then_some(ask)
}

/// Whether its part of a limit is all that the caller holds of it.
pub(crate) fn is_parted(live: &EnforcedLimit) -> bool {
    is_shared(live) && live.mode() == Mode::Enforce
}

/// Lowers a cost to `most` of one unit.
pub(crate) fn lower(cost: &mut Cost, unit: Unit, most: u64) {
    let usage = &mut cost.usage;
    match unit {
        Unit::Requests | Unit::Concurrency => {}
        Unit::InputTokens => usage.input_tokens = usage.input_tokens.min(most),
        Unit::OutputTokens => usage.output_tokens = usage.output_tokens.min(most),
        Unit::Tokens => {
            usage.input_tokens = usage.input_tokens.min(most);
            usage.output_tokens = usage.output_tokens.min(most - usage.input_tokens);
        }
        Unit::CostMicros => cost.cost_micros = cost.cost_micros.min(most),
    }
}

// === impl Unproved ===

impl Unproved {
    /// Takes note of a new counter of an unproved caller's own. Beyond their number an old one goes, if `forget`
    /// says that no request charges it.
    pub(crate) fn made(&self, place: u128, forget: impl Fn(u128) -> bool) {
        let mut places = self.0.lock();
        places.push_back(place);
        if places.len() <= MOST {
            return;
        }
        for _ in 0..LOOKS {
            let Some(oldest) = places.pop_front() else {
                return;
            };
            if forget(oldest) {
                return;
            }
            places.push_back(oldest);
        }
    }

    /// The counter is of a caller that is proved now.
    pub(crate) fn proved(&self, place: u128) {
        self.0.lock().retain(|other| *other != place);
    }
}
