//! Why nothing was reserved, in numbers.

use std::sync::Arc;

use proxy_core::quota::{Unit, Wait};

use crate::level::Level;
use crate::limit::EnforcedLimit;

/// Nothing was reserved.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The limit that refused. `None` if a limit could not be counted, which does not happen.
    pub limit: Option<Spent>,
    /// When the same request would fit.
    pub wait: Wait,
    /// The store is away, and what its loss leaves to this replica is spent.
    pub store_lost: bool,
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
    /// What the limit counts.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.limit.limit.unit
    }
}
