//! A refused reservation, in numbers.

use std::sync::Arc;

use proxy_core::quota::{Unit, Wait};

use crate::level::Level;
use crate::limit::EnforcedLimit;

/// A refused reservation.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The limit that refused. `None` for a limit that could not be counted, which does not happen.
    pub limit: Option<Spent>,
    /// When the same request would fit.
    pub wait: Wait,
    /// The store is away, and this replica's share is spent.
    pub store_lost: bool,
}

/// A limit that refused, and its level.
#[derive(Clone, Debug)]
pub struct Spent {
    /// The limit.
    pub limit: Arc<EnforcedLimit>,
    /// Its level.
    pub level: Level,
    /// How much the request asked of it.
    pub asked: u64,
}

impl Spent {
    /// What the limit counts.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.limit.limit.unit
    }
}
