//! A limit as this replica enforces it: a handle that the rules of a table share.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use proxy_core::quota::{Limit, Mode};
use proxy_core::table::FlatLimit;

use crate::metrics::Metrics;

/// A limit as this replica enforces it.
#[derive(Debug)]
pub struct EnforcedLimit {
    /// The limit as declared.
    pub flat: Arc<FlatLimit>,
    /// The same with this replica's part of the amount.
    pub limit: Limit,
    /// Requests that it refused.
    pub denials: Counter,
    /// Requests that it would have refused, were its quota enforced.
    pub shadow_denials: Counter,
}

impl EnforcedLimit {
    /// The part of one of `replicas` replicas.
    #[must_use]
    pub fn new(flat: &Arc<FlatLimit>, replicas: u64, metrics: &Metrics) -> Self {
        let mut limit = flat.limit.clone();
        // Rounded down: the replicas together never admit more than declared.
        limit.amount = limit.amount.checked_div(replicas).unwrap_or(limit.amount);
        let (denials, shadow_denials) = metrics.denials(&flat.name);
        Self {
            flat: Arc::clone(flat),
            limit,
            denials,
            shadow_denials,
        }
    }

    /// Whether its quota refuses.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.flat.quota.mode
    }
}
