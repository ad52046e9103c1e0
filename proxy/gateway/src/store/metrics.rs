//! What is counted about the store.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds of a call, from a fast network to the deadline.
const SECONDS: [f64; 9] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.064, 0.256,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    result: &'static str,
}

/// What is counted about the store.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(super) up: Gauge,
    pub(super) replicas: Gauge,
    calls: Family<CallLabels, Counter>,
    pub(super) losses: Counter,
    pub(super) recalls: Counter,
    pub(super) duration: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            up: Gauge::default(),
            replicas: Gauge::default(),
            calls: Family::default(),
            losses: Counter::default(),
            recalls: Counter::default(),
            duration: Histogram::new(SECONDS),
        };
        registry.register(
            "quota_store_up",
            "Whether the shared store of counters answers (1), or each limit does what onStoreLoss says (0)",
            metrics.up.clone(),
        );
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

    pub(super) fn called(&self, result: &'static str) {
        self.calls.get_or_create(&CallLabels { result }).inc();
    }
}
