//! Metrics of the channel.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proxy_wire::v1::AckResult;

use crate::fleet::{Fleet, Replica};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Metrics of the channel's serving side. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) subscribers: Gauge,
    pub(crate) publications: Counter,
    pub(crate) revision: Gauge<u64, AtomicU64>,
    pub(crate) reports: Counter,
    pub(crate) carried: Gauge,
    pub(crate) carried_left_out: Gauge,
    pub(crate) checkpoint_left_out: Gauge,
    acks: Family<ResultLabel, Counter>,
    proxies: Family<StateLabel, Gauge>,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "channel_subscribers",
            "Open subscriptions of proxies to the table",
            metrics.subscribers.clone(),
        );
        registry.register(
            "channel_publications",
            "Tables published because they differed from the one before",
            metrics.publications.clone(),
        );
        registry.register(
            "table_revision",
            "Revision of the newest published table",
            metrics.revision.clone(),
        );
        registry.register(
            "channel_acks",
            "Acknowledgements received from proxies, by result",
            metrics.acks.clone(),
        );
        registry.register(
            "proxies",
            "Proxies that should be there, by state: current has the newest table, behind has not \
             acknowledged it, silent has no subscription and a pod that may serve clients",
            metrics.proxies.clone(),
        );
        registry.register(
            "quota_reports",
            "Reports of counters received from proxies",
            metrics.reports.clone(),
        );
        registry.register(
            "quota_carried",
            "Calendar counters that proxies carry for other replicas",
            metrics.carried.clone(),
        );
        registry.register(
            "quota_carried_left_out",
            "Calendar counters that the carryover leaves out, since there are too many",
            metrics.carried_left_out.clone(),
        );
        registry.register(
            "quota_checkpoint_left_out",
            "Calendar counters that did not fit the last checkpoint",
            metrics.checkpoint_left_out.clone(),
        );
        metrics
    }

    /// Counts the fleet, whose newest publication is that of `sequence`.
    pub(crate) fn count(&self, fleet: &Fleet, sequence: u64) {
        let (silent, heard): (Vec<&Replica>, _) = fleet
            .replicas
            .iter()
            .partition(|replica| replica.silent_since_ms.is_some());
        let (current, behind): (Vec<&Replica>, _) = heard
            .into_iter()
            .partition(|replica| replica.acked >= Some(sequence));
        for (state, replicas) in [("current", current), ("behind", behind), ("silent", silent)] {
            let gauge = self.proxies.get_or_create(&StateLabel { state });
            gauge.set(i64::try_from(replicas.len()).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn acked(&self, result: AckResult) {
        let result = match result {
            AckResult::Applied => "applied",
            AckResult::Refused => "refused",
        };
        self.acks.get_or_create(&ResultLabel { result }).inc();
    }
}
