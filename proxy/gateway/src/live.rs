//! The table in force, with everything that is looked up once per table instead of per request.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use proxy_core::auth::{Caller, Standing};
use proxy_core::quota::Limit;
use proxy_core::table::{Backend, Deployment, Table};

use crate::learned::{Learned, RuleSizes};
use crate::metrics::{LimitCounters, Metrics, RuleMetrics, TokenCounters};
use crate::upstream::Origin;

/// A published table. Requests hold the one that they began with until they end.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) table: Arc<Table>,
    /// Parallel to the table's rules.
    pub(crate) rules: Vec<RuleMetrics>,
    /// Parallel to the table's rules; what earlier tables learned of the same rules is kept.
    pub(crate) sizes: Vec<Arc<RuleSizes>>,
    /// Parallel to the table's limits.
    pub(crate) limits: Vec<LiveLimit>,
    /// Parallel to the table's backends.
    pub(crate) backends: Vec<LiveBackend>,
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
    /// Answers with status 200, parallel to its deployments.
    pub(crate) answered: Vec<Counter>,
}

/// A limit as this replica enforces it.
#[derive(Debug)]
pub(crate) struct LiveLimit {
    /// The declared limit, its amount divided by the number of replicas.
    pub(crate) limit: Limit,
    pub(crate) counters: LimitCounters,
}

impl LiveBackend {
    fn new(backend: &Backend, metrics: &Metrics) -> Self {
        let name: Arc<str> = backend.name.to_string().into();
        let answered = |deployment: &Deployment| metrics.tries(&name, &deployment.name, "200");
        let answered = backend.deployments.iter().map(answered).collect();
        Self {
            origin: Origin::of(backend),
            answered,
            name,
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
        let (rules, sizes) = table
            .rules()
            .iter()
            .filter_map(|flat| {
                let route = table.contents().routes.get(flat.route)?;
                let rule = route.rules.get(flat.rule)?;
                let sizes = learned.rule(&route.name, &rule.name);
                Some((metrics.rule(route, rule), sizes))
            })
            .unzip();
        let limits = table
            .limits()
            .iter()
            .map(|flat| {
                let mut limit = flat.limit.clone();
                // Rounded down: the replicas together never admit more than declared.
                limit.amount = limit.amount.checked_div(replicas).unwrap_or(limit.amount);
                LiveLimit {
                    limit,
                    counters: metrics.limit(&flat.name),
                }
            })
            .collect();
        let backends = table.contents().backends.iter();
        let backends = backends.map(|b| LiveBackend::new(b, metrics)).collect();
        Self {
            table,
            rules,
            sizes,
            limits,
            backends,
            tokens: RwLock::default(),
            metrics: metrics.clone(),
        }
    }

    /// The token counters of a caller on the route of a rule. Callers whom no Secret names share
    /// one series, or a stranger could make as many as it likes.
    pub(crate) fn tokens(&self, rule: usize, caller: &Caller) -> TokenCounters {
        let name = match caller.standing {
            Standing::Known(_) => Arc::clone(&caller.name),
            Standing::Unknown => "pass-through".into(),
            Standing::Anonymous => "anonymous".into(),
        };
        let key = (rule, name);
        if let Some(known) = self.tokens.read().get(&key) {
            return known.clone();
        }
        let route = self.rules.get(rule).map_or("", |rule| &*rule.route);
        let counters = self.metrics.tokens(route, &key.1);
        self.tokens.write().insert(key, counters.clone());
        counters
    }
}
