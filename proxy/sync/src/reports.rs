//! Reports this replica's counters to the operators: every two seconds if something changed, else
//! every ten, and once more before it stops.

use std::cmp::Reverse;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proxy_admin::shutdown::Shutdown;
use proxy_core::quota::{CounterReading, StoreState};
use proxy_wire::v1::{Denials, NoToken, Report};
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

/// Longest report: an operator accepts eight megabytes.
const LONGEST: usize = 7 * 1024 * 1024;

/// The counters of a replica.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The state of its shared store.
    pub store: StoreState,
    /// Its readings.
    pub counters: Vec<CounterReading>,
    /// Refusals of its limits.
    pub limits: Vec<Denials>,
    /// Backends that it has no token for.
    pub tokenless: Vec<NoToken>,
}

/// Reads the counters of the replica.
pub(crate) type Source = Box<dyn Fn() -> Counted + Send + Sync>;

/// Reads `source` until `shutdown`, and then once more. `id` is the replica and its process. A change
/// of `replicas` reads at once: the usage of each replica decides what the others may admit.
pub(crate) async fn collect(
    source: Source,
    id: (String, String),
    newest: watch::Sender<Bytes>,
    mut replicas: watch::Receiver<u64>,
    (metrics, mut shutdown): (Metrics, Shutdown),
) {
    loop {
        let stops = shutdown.is_requested();
        let report = written(&id, source(), &metrics);
        newest.send_if_modified(|last| {
            // The last report is sent even if it is the same: the one before may be lost.
            let differs = stops || *last != report;
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

/// The body of a report, no longer than an operator accepts.
fn written(id: &(String, String), counted: Counted, metrics: &Metrics) -> Bytes {
    let Counted {
        store,
        mut counters,
        limits,
        tokenless,
    } = counted;
    let all = counters.len();
    // The same counters give the same bytes.
    counters.sort_by_cached_key(|reading| {
        let warned = reading.warned.map_or(0, |reached| reached.used);
        let used = u128::from(reading.used.max(warned));
        let millionths = used.saturating_mul(1_000_000) / u128::from(reading.amount.max(1));
        (Reverse(millionths), reading.limit.clone(), reading.key)
    });
    counters.truncate(COUNTERS);
    loop {
        let kept = counters.len();
        let (limits, tokenless) = (limits.clone(), tokenless.clone());
        let report = Report::new(id.clone(), store, counters.clone(), limits, tokenless);
        match serde_json::to_vec(&report) {
            Ok(body) if body.len() <= LONGEST || kept == 0 => {
                metrics
                    .unreported
                    .set(i64::try_from(all.saturating_sub(kept)).unwrap_or(i64::MAX));
                return Bytes::from(body);
            }
            // Very long names.
            Ok(_) => counters.truncate(kept / 2),
            Err(error) => {
                warn!(%error, "report not encodable");
                return Bytes::new();
            }
        }
    }
}
