//! A refusal of the store: later requests get their answer from it without another call.

use std::collections::VecDeque;

use crate::quota::ring::HORIZON_MS;

/// A refusal is good for at most this long, since other replicas return what they do not use.
const LONGEST_MS: u64 = 1_000;
/// When a permit comes free cannot be foreseen, so the store is asked again this soon.
const PERMITS_MS: u64 = 100;
/// The wait reported to a refused caller of a `Concurrency` limit.
const PERMITS_WAIT_MS: u64 = 1_000;

/// The state of a window in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The sub-buckets, oldest first.
    Rolling {
        /// What is charged to each.
        buckets: Vec<u64>,
        /// How many of them, the last ones, are in the future.
        ahead: u64,
        /// Use beyond the limit; it takes the place of what expires.
        debt: u64,
        /// Length of a sub-bucket in milliseconds.
        tau_ms: u64,
        /// Until the oldest leaves.
        turns_in_ms: u64,
    },
    /// A calendar period: nothing leaves before its end.
    Calendar,
    /// Permits that other replicas hold.
    Permits,
}

#[derive(Clone, Debug)]
pub(super) struct StoreRefusal {
    profile: Profile,
    /// What was free.
    free: u64,
    /// When the reply came. Its waits count from there, which is late, never early.
    at_ms: u64,
    ends_in_ms: u64,
    until_ms: u64,
}

impl StoreRefusal {
    pub(super) fn new(profile: Profile, free: u64, ends_in_ms: Option<u64>, at_ms: u64) -> Self {
        let holds = match &profile {
            Profile::Rolling { turns_in_ms, .. } => *turns_in_ms,
            Profile::Calendar => ends_in_ms.unwrap_or(LONGEST_MS),
            Profile::Permits => PERMITS_MS,
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

    /// How long a request that lacks `lacking` has to wait; `None` when the store must be asked.
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
                let ring = FutureRing {
                    buckets: buckets.iter().copied().collect(),
                    ahead: usize::try_from(*ahead).unwrap_or(0),
                    debt: *debt,
                };
                ring.fits_after(*tau_ms, *turns_in_ms, lacking, amount)
            }
            Profile::Calendar => self.ends_in_ms,
            Profile::Permits => return Some(PERMITS_WAIT_MS),
        };
        Some(
            self.at_ms
                .saturating_add(after)
                .saturating_sub(now_ms)
                .max(1),
        )
    }
}

/// A rolling window of the store as time passes without other requests.
struct FutureRing {
    /// Oldest first.
    buckets: VecDeque<u64>,
    ahead: usize,
    debt: u64,
}

impl FutureRing {
    /// Milliseconds until `lacking` fits within `amount`.
    fn fits_after(mut self, tau_ms: u64, turns_in_ms: u64, lacking: u64, amount: u64) -> u64 {
        let sum = |sum: u64, bucket: &u64| sum.saturating_add(*bucket);
        let mut used = self.buckets.iter().fold(self.debt, sum);
        let mut after = turns_in_ms;
        while after < HORIZON_MS {
            let Some(expired) = self.buckets.pop_front() else {
                break;
            };
            // Debt was counted already, so only what debt does not replace becomes free.
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
