//! A limit as this replica enforces it: a handle that the rules of a table share.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use proxy_core::auth::Caller;
use proxy_core::quota::{Limit, Mode};
use proxy_core::table::FlatLimit;

use crate::metrics::{LimitCounters, Metrics};

/// A limit as this replica enforces it: for the callers of one override of its quota, or for all others.
#[derive(Debug)]
pub struct EnforcedLimit {
    /// The limit as declared.
    pub flat: Arc<FlatLimit>,
    /// The same with this replica's part of [`EnforcedLimit::declared`].
    pub limit: Limit,
    /// What all replicas together allow: the amount of the limit, or of the override.
    pub declared: u64,
    /// Requests that it refused.
    pub denials: Counter,
    /// Requests that it would have refused, were its quota enforced.
    pub shadow_denials: Counter,
    /// How often a counter of it has reached a level of `warnAt`; `None` if there is none.
    pub(crate) warnings: Option<Counter>,
    /// The place of the override.
    place: Option<usize>,
    /// For the callers of each override; `None` where it leaves this limit as it is.
    overrides: Vec<Option<Arc<Self>>>,
}

impl EnforcedLimit {
    /// The part of one of `replicas` replicas.
    #[must_use]
    pub fn new(flat: &Arc<FlatLimit>, replicas: u64, metrics: &Metrics) -> Self {
        let warns = !flat.quota.warn_at.levels().is_empty();
        let counters = metrics.limit(&flat.name, warns);
        let overrides = flat.quota.overrides.iter().enumerate();
        let overrides = overrides.map(|(place, one)| {
            let amount = one.amount(&flat.limit.name)?;
            let enforced = Self::of(flat, amount, replicas, &counters);
            Some(Arc::new(Self {
                place: Some(place),
                ..enforced
            }))
        });
        Self {
            overrides: overrides.collect(),
            ..Self::of(flat, flat.limit.amount, replicas, &counters)
        }
    }

    fn of(flat: &Arc<FlatLimit>, amount: u64, replicas: u64, counters: &LimitCounters) -> Self {
        let LimitCounters {
            denials,
            shadow_denials,
            warnings,
        } = counters.clone();
        Self {
            flat: Arc::clone(flat),
            limit: flat.limit.share(amount, replicas),
            declared: amount,
            denials,
            shadow_denials,
            warnings,
            place: None,
            overrides: Vec::new(),
        }
    }

    /// The limit that counts for `caller`.
    #[must_use]
    pub fn for_caller(self: &Arc<Self>, caller: &Caller) -> &Arc<Self> {
        self.at(self.flat.quota.override_of(caller))
    }

    /// The limit of this table that counts like `other`, which may be one of an earlier table. If the quota
    /// has changed since, its overrides may have, too: then the limit as it is for all.
    pub(crate) fn like(self: &Arc<Self>, other: &Self) -> &Arc<Self> {
        let is_same = Arc::ptr_eq(&self.flat, &other.flat);
        self.at(other.place.filter(|_| is_same))
    }

    fn at(self: &Arc<Self>, place: Option<usize>) -> &Arc<Self> {
        let found = place.and_then(|place| self.overrides.get(place)?.as_ref());
        found.unwrap_or(self)
    }

    /// The most that it allows any caller.
    #[must_use]
    pub fn largest_amount(&self) -> u64 {
        let overrides = self.overrides.iter().flatten();
        let amounts = overrides.map(|one| one.limit.amount);
        amounts.fold(self.limit.amount, u64::max)
    }

    /// What all replicas together allow, if an override says so.
    #[must_use]
    pub fn overridden(&self) -> Option<u64> {
        self.place.map(|_| self.declared)
    }

    /// Whether its quota refuses.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.flat.quota.mode
    }
}
