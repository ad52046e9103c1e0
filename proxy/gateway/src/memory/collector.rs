//! What a scrape sees of the budget.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Memory;

/// Reads the budget at each scrape.
#[derive(Debug)]
pub(crate) struct AtScrape(pub(crate) Arc<Memory>);

impl Collector for AtScrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(memory) = self;
        let gauges = [
            (
                "memory_budget",
                "Most that the process holds for its clients (--memory-budget).",
                memory.budget.limit(),
            ),
            (
                "memory_held",
                "What it holds: connections, running requests, their bodies, answers kept for their usage.",
                memory.budget.held(),
            ),
        ];
        for (name, help, bytes) in gauges {
            let unit = Some(&Unit::Bytes);
            let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(u64::try_from(bytes).unwrap_or(u64::MAX)).encode(encoder)?;
        }
        let counters = [
            (
                "connections_turned_away",
                "Connections of clients that were refused since no memory or descriptor is left for them.",
                &memory.turned_away,
            ),
            (
                "retries_given_up",
                "Copies of request bodies that were given up for the memory of others: no retry is possible.",
                &memory.given_up,
            ),
        ];
        for (name, help, count) in counters {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(encoder)?;
        }
        Ok(())
    }
}
