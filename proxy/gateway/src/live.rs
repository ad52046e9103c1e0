//! The table in force, with everything that is looked up once per table instead of per request.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use proxy_core::auth::{Caller, CallerKind};
use proxy_core::names::ObjectName;
use proxy_core::quota::{Limit, LimitName, Mode};
use proxy_core::table::{Backend, Deployment, FlatLimit, FlatRule, Table};

use crate::learned::{Learned, RuleSizes};
use crate::metrics::{LimitCounters, Metrics, RuleMetrics, TokenCounters};
use crate::upstream::Origin;

/// A published table. Requests hold the one that they began with until they end.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) table: Arc<Table>,
    /// Parallel to the table's rules.
    pub(crate) rules: Vec<LiveRule>,
    /// Every limit, by name.
    pub(crate) limits: HashMap<LimitName, Arc<LiveLimit>, foldhash::fast::RandomState>,
    pub(crate) backends: HashMap<ObjectName, LiveBackend, foldhash::fast::RandomState>,
    tokens: RwLock<HashMap<(usize, Arc<str>), TokenCounters, foldhash::fast::RandomState>>,
    metrics: Metrics,
}

/// A backend, ready to be sent to.
#[derive(Debug)]
pub(crate) struct LiveBackend {
    /// `namespace/name`.
    pub(crate) name: Arc<str>,
    /// Its address and credential, or why there is none.
    pub(crate) origin: Result<Origin, String>,
    /// Answers with status 200, by deployment.
    pub(crate) answered: HashMap<Arc<str>, Counter>,
}

/// A rule, with what is counted of its requests.
#[derive(Debug)]
pub(crate) struct LiveRule {
    pub(crate) metrics: RuleMetrics,
    /// What earlier tables learned of the same rule is kept.
    pub(crate) sizes: Arc<RuleSizes>,
    /// What may apply.
    pub(crate) limits: Vec<Arc<LiveLimit>>,
}

/// A limit as this replica enforces it.
#[derive(Debug)]
pub(crate) struct LiveLimit {
    pub(crate) flat: Arc<FlatLimit>,
    /// The declared limit, its amount divided by the number of replicas.
    pub(crate) limit: Limit,
    pub(crate) counters: LimitCounters,
}

impl LiveBackend {
    fn new(backend: &Backend, metrics: &Metrics) -> Self {
        let name: Arc<str> = backend.name.to_string().into();
        let answered = |deployment: &Deployment| {
            let counter = metrics.tries(&name, &deployment.name, "200");
            (Arc::clone(&deployment.name), counter)
        };
        let answered = backend.deployments.iter().map(answered).collect();
        Self {
            origin: Origin::of(backend),
            answered,
            name,
        }
    }
}

impl LiveLimit {
    pub(crate) fn mode(&self) -> Mode {
        self.flat.quota.mode
    }

    fn new(flat: &Arc<FlatLimit>, replicas: u64, metrics: &Metrics) -> Self {
        let mut limit = flat.limit.clone();
        // Rounded down: the replicas together never admit more than declared.
        limit.amount = limit.amount.checked_div(replicas).unwrap_or(limit.amount);
        Self {
            limit,
            counters: metrics.limit(&flat.name),
            flat: Arc::clone(flat),
        }
    }
}

impl Live {
    /// Prepares a table for a gateway of `replicas` replicas without a shared store.
    pub(crate) fn new(
        table: Arc<Table>,
        replicas: u64,
        metrics: &Metrics,
        learned: &Learned,
    ) -> Self {
        let mut limits: HashMap<LimitName, Arc<LiveLimit>, _> = HashMap::default();
        // Made where it is first needed, so that no rule can miss one.
        let mut handle = |flat: &Arc<FlatLimit>| {
            let made = || Arc::new(LiveLimit::new(flat, replicas, metrics));
            Arc::clone(limits.entry(flat.name.clone()).or_insert_with(made))
        };
        let rule = |flat: &FlatRule| LiveRule {
            metrics: metrics.rule(&flat.route, &flat.rule),
            sizes: learned.rule(&flat.route.name, &flat.rule.name),
            limits: flat.limits.iter().map(&mut handle).collect(),
        };
        let rules = table.rules().iter().map(rule).collect();
        table.limits().iter().for_each(|flat| drop(handle(flat)));
        let backends = table.contents().backends.iter();
        let backends = backends.map(|b| (b.name.clone(), LiveBackend::new(b, metrics)));
        let backends = backends.collect();
        Self {
            table,
            rules,
            limits,
            backends,
            tokens: RwLock::default(),
            metrics: metrics.clone(),
        }
    }

    /// The token counters of a caller on the route of a rule. Callers without a Secret share
    /// one series, or a stranger could create any number of them.
    pub(crate) fn tokens(&self, rule: usize, caller: &Caller) -> TokenCounters {
        let name = match caller.kind {
            CallerKind::Known(_) => Arc::clone(&caller.name),
            CallerKind::Unknown => "pass-through".into(),
            CallerKind::Anonymous => "anonymous".into(),
        };
        let key = (rule, name);
        if let Some(known) = self.tokens.read().get(&key) {
            return known.clone();
        }
        let route = self.rules.get(rule).map_or("", |rule| &*rule.metrics.route);
        let counters = self.metrics.tokens(route, &key.1);
        self.tokens.write().insert(key, counters.clone());
        counters
    }
}
