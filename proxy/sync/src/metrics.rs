//! Metrics of the proxy's side of the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use proxy_admin::clock;
use proxy_core::names::Moment;

#[cfg(test)]
mod tests;

/// Metrics of the proxy's side of the channel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) connected: Gauge,
    pub(crate) refused: Counter,
    pub(crate) ignored: Counter,
    pub(crate) revision: Gauge<u64, AtomicU64>,
    pub(crate) reports: Counter,
    pub(crate) reports_failed: Counter,
    pub(crate) unreported: Gauge,
    unsupported: Gauge,
    stale: Gauge,
    contact: Arc<AtomicU64>,
}

/// Calculates the age at scrape.
#[derive(Debug)]
struct ContactAge(Arc<AtomicU64>);

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connected: Gauge::default(),
            refused: Counter::default(),
            ignored: Counter::default(),
            revision: Gauge::default(),
            reports: Counter::default(),
            reports_failed: Counter::default(),
            unreported: Gauge::default(),
            unsupported: Gauge::default(),
            stale: Gauge::default(),
            contact: Arc::new(AtomicU64::new(clock::now().monotonic_ms)),
        };
        registry.register(
            "channel_connected",
            "Operators whose channel is open",
            metrics.connected.clone(),
        );
        registry.register(
            "channel_refused",
            "Tables refused because they could not be read",
            metrics.refused.clone(),
        );
        registry.register(
            "channel_ignored",
            "Tables ignored because they were older than the current one",
            metrics.ignored.clone(),
        );
        registry.register(
            "table_revision",
            "Revision of the current table",
            metrics.revision.clone(),
        );
        registry.register(
            "channel_reports",
            "Reports of counters that an operator accepted",
            metrics.reports.clone(),
        );
        registry.register(
            "channel_reports_failed",
            "Reports of counters that failed or were refused by an operator",
            metrics.reports_failed.clone(),
        );
        registry.register(
            "channel_counters_unreported",
            "Counters left out of reports because there are too many",
            metrics.unreported.clone(),
        );
        registry.register(
            "channel_unsupported_entries",
            "Entries of the current table that need a newer proxy and are refused",
            metrics.unsupported.clone(),
        );
        registry.register(
            "table_stale",
            "1 while no operator has been in contact for longer than --max-table-age",
            metrics.stale.clone(),
        );
        registry.register_collector(Box::new(ContactAge(Arc::clone(&metrics.contact))));
        metrics
    }

    /// The current table has this number of unsupported entries.
    pub(crate) fn unsupported(&self, entries: usize) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.unsupported.set(entries);
    }

    /// Whether the table is older than allowed.
    pub(crate) fn stale(&self, stale: bool) {
        self.stale.set(i64::from(stale));
    }

    /// Time since something arrived from an operator, or since the start.
    pub(crate) fn contact_age(&self, now: Moment) -> Duration {
        let then = self.contact.load(Ordering::Relaxed);
        Duration::from_millis(now.monotonic_ms.saturating_sub(then))
    }

    /// Something arrived from an operator.
    pub(crate) fn heard(&self) {
        let now = clock::now().monotonic_ms;
        self.contact.fetch_max(now, Ordering::Relaxed);
    }
}

impl Collector for ContactAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let then = self.0.load(Ordering::Relaxed);
        let age_ms = clock::now().monotonic_ms.saturating_sub(then);
        let age = ConstGauge::new(Duration::from_millis(age_ms).as_secs_f64());
        let metric = encoder.encode_descriptor(
            "channel_contact_age",
            "Time since the last byte from an operator, or since the start",
            Some(&Unit::Seconds),
            age.metric_type(),
        )?;
        age.encode(metric)
    }
}
