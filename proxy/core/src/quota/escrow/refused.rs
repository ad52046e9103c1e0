//! What the store said when it refused: whoever comes next is answered without asking it again.

use std::collections::VecDeque;

/// A refusal holds no longer than this, since others give back what they do not use.
const LONGEST_MS: u64 = 1_000;
/// When a place of a `Concurrency` limit comes free nobody can foresee; it is asked again this soon.
const PLACES_MS: u64 = 100;
/// What a refused caller of a `Concurrency` limit is told to wait.
const PLACES_WAIT_MS: u64 = 1_000;
/// Debt of many limits is worked off over as many windows; a day of them is told as a day.
const HORIZON_MS: u64 = 86_400_000;

/// A window as the store has charged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The sub-buckets, oldest first.
    Rolling {
        /// What each holds.
        buckets: Vec<u64>,
        /// How many of them, the last ones, are still to come.
        ahead: u64,
        /// Used beyond the limit; it takes the place of what expires.
        debt: u64,
        /// Length of one in milliseconds.
        tau_ms: u64,
        /// Until the oldest leaves.
        turns_in_ms: u64,
    },
    /// A calendar period: nothing leaves before its end.
    Calendar,
    /// Places that others hold.
    Places,
}

#[derive(Clone, Debug)]
pub(super) struct Refused {
    profile: Profile,
    /// What was free.
    free: u64,
    /// When the answer came; what it says of the future counts from there, which is late, never early.
    at_ms: u64,
    ends_in_ms: u64,
    until_ms: u64,
}

impl Refused {
    pub(super) fn new(profile: Profile, free: u64, ends_in_ms: Option<u64>, at_ms: u64) -> Self {
        let holds = match &profile {
            Profile::Rolling { turns_in_ms, .. } => *turns_in_ms,
            Profile::Calendar => ends_in_ms.unwrap_or(LONGEST_MS),
            Profile::Places => PLACES_MS,
        };
        Self {
            profile,
            free,
            at_ms,
            ends_in_ms: ends_in_ms.unwrap_or(0),
            until_ms: at_ms.saturating_add(holds.min(LONGEST_MS)),
        }
    }

    pub(super) const fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// How long whoever lacks so much has to wait; none if the store must be asked.
    pub(super) fn wait_ms(&self, lacking: u64, amount: u64, now_ms: u64) -> Option<u64> {
        if !self.holds(now_ms) || lacking <= self.free {
            return None;
        }
        let after = match &self.profile {
            Profile::Rolling {
                buckets,
                ahead,
                debt,
                tau_ms,
                turns_in_ms,
            } => {
                let ring = Ring {
                    buckets: buckets.iter().copied().collect(),
                    ahead: usize::try_from(*ahead).unwrap_or(0),
                    debt: *debt,
                };
                ring.leaves_after(*tau_ms, *turns_in_ms, lacking, amount)
            }
            Profile::Calendar => self.ends_in_ms,
            Profile::Places => return Some(PLACES_WAIT_MS),
        };
        Some(
            self.at_ms
                .saturating_add(after)
                .saturating_sub(now_ms)
                .max(1),
        )
    }
}

/// A rolling window as it goes on if nothing else is asked.
struct Ring {
    /// Oldest first.
    buckets: VecDeque<u64>,
    ahead: usize,
    debt: u64,
}

impl Ring {
    /// Milliseconds until `lacking` fits under `amount`.
    fn leaves_after(mut self, tau_ms: u64, turns_in_ms: u64, lacking: u64, amount: u64) -> u64 {
        let sum = |sum: u64, bucket: &u64| sum.saturating_add(*bucket);
        let mut used = self.buckets.iter().fold(self.debt, sum);
        let mut after = turns_in_ms;
        while after < HORIZON_MS {
            let Some(expired) = self.buckets.pop_front() else {
                break;
            };
            // The debt that is paid was counted already; only what is not replaced by it is free.
            let paid = expired.min(self.debt);
            self.debt = self.debt.saturating_sub(paid);
            used = used.saturating_sub(expired);
            self.buckets.push_back(0);
            let head = self
                .buckets
                .len()
                .saturating_sub(self.ahead.saturating_add(1));
            if let Some(bucket) = self.buckets.get_mut(head) {
                *bucket = bucket.saturating_add(paid);
            }
            if used.saturating_add(lacking) <= amount {
                break;
            }
            after = after.saturating_add(tau_ms.max(1));
        }
        after
    }
}
