//! One measurement of one row: the CPU that its process used, and what came of it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;

use super::workload::{Lane, Load, Pace};
use crate::figures::float;
use crate::latency::Latencies;
use crate::load::events::{self, Wish};
use crate::load::{self, Connections, Target};
use crate::process;
use crate::subject::Running;

/// Beyond the time of a sample: an answer that never ends must not hang the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// A subject in a workload.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) lane: Lane,
    pub(super) samples: Vec<Sample>,
    running: Running,
    target: Target,
}

#[derive(Debug)]
pub(super) struct Sample {
    /// Per request, or per event.
    pub(super) cpu_micros: f64,
    pub(super) per_second: f64,
    /// None for events.
    pub(super) latencies: Option<Latencies>,
}

impl Row {
    pub(super) fn new(name: String, lane: Lane, running: Running, target: Target) -> Self {
        Self {
            name,
            lane,
            samples: Vec::new(),
            running,
            target,
        }
    }

    pub(super) async fn sample(&mut self, load: Load, time: Duration) -> Result<()> {
        let sample = match load {
            Load::Requests { bytes, connections } => {
                timeout(time + PATIENCE, self.requests(bytes, connections, time)).await
            }
            Load::Events { streams, pace } => {
                timeout(time + PATIENCE, self.events(streams, pace, time)).await
            }
        };
        self.samples.push(sample.context("answers do not end")??);
        self.running.forget_log()
    }

    async fn requests(&self, bytes: usize, connections: usize, time: Duration) -> Result<Sample> {
        let request = load::chat(self.target.address, &self.running.header, bytes);
        let open = Connections::open(&self.target, &request, connections).await?;
        let before = process::cpu(self.running.id)?;
        let outcome = open.drive(time).await?;
        let used = process::cpu(self.running.id)?.saturating_sub(before);
        let count = float(outcome.latencies.count());
        Ok(Sample {
            cpu_micros: used.as_secs_f64() * 1e6 / count,
            per_second: count / outcome.elapsed.as_secs_f64(),
            latencies: Some(outcome.latencies),
        })
    }

    async fn events(&self, streams: usize, pace: Pace, time: Duration) -> Result<Sample> {
        let (events, rate, time) = match pace {
            // One stream takes all the time: twice that of others, since the proxy is mostly idle and
            // the kernel tells CPU in steps of 10 ms.
            Pace::PerSecond(rate) => (2 * rate * time.as_secs(), rate, Duration::ZERO),
            Pace::BackToBack(events) => (events, 0, time),
        };
        let wish = Wish {
            events,
            rate,
            usage: self.lane.usage,
        };
        let before = process::cpu(self.running.id)?;
        let outcome =
            events::streams(&self.target, &self.running.header, wish, streams, time).await?;
        let used = process::cpu(self.running.id)?.saturating_sub(before);
        let count = float(outcome.events);
        Ok(Sample {
            cpu_micros: used.as_secs_f64() * 1e6 / count,
            per_second: count / outcome.elapsed.as_secs_f64(),
            latencies: None,
        })
    }
}
