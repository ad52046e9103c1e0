//! The table in force, with everything that is looked up once per table instead of per request.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use proxy_core::auth::{Caller, CallerKind};
use proxy_core::quota::LimitName;
use proxy_core::table::{FlatLimit, FlatRule, FlatTarget, Table};
use proxy_ledger::EnforcedLimit;

use crate::endpoint::{Endpoints, Placed};
use crate::metrics::{Metrics, RuleMetrics, TokenCounters};
use crate::sizes::{RuleSizes, Sizes};

/// A published table. Requests hold the one that they began with until they end.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) table: Arc<Table>,
    /// Parallel to the table's rules.
    rules: Vec<Arc<LiveRule>>,
    /// Every limit, by name.
    limits: HashMap<LimitName, Arc<EnforcedLimit>, foldhash::fast::RandomState>,
}

/// A rule, with what is counted of its requests.
#[derive(Debug)]
pub(crate) struct LiveRule {
    pub(crate) metrics: RuleMetrics,
    /// What earlier tables observed of the same rule is kept.
    pub(crate) sizes: Arc<RuleSizes>,
    /// What may apply.
    pub(crate) limits: Vec<Arc<EnforcedLimit>>,
    /// Where it goes, as declared.
    pub(crate) targets: Vec<LiveTarget>,
    tokens: RwLock<HashMap<Arc<str>, TokenCounters, foldhash::fast::RandomState>>,
}

/// A target with the live parts of its endpoints.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    pub(crate) flat: FlatTarget,
    /// Parallel to the target's endpoints.
    endpoints: Vec<Placed>,
}

// === impl Live ===

impl Live {
    /// Prepares a table for a gateway of `replicas` replicas without a shared store.
    pub(crate) fn new(
        table: &Arc<Table>,
        replicas: u64,
        metrics: &Metrics,
        sizes: &Sizes,
        endpoints: &Endpoints,
    ) -> Self {
        let mut limits: HashMap<LimitName, Arc<EnforcedLimit>, _> = HashMap::default();
        // Made where it is first needed, so that no rule can miss one.
        let mut handle = |flat: &Arc<FlatLimit>| {
            let made = || Arc::new(EnforcedLimit::new(flat, replicas, &metrics.ledger));
            Arc::clone(limits.entry(flat.name.clone()).or_insert_with(made))
        };
        let rules = endpoints.publish(&table.contents().backends, |registry| {
            let mut target = |flat: &FlatTarget| LiveTarget {
                endpoints: flat
                    .endpoints()
                    .map(|declared| registry.placed(declared, metrics))
                    .collect(),
                flat: flat.clone(),
            };
            let rule = |flat: &FlatRule| {
                Arc::new(LiveRule {
                    metrics: metrics.rule(&flat.route, &flat.rule),
                    sizes: sizes.rule(&flat.route.name, &flat.rule.name),
                    limits: flat.limits.iter().map(&mut handle).collect(),
                    targets: flat.targets.iter().map(&mut target).collect(),
                    tokens: RwLock::default(),
                })
            };
            table.rules().iter().map(rule).collect()
        });
        table.limits().iter().for_each(|flat| drop(handle(flat)));
        Self {
            table: Arc::clone(table),
            rules,
            limits,
        }
    }

    /// The rule at `index` of the table.
    pub(crate) fn rule(&self, index: usize) -> Option<&Arc<LiveRule>> {
        self.rules.get(index)
    }

    /// A limit of the table.
    pub(crate) fn limit(&self, name: &LimitName) -> Option<&EnforcedLimit> {
        self.limits.get(name).map(|limit| &**limit)
    }
}

// === impl LiveRule ===

impl LiveRule {
    /// The token counters of a caller. Callers without a Secret share one series, or a stranger could
    /// make as many as it likes.
    pub(crate) fn tokens(&self, caller: &Caller) -> TokenCounters {
        let name = match caller.kind {
            CallerKind::Known(_) => Arc::clone(&caller.name),
            CallerKind::Unknown => "pass-through".into(),
            CallerKind::Anonymous => "anonymous".into(),
        };
        if let Some(known) = self.tokens.read().get(&name) {
            return known.clone();
        }
        let counters = self.metrics.tokens(&name);
        self.tokens.write().insert(name, counters.clone());
        counters
    }
}

// === impl LiveTarget ===

impl LiveTarget {
    /// The endpoint for a model that the client named.
    pub(crate) fn endpoint(&self, model: &str) -> Option<&Placed> {
        self.endpoints.get(self.flat.place(model)?)
    }
}
