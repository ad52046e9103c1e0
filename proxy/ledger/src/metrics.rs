//! What is counted about reservations, limits and the store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use proxy_core::quota::LimitName;

/// Seconds of a call, from a fast network to the deadline.
const SECONDS: [f64; 9] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.064, 0.256,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SettlementLabels {
    kind: &'static str,
}

/// All metrics of a ledger.
#[derive(Clone, Debug)]
pub struct Metrics {
    denials: Family<LimitLabels, Counter>,
    shadow_denials: Family<LimitLabels, Counter>,
    warnings: Family<LimitLabels, Counter>,
    settlements: Family<SettlementLabels, Counter>,
    pub(crate) store: StoreMetrics,
}

/// What is counted about the store.
#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    pub(crate) up: StoreUp,
    pub(crate) replicas: Gauge,
    calls: Family<CallLabels, Counter>,
    pub(crate) losses: Counter,
    pub(crate) recalls: Counter,
    pub(crate) duration: Histogram,
}

/// Whether the store answers. Without a store there is no such series: 0 would read as an outage.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreUp {
    has_store: Arc<AtomicBool>,
    gauge: Gauge,
}

/// Handles for one limit.
#[derive(Clone, Debug)]
pub(crate) struct LimitCounters {
    /// Requests that it refused.
    pub(crate) denials: Counter,
    /// Requests that it would have refused in mode Shadow.
    pub(crate) shadow_denials: Counter,
    /// Levels of `warnAt` that its counters have reached.
    pub(crate) warnings: Option<Counter>,
}

/// Handles for the ways in which a reservation ends.
#[derive(Clone, Debug)]
pub(crate) struct Settlements {
    pub(crate) measured: Counter,
    pub(crate) estimated: Counter,
    pub(crate) released: Counter,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            denials: Family::default(),
            shadow_denials: Family::default(),
            warnings: Family::default(),
            settlements: Family::default(),
            store: StoreMetrics::register(registry),
        };
        registry.register(
            "denials",
            "Requests refused by a limit",
            metrics.denials.clone(),
        );
        registry.register(
            "shadow_denials",
            "Requests that a limit in mode Shadow would have refused",
            metrics.shadow_denials.clone(),
        );
        registry.register(
            "quota_warnings",
            "Times that a counter of a limit reached a level of its quota's warnAt, once for each window",
            metrics.warnings.clone(),
        );
        registry.register(
            "settlements",
            "Reservations settled: measured (by usage), estimated (usage unknown), released (not billed)",
            metrics.settlements.clone(),
        );
        metrics
    }

    /// What is counted of one limit, which `warns` or not.
    pub(crate) fn limit(&self, name: &LimitName, warns: bool) -> LimitCounters {
        let labels = LimitLabels {
            limit: name.to_string(),
        };
        LimitCounters {
            denials: self.denials.get_or_create_owned(&labels),
            shadow_denials: self.shadow_denials.get_or_create_owned(&labels),
            warnings: warns.then(|| self.warnings.get_or_create_owned(&labels)),
        }
    }

    pub(crate) fn settlements(&self) -> Settlements {
        let counter = |kind| {
            self.settlements
                .get_or_create(&SettlementLabels { kind })
                .clone()
        };
        Settlements {
            measured: counter("measured"),
            estimated: counter("estimated"),
            released: counter("released"),
        }
    }
}

impl StoreUp {
    /// There is a store; it has not answered yet.
    pub(crate) fn show(&self) {
        self.has_store.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, answers: bool) {
        self.gauge.set(answers.into());
    }
}

impl Collector for StoreUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if !self.has_store.load(Ordering::Relaxed) {
            return Ok(());
        }
        let encoder = encoder.encode_descriptor(
            "quota_store_up",
            "Whether the shared store of counters answers (1), or each limit does what onStoreLoss says (0); \
             only with a store.",
            None,
            self.gauge.metric_type(),
        )?;
        EncodeMetric::encode(&self.gauge, encoder)
    }
}

impl StoreMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            up: StoreUp::default(),
            replicas: Gauge::default(),
            calls: Family::default(),
            losses: Counter::default(),
            recalls: Counter::default(),
            duration: Histogram::new(SECONDS),
        };
        registry.register_collector(Box::new(metrics.up.clone()));
        registry.register(
            "quota_store_replicas",
            "Replicas that the store has heard of within 2 s",
            metrics.replicas.clone(),
        );
        registry.register(
            "quota_store_calls",
            "Calls to the store: answered, or failed (late, refused or cut)",
            metrics.calls.clone(),
        );
        registry.register(
            "quota_store_losses",
            "How often the store went away",
            metrics.losses.clone(),
        );
        registry.register(
            "quota_store_recalls",
            "How often what was lent and not used was given back since another replica lacked it",
            metrics.recalls.clone(),
        );
        registry.register_with_unit(
            "quota_store_call_duration",
            "From sending a call to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics
    }

    pub(crate) fn called(&self, result: &'static str) {
        self.calls.get_or_create(&CallLabels { result }).inc();
    }
}
