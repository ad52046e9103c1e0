//! Latencies as percentiles, in microseconds.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// Latencies up to a minute, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 60_000_000, 3)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(
            u64::try_from(latency.as_micros())
                .unwrap_or(u64::MAX)
                .max(1),
        );
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in microseconds that `share` of all stay below.
    pub(crate) fn micros(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }
}
