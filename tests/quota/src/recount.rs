//! What was admitted, and what it comes to for each limit.

use proxy_core::quota::{LeaseReport, LeaseRequest, Limit, Reservation, Unit};
use rand::RngExt;
use rand::rngs::StdRng;

/// What one limit counts now, recounted from the log as time goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recount {
    /// The first entry of the log that still counts.
    pub(crate) from: usize,
    pub(crate) sum: u64,
    /// The part of it that was never reserved.
    pub(crate) excess: u64,
    /// What the store granted, charged and took back, and when.
    pub(crate) moved: Vec<(i64, u64)>,
    /// What replicas did not know of it when the store went away.
    pub(crate) unknown: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: i64,
    pub(crate) counts: u64,
    /// Used beyond what was reserved.
    pub(crate) excess: u64,
    pub(crate) taken: Option<Vec<Reservation>>,
}

pub(crate) fn pick<'a, T>(rng: &mut StdRng, all: &'a [T]) -> &'a T {
    &all[rng.random_range(0..all.len())]
}

/// How much of `limit` a request for `tokens` is.
pub(crate) const fn counted(limit: &Limit, tokens: u64) -> u64 {
    if matches!(limit.unit, Unit::Tokens) {
        tokens
    } else {
        1
    }
}

pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(crate) fn fraction(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// What a call reports of one of its limits: used without a grant, and returned.
pub(crate) fn reported(asks: &[LeaseRequest], indexes: &[usize], limit: usize) -> u64 {
    let ask = indexes.iter().position(|index| *index == limit);
    match ask.map(|place| &asks[place].report) {
        Some(LeaseReport::Grants { returns, owed, .. }) => {
            owed + returns.iter().map(|slice| slice.amount).sum::<u64>()
        }
        Some(LeaseReport::Permits { .. }) | None => 0,
    }
}
