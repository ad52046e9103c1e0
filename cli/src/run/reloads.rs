//! What is counted about the folder that `tundish run` follows. Names carry the prefix of the registry.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use operator_compile::Severity;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use proxy_admin::clock;

use crate::manifests::Finding;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SeverityLabels {
    severity: &'static str,
}

/// The metrics of a folder.
#[derive(Debug)]
pub(super) struct Reloads {
    reloads: Family<ResultLabels, Counter>,
    successful: Gauge,
    last_success: Gauge<f64, AtomicU64>,
    findings: Family<SeverityLabels, Gauge>,
    /// The last look failed, and is counted.
    failing: bool,
}

impl Reloads {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            successful: Gauge::default(),
            last_success: Gauge::default(),
            findings: Family::default(),
            failing: false,
        };
        registry.register(
            "manifests_reloads",
            "Changes of the folder, by result: applied, unchanged (the same table), failed (gone, empty or \
             without objects; the table before stays)",
            metrics.reloads.clone(),
        );
        registry.register(
            "manifests_last_reload_successful",
            "1 if the folder could be read when it was last looked at, and had objects",
            metrics.successful.clone(),
        );
        registry.register_with_unit(
            "manifests_last_reload_success_timestamp",
            "When a change was last read and compiled, since the Unix epoch",
            Unit::Seconds,
            metrics.last_success.clone(),
        );
        registry.register(
            "manifests_findings",
            "Mistakes in the folder as it was last compiled, by severity; an object with an error fails closed",
            metrics.findings.clone(),
        );
        metrics
    }

    /// A change was read and compiled. It made a table that is in force now, or the same as before.
    pub(super) fn compiled(&self, applied: bool, now: Instant) {
        self.count(if applied { "applied" } else { "unchanged" });
        let now = Duration::from_micros(clock::unix_micros(now).unsigned_abs());
        self.last_success.set(now.as_secs_f64());
    }

    /// What the compilation found.
    pub(super) fn found(&self, findings: &[Finding]) {
        for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            let of_severity = findings.iter().filter(|found| found.severity == severity);
            let count = i64::try_from(of_severity.count()).unwrap_or(i64::MAX);
            let labels = SeverityLabels { severity: word };
            self.findings.get_or_create(&labels).set(count);
        }
    }

    /// The folder was looked at. A failure counts once, however long it lasts.
    pub(super) fn looked(&mut self, usable: bool) {
        self.successful.set(usable.into());
        if !usable && !self.failing {
            self.count("failed");
        }
        self.failing = !usable;
    }

    fn count(&self, result: &'static str) {
        self.reloads.get_or_create(&ResultLabels { result }).inc();
    }
}
