//! Metrics of the controller.

use std::sync::atomic::AtomicU64;

use operator_publish::Denial;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[cfg(test)]
mod tests;

/// The controller's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) compile_duration: Histogram,
    pub(crate) compilations: Counter,
    pub(crate) revision: Gauge<u64, AtomicU64>,
    pub(crate) objects: Family<KindLabel, Gauge>,
    pub(crate) diagnostics: Family<DiagnosticLabels, Gauge>,
    pub(crate) watch_synced: Family<KindLabel, Gauge>,
    pub(crate) watch_errors: Family<KindLabel, Counter>,
    namespaces_left_out: Family<NamespaceLabel, Gauge>,
    namespaces_of_others: Family<NamespaceLabel, Gauge>,
    pub(crate) status_writes: Family<WriteLabels, Counter>,
    pub(crate) event_writes: Family<ResultLabel, Counter>,
    pub(crate) checkpoint_writes: Family<ResultLabel, Counter>,
    pub(crate) snapshot_writes: Family<ResultLabel, Counter>,
    pub(crate) snapshot_size: Gauge<u64, AtomicU64>,
    pub(crate) reviews: Family<ReviewLabel, Counter>,
    pub(crate) is_leader: Gauge,
    pub(crate) leader_transitions: Counter,
    pub(crate) lease_errors: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabel {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DiagnosticLabels {
    pub(crate) severity: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WriteLabels {
    pub(crate) kind: &'static str,
    pub(crate) result: WriteResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: WriteResult,
}

/// How a write to the API server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum WriteResult {
    Stored,
    /// The object was deleted, or replaced by a new one of its name.
    Gone,
    Failed,
    /// There is no room for it; what was stored before is removed.
    TooLarge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReviewLabel {
    result: ReviewResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum ReviewResult {
    Good,
    NotAuthenticated,
    WrongAudience,
    WrongAccount,
    Unavailable,
}

// === impl Metrics ===

impl Metrics {
    /// Makes the metrics and registers them; the caller chooses the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // A thousand routes take a few milliseconds.
            compile_duration: Histogram::new([
                0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
            ]),
            compilations: Counter::default(),
            revision: Gauge::default(),
            objects: Family::default(),
            diagnostics: Family::default(),
            watch_synced: Family::default(),
            watch_errors: Family::default(),
            namespaces_left_out: Family::default(),
            namespaces_of_others: Family::default(),
            status_writes: Family::default(),
            event_writes: Family::default(),
            checkpoint_writes: Family::default(),
            snapshot_writes: Family::default(),
            snapshot_size: Gauge::default(),
            reviews: Family::default(),
            is_leader: Gauge::default(),
            leader_transitions: Counter::default(),
            lease_errors: Counter::default(),
        };
        metrics.describe(registry);
        metrics
    }

    fn describe(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "compile_duration",
            "Time to compile all objects into a table",
            Unit::Seconds,
            self.compile_duration.clone(),
        );
        registry.register("compilations", "Tables compiled", self.compilations.clone());
        registry.register(
            "compiled_revision",
            "Revision of the last compiled table",
            self.revision.clone(),
        );
        registry.register("objects", "Objects watched, by kind", self.objects.clone());
        registry.register(
            "diagnostics",
            "Findings about objects in the last compiled table, by severity and reason",
            self.diagnostics.clone(),
        );
        registry.register(
            "watch_synced",
            "1 if the kind's last watch event was no failure",
            self.watch_synced.clone(),
        );
        registry.register(
            "watch_errors",
            "Failed lists and watches, by kind",
            self.watch_errors.clone(),
        );
        registry.register(
            "namespaces_left_out",
            "1 for each watched namespace that cannot be read, and of which nothing takes part",
            self.namespaces_left_out.clone(),
        );
        registry.register(
            "namespaces_of_others",
            "1 for each namespace in which another installation writes the statuses",
            self.namespaces_of_others.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes, by kind and result",
            self.status_writes.clone(),
        );
        registry.register(
            "event_writes",
            "Kubernetes events written, by result",
            self.event_writes.clone(),
        );
        registry.register(
            "checkpoint_writes",
            "Checkpoints of counters written, by result",
            self.checkpoint_writes.clone(),
        );
        registry.register(
            "snapshot_writes",
            "Snapshots written for proxies that start while every operator is away, by result",
            self.snapshot_writes.clone(),
        );
        registry.register_with_unit(
            "snapshot_size",
            "Size of the last snapshot written, compressed; at most 3600000 fit",
            Unit::Bytes,
            self.snapshot_size.clone(),
        );
        registry.register(
            "token_reviews",
            "Tokens judged by the API server, by result",
            self.reviews.clone(),
        );
        self.describe_lease(registry);
    }

    fn describe_lease(&self, registry: &mut Registry) {
        registry.register(
            "is_leader",
            "1 on the operator that writes status",
            self.is_leader.clone(),
        );
        registry.register(
            "leader_transitions",
            "How often this operator gained or lost the leadership",
            self.leader_transitions.clone(),
        );
        registry.register(
            "lease_errors",
            "Failed reads and writes of the lease",
            self.lease_errors.clone(),
        );
    }

    pub(crate) fn left_out(&self, namespace: &str, is_left_out: bool) {
        let label = NamespaceLabel {
            namespace: namespace.to_owned(),
        };
        if is_left_out {
            self.namespaces_left_out.get_or_create(&label).set(1);
        } else {
            self.namespaces_left_out.remove(&label);
        }
    }

    pub(crate) fn foreign(&self, namespace: &str, is_foreign: bool) {
        let label = NamespaceLabel {
            namespace: namespace.to_owned(),
        };
        if is_foreign {
            self.namespaces_of_others.get_or_create(&label).set(1);
        } else {
            self.namespaces_of_others.remove(&label);
        }
    }

    pub(crate) fn reviewed(&self, outcome: Result<(), &Denial>) {
        let result = match outcome {
            Ok(()) => ReviewResult::Good,
            Err(Denial::Unauthenticated(_)) => ReviewResult::NotAuthenticated,
            Err(Denial::WrongAudience { .. }) => ReviewResult::WrongAudience,
            Err(Denial::WrongAccount { .. }) => ReviewResult::WrongAccount,
            Err(Denial::Unavailable(_)) => ReviewResult::Unavailable,
        };
        self.reviews.get_or_create(&ReviewLabel { result }).inc();
    }
}
