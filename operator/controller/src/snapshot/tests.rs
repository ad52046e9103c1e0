use std::sync::Arc;

use http::{Method, StatusCode};
use operator_compile::IdentityGrants;
use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::task::spawn;
use proxy_core::reach::Reach;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::Timing;
use crate::lease::keeper::tests_support::Lead;
use crate::scenario::{Scenario, metrics, refusal};

const PATH: &str = "/api/v1/namespaces/gateway/secrets/";

/// The digest of a table and its number of parts unless it is too large.
type Present = (&'static str, Option<usize>);

/// A table that a test sets.
#[derive(Clone)]
struct Table {
    present: Arc<Mutex<Option<Present>>>,
    changes: watch::Sender<u64>,
}

impl Table {
    fn set(&self, digest: &'static str, parts: Option<usize>) {
        *self.present.lock() = Some((digest, parts));
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Source for Table {
    fn version(&self) -> Option<SnapshotVersion> {
        let (digest, _) = (*self.present.lock())?;
        Some(SnapshotVersion {
            digest: digest.into(),
            replicas: 2,
        })
    }

    fn parts(&self) -> Result<Vec<Vec<u8>>, PartsError> {
        match *self.present.lock() {
            None => Ok(Vec::new()),
            Some((digest, Some(parts))) => Ok(vec![digest.as_bytes().to_vec(); parts]),
            Some((_, None)) => Err(PartsError::TooLarge { bytes: 9, most: 8 }),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn config(snapshot: Option<&str>) -> Config {
    Config {
        own_namespace: "gateway".to_owned(),
        watch_namespaces: Vec::new(),
        host_grants: Vec::new(),
        identity_grants: IdentityGrants::Namespaces(Vec::new()),
        reach: Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        identity: "op".to_owned(),
        lease: Timing::KUBERNETES,
        proxy_pods: None,
        checkpoint: "kept".to_owned(),
        snapshot: snapshot.map(str::to_owned),
    }
}

struct Keeping {
    table: Table,
    scenario: Scenario,
    metrics: Metrics,
    lead: Lead,
    stop: Trigger,
    task: JoinHandle<()>,
}

/// A keeper that leads, with an API server that answers its writes with `answer`.
fn keeping(answer: StatusCode) -> Keeping {
    let scenario = Scenario::default().rule(move |call| {
        let is_write = call.method == Method::PATCH && call.path.starts_with(PATH);
        is_write.then(|| match answer {
            StatusCode::OK => (StatusCode::OK, json!({"metadata": {"name": "kept"}})),
            other => refusal(other, "Refused"),
        })
    });
    let table = Table {
        present: Arc::default(),
        changes: watch::Sender::new(0),
    };
    let (lead, leadership) = Leadership::for_tests();
    let (stop, shutdown) = shutdown::channel();
    let metrics = metrics();
    let keeper = SnapshotKeeper::new(
        &scenario.client(),
        &config(Some("kept")),
        table.clone(),
        metrics.clone(),
    );
    Keeping {
        task: spawn("snapshot", keeper.run(leadership, shutdown)),
        table,
        scenario,
        metrics,
        lead,
        stop,
    }
}

impl Keeping {
    /// The writes so far, as `part=content`.
    fn written(&self) -> Vec<String> {
        let calls = self.scenario.calls(&Method::PATCH).into_iter();
        let written = calls.map(|call| {
            let name = call.path.trim_start_matches(PATH).replace("kept-", "");
            let part: Option<ByteString> =
                serde_json::from_value(call.body["data"][DATA].clone()).unwrap();
            let part = part.map(|part| String::from_utf8(part.0).unwrap());
            format!("{name}={}", part.unwrap_or_default())
        });
        written.collect()
    }

    fn results(&self, result: WriteResult) -> u64 {
        let writes = &self.metrics.snapshot_writes;
        writes.get_or_create(&ResultLabel { result }).get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_written_soon_and_nothing_at_rest() {
    let keeping = keeping(StatusCode::OK);
    sleep(Duration::from_secs(30)).await;
    assert!(keeping.written().is_empty(), "there is no table yet");
    keeping.table.set("one", Some(1));
    sleep(Duration::from_millis(900)).await;
    assert!(keeping.written().is_empty());
    sleep(Duration::from_millis(200)).await;
    // What an operator before this one may have left is emptied.
    assert_eq!(keeping.written(), ["0=one", "1=", "2=", "3="]);
    keeping.table.changes.send_modify(|count| *count += 1);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(keeping.written().len(), 4, "the same table");
}

#[tokio::test(start_paused = true)]
async fn tables_that_change_all_the_time_are_written_every_ten_seconds() {
    let keeping = keeping(StatusCode::OK);
    keeping.table.set("one", Some(1));
    sleep(Duration::from_millis(1)).await;
    for n in 0..300 {
        keeping
            .table
            .set(if n % 2 == 0 { "two" } else { "one" }, Some(1));
        sleep(Duration::from_millis(100)).await;
    }
    let writes = keeping.results(WriteResult::Stored);
    assert!((3..=4).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn parts_are_written_from_the_last_on_and_those_left_over_are_emptied() {
    let keeping = keeping(StatusCode::OK);
    keeping.table.set("one", Some(3));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(keeping.written(), ["2=one", "1=one", "0=one", "3="]);
    keeping.table.set("two", Some(1));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(keeping.written()[4..], ["0=two", "1=", "2="]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted_and_the_old_snapshot_removed() {
    let keeping = keeping(StatusCode::OK);
    keeping.table.set("one", Some(2));
    sleep(Duration::from_secs(2)).await;
    keeping.table.set("huge", None);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(keeping.written()[4..], ["0=", "1="]);
    assert_eq!(keeping.results(WriteResult::TooLarge), 1);
    keeping.table.set("small", Some(1));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(keeping.written()[6..], ["0=small"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_is_tried_again() {
    for (status, result) in [
        (StatusCode::INTERNAL_SERVER_ERROR, WriteResult::Failed),
        (StatusCode::NOT_FOUND, WriteResult::Gone),
    ] {
        let keeping = keeping(status);
        keeping.table.set("one", Some(1));
        sleep(Duration::from_secs(25)).await;
        assert_eq!(keeping.results(result), 3);
        assert_eq!(keeping.written(), ["0=one"; 3], "no part after the first");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_change_is_written_before_the_lease_is_released() {
    let mut keeping = keeping(StatusCode::OK);
    keeping.table.set("one", Some(1));
    sleep(Duration::from_secs(2)).await;
    keeping.table.set("two", Some(1));
    sleep(Duration::from_millis(1)).await;
    keeping.stop.stop();
    keeping.lead.lose();
    (&mut keeping.task).await.unwrap();
    assert_eq!(keeping.written()[4..], ["0=two"]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_writes_nothing_and_a_new_leader_writes_again() {
    let mut keeping = keeping(StatusCode::OK);
    keeping.table.set("one", Some(1));
    sleep(Duration::from_secs(2)).await;
    keeping.lead.lose();
    keeping.table.set("two", Some(1));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(keeping.results(WriteResult::Stored), 1);
    keeping.lead.gain();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(keeping.written()[4..], ["0=two", "1=", "2=", "3="]);
    keeping.lead.lose();
    sleep(Duration::from_millis(1)).await;
    keeping.stop.stop();
    (&mut keeping.task).await.unwrap();
    assert_eq!(keeping.results(WriteResult::Stored), 2);
}

#[tokio::test]
async fn an_installation_without_secrets_for_it_writes_none() {
    let scenario = Scenario::default();
    let table = Table {
        present: Arc::new(Mutex::new(Some(("one", Some(1))))),
        changes: watch::Sender::new(0),
    };
    let keeper = SnapshotKeeper::new(&scenario.client(), &config(None), table, metrics());
    let (_lead, leadership) = Leadership::for_tests();
    let (_stop, shutdown) = shutdown::channel();
    keeper.run(leadership, shutdown).await;
    assert!(scenario.calls(&Method::PATCH).is_empty());
}
