//! What Prometheus' own clients tell of a process, under their names: its CPU, memory, descriptors and start.
//! And which build it is.
//!
//! Read at each scrape from `/proc`; a system without it has none of them.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

#[cfg(test)]
mod tests;

/// The metrics of this process. They take no prefix: dashboards know their names.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    // All binaries are built together, so the version of this crate is theirs.
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))].to_vec());
    registry.register("tundish_build", "The build of this process", build);
    registry.register_collector(Box::new(Process));
    registry
}

#[derive(Debug)]
struct Process;

/// The fields of `/proc/self/stat` that are shown (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    /// Since the boot.
    start_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn parse(text: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The second field is the program's name, which may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The third field is the first one here.
        let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<u64>().ok();
        let seconds = |ticks: u64| Some(float(ticks) / float(ticks_per_second));
        Some(Self {
            cpu_seconds: seconds(number(14)?.saturating_add(number(15)?))?,
            threads: number(20)?,
            start_seconds: seconds(number(22)?)?,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)?.saturating_mul(page_bytes),
        })
    }

    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let page_bytes = u64::try_from(page_size()).ok()?;
        Self::parse(&text, clock_ticks_per_second(), page_bytes)
    }
}

/// When the system started, in seconds since the Unix epoch.
fn booted() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    boot.trim().parse().ok()
}

fn open_descriptors() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // Less the one that lists them.
    u64::try_from(open.saturating_sub(1)).ok()
}

/// Exact below 2^53: bytes and ticks of a process are.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "samples are floats"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
        };
        let stat = Stat::read();
        let of = |value: fn(&Stat) -> f64| stat.as_ref().map(value);
        gauge(
            "process_resident_memory",
            "Memory of the process that is in RAM.",
            Some(Unit::Bytes),
            of(|stat| float(stat.resident_bytes)),
        )?;
        gauge(
            "process_virtual_memory",
            "Memory that the process has mapped.",
            Some(Unit::Bytes),
            of(|stat| float(stat.virtual_bytes)),
        )?;
        gauge(
            "process_open_fds",
            "File descriptors that are open.",
            None,
            open_descriptors().map(float),
        )?;
        gauge(
            "process_max_fds",
            "File descriptors that may be open at once.",
            None,
            getrlimit(Resource::Nofile).current.map(float),
        )?;
        gauge(
            "process_threads",
            "Threads of the process.",
            None,
            of(|stat| float(stat.threads)),
        )?;
        let start = booted().zip(stat.as_ref());
        gauge(
            "process_start_time",
            "When the process started, since the Unix epoch.",
            Some(Unit::Seconds),
            start.map(|(boot, stat)| float(boot) + stat.start_seconds),
        )?;
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let help = "CPU time of the process, in user space and in the kernel.";
            let kind = cpu.metric_type();
            cpu.encode(encoder.encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                kind,
            )?)?;
        }
        Ok(())
    }
}
