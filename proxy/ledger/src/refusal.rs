//! Why nothing was reserved, in numbers.

use std::sync::Arc;

use proxy_core::quota::{Unit, Wait, percent_used};

use crate::level::Level;
use crate::limit::EnforcedLimit;

/// Nothing was reserved.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The limit that refused. `None` if a limit could not be counted, which does not happen.
    pub limit: Option<Spent>,
    /// When the same request would fit.
    pub wait: Wait,
    /// Why it refused.
    pub cause: Cause,
}

/// Why a limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is spent.
    Spent,
    /// The store is away, and what its loss leaves to this replica is spent.
    StoreLost,
    /// Too many requests run that may use more than they hold, and this would be another.
    Exposed {
        /// How many run.
        running: u32,
    },
    /// Callers whose credentials no backend has accepted yet hold what all of them may hold.
    Unproved,
}

/// A limit that refused, and how it stands.
#[derive(Clone, Debug)]
pub struct Spent {
    /// The limit.
    pub limit: Arc<EnforcedLimit>,
    /// How it stands.
    pub level: Level,
    /// How much the request asked of it.
    pub asked: u64,
}

impl Spent {
    /// How much of it is used, in per cent, if that reaches a level of its quota's `warnAt`.
    #[must_use]
    pub fn warning(&self) -> Option<u64> {
        let percent = percent_used(self.level.used, self.level.amount);
        let warn_at = &self.limit.flat.quota.warn_at;
        warn_at.reached(percent).map(|_| percent)
    }

    /// What the limit counts.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.limit.limit.unit
    }
}
