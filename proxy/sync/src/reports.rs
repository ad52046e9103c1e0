//! Tells the operators what this replica has counted: every two seconds if something changed, else
//! every ten, and once more when it is told to stop.

use std::cmp::Reverse;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proxy_admin::shutdown::Shutdown;
use proxy_core::quota::{CounterReading, StoreState};
use proxy_wire::v1::{Denials, Report};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::connection::{ChannelError, Connection};
use crate::metrics::Metrics;

#[cfg(test)]
mod tests;

/// What a replica used in so long is lost if it is killed.
const CHANGED: Duration = Duration::from_secs(2);

/// An operator that missed a report has the next one by then.
const UNCHANGED: Duration = Duration::from_secs(10);

/// Counters told at most, those nearest to their limits first. Callers without a Secret could make as
/// many as they like.
const COUNTERS: usize = 10_000;

/// An operator takes eight megabytes.
const LONGEST: usize = 7 * 1024 * 1024;

/// What a replica has counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// How its shared store stands.
    pub store: StoreState,
    /// Its counters.
    pub counters: Vec<CounterReading>,
    /// How often its limits have refused.
    pub limits: Vec<Denials>,
}

/// Asks the replica what it has counted.
pub(crate) type Source = Box<dyn Fn() -> Counted + Send + Sync>;

/// Asks `source` until `shutdown`, and then once more, for the replica and the instance of `id`. A changed number of `replicas` is a reason to
/// ask at once: what each has used decides what the others may.
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
        newest.send_if_modified(|told| {
            // The last one is delivered in any case: it may not have arrived.
            let differs = stops || *told != report;
            *told = report;
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

/// Delivers every report over `connection`; returns when there will be no more. An operator that does
/// not know of reports is not asked again.
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

/// The body of a report that an operator takes.
fn written(id: &(String, String), counted: Counted, metrics: &Metrics) -> Bytes {
    let Counted {
        store,
        mut counters,
        limits,
    } = counted;
    let all = counters.len();
    // The same counters give the same bytes.
    counters.sort_by_cached_key(|reading| {
        let millionths =
            u128::from(reading.used).saturating_mul(1_000_000) / u128::from(reading.amount.max(1));
        (Reverse(millionths), reading.limit.clone(), reading.key)
    });
    counters.truncate(COUNTERS);
    loop {
        let told = counters.len();
        let report = Report::new(id.clone(), store, counters.clone(), limits.clone());
        match serde_json::to_vec(&report) {
            Ok(body) if body.len() <= LONGEST || told == 0 => {
                metrics
                    .unreported
                    .set(i64::try_from(all.saturating_sub(told)).unwrap_or(i64::MAX));
                return Bytes::from(body);
            }
            // Very long names.
            Ok(_) => counters.truncate(told / 2),
            Err(error) => {
                warn!(%error, "a report cannot be written");
                return Bytes::new();
            }
        }
    }
}
