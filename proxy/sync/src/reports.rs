//! Reports this replica's counters to the operators: every two seconds if something changed, else
//! every ten, and once more before it stops.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proxy_admin::shutdown::Shutdown;
use proxy_wire::v1::{Counted, DeploymentReport, Report};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::connection::{ChannelError, Connection};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// Usage of the last two seconds is lost if the replica is killed.
const CHANGED: Duration = Duration::from_secs(2);

/// An operator that missed a report receives the next one within this time.
const UNCHANGED: Duration = Duration::from_secs(10);

/// Most counters of a report; those nearest to their limits come first, now or at their last warning. Callers without a Secret could
/// create any number.
const COUNTERS: usize = 10_000;

/// Most deployments of a report; those of a backend with one that is out come first. More than any gateway
/// known, and a tenth of what an operator accepts.
const DEPLOYMENTS: usize = 2_000;

/// Longest cause of a deployment that is out: enough for the first sentences of a backend.
const CAUSE_CHARS: usize = 256;

/// Longest report: an operator accepts eight megabytes.
const LONGEST: usize = 7 * 1024 * 1024;

/// Reads the counters of the replica.
pub(crate) type Source = Box<dyn Fn() -> Counted + Send + Sync>;

/// Reads `source` until `shutdown`, and then once more. `id` is the replica and its process. A change
/// of `replicas` reads at once: the usage of each replica decides what the others may admit. Numbers that move
/// all the time travel with the next report, and are no reason for one.
pub(crate) async fn collect(
    source: Source,
    id: (String, String),
    newest: watch::Sender<Bytes>,
    mut replicas: watch::Receiver<u64>,
    (metrics, mut shutdown): (Metrics, Shutdown),
) {
    let mut known = None;
    loop {
        let stops = shutdown.is_requested();
        let counted = bounded(source());
        let now = Some(at_rest(&counted));
        // The last report is sent even if it is the same: the one before may be lost.
        let differs = stops || known != now;
        known = now;
        let report = written(&id, counted, &metrics);
        newest.send_if_modified(|last| {
            *last = report;
            differs
        });
        if stops {
            return;
        }
        tokio::select! {
            () = sleep(CHANGED) => {}
            Ok(()) = replicas.changed() => {}
            () = shutdown.requested() => {}
        }
    }
}

/// Delivers every report over `connection`, to the last one. An operator that does not know reports
/// receives no more.
pub(crate) async fn deliver(
    connection: Connection,
    mut newest: watch::Receiver<Bytes>,
    metrics: &Metrics,
) {
    loop {
        let report = newest.borrow_and_update().clone();
        if !report.is_empty() {
            match connection.clone().report(report).await {
                Ok(()) => {
                    metrics.reports.inc();
                }
                Err(ChannelError::Refused {
                    status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                    ..
                }) => {
                    debug!("the operator is too old for reports");
                    while newest.changed().await.is_ok() {}
                    return;
                }
                Err(error) => {
                    metrics.reports_failed.inc();
                    debug!(%error, "report not delivered");
                }
            }
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = sleep(UNCHANGED) => {}
        }
    }
}

/// The parts of a report that an operator has room for, in an order that depends on nothing else: the same
/// counters give the same bytes.
fn bounded(mut counted: Counted) -> Counted {
    counted.counters.sort_by_cached_key(|reading| {
        let warned = reading.warned.map_or(0, |reached| reached.used);
        let used = u128::from(reading.used.max(warned));
        let millionths = used.saturating_mul(1_000_000) / u128::from(reading.amount.max(1));
        (Reverse(millionths), reading.limit.clone(), reading.key)
    });
    counted.deployments = whole_backends(counted.deployments);
    counted
}

/// Backends with a deployment that is out come first. An operator counts the deployments of a backend, so one
/// that finds no room is left out whole.
fn whole_backends(mut deployments: Vec<DeploymentReport>) -> Vec<DeploymentReport> {
    let out = deployments.iter().filter(|one| one.is_out());
    let out: BTreeSet<String> = out.map(|one| one.backend.clone()).collect();
    deployments.sort_by_cached_key(|one| {
        let is_well = !out.contains(&one.backend);
        (is_well, one.backend.clone(), one.deployment.clone())
    });
    if let Some(first) = deployments.get(DEPLOYMENTS) {
        let cut = first.backend.clone();
        deployments.truncate(DEPLOYMENTS);
        deployments.retain(|one| one.backend != cut);
    }
    for one in &mut deployments {
        if let Some((end, _)) = one.cause.char_indices().nth(CAUSE_CHARS) {
            one.cause.truncate(end);
        }
    }
    deployments
}

/// The part of `counted` whose change is worth a report.
fn at_rest(counted: &Counted) -> Counted {
    let deployments = counted.deployments.iter();
    Counted {
        deployments: deployments.map(DeploymentReport::at_rest).collect(),
        ..counted.clone()
    }
}

/// The body of a report, no longer than an operator accepts.
fn written(id: &(String, String), mut counted: Counted, metrics: &Metrics) -> Bytes {
    let all = counted.counters.len();
    counted.counters.truncate(COUNTERS);
    loop {
        let kept = counted.counters.len();
        let report = Report::new(id.clone(), counted.clone());
        match serde_json::to_vec(&report) {
            Ok(body) if body.len() <= LONGEST || kept == 0 => {
                metrics
                    .unreported
                    .set(i64::try_from(all.saturating_sub(kept)).unwrap_or(i64::MAX));
                return Bytes::from(body);
            }
            // Very long names.
            Ok(_) => counted.counters.truncate(kept / 2),
            Err(error) => {
                warn!(%error, "report not encodable");
                return Bytes::new();
            }
        }
    }
}
