use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::task::spawn;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::Timing;
use crate::lease::keeper::tests_support::Lead;
use crate::scenario::{Scenario, metrics, refusal};

const PATH: &str = "/api/v1/namespaces/gateway/configmaps/kept";

/// A checkpoint that a test sets.
#[derive(Clone)]
struct Kept {
    text: Arc<Mutex<String>>,
    urgent: watch::Sender<u64>,
}

impl Checkpoint for Kept {
    fn text(&self) -> Option<String> {
        Some(self.text.lock().clone())
    }

    fn urgent(&self) -> watch::Receiver<u64> {
        self.urgent.subscribe()
    }
}

fn config() -> Config {
    Config {
        own_namespace: "gateway".to_owned(),
        watch_namespaces: Vec::new(),
        host_grants: Vec::new(),
        identity_grants: operator_compile::IdentityGrants::Namespaces(Vec::new()),
        reach: proxy_core::reach::Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        identity: "op".to_owned(),
        lease: Timing::KUBERNETES,
        proxy_pods: None,
        checkpoint: "kept".to_owned(),
        snapshot: None,
    }
}

struct Keeping {
    kept: Kept,
    scenario: Scenario,
    lead: Lead,
    stop: Trigger,
    task: JoinHandle<()>,
}

/// A keeper that leads, with an API server that answers its writes with `answer`.
fn keeping(answer: StatusCode) -> Keeping {
    let scenario = Scenario::default().rule(move |call| {
        let is_write = call.method == Method::PATCH && call.path == PATH;
        is_write.then(|| match answer {
            StatusCode::OK => (StatusCode::OK, json!({"metadata": {"name": "kept"}})),
            other => refusal(other, "Refused"),
        })
    });
    let kept = Kept {
        text: Arc::new(Mutex::new("one".to_owned())),
        urgent: watch::Sender::new(0),
    };
    let (lead, leadership) = Leadership::for_tests();
    let (stop, shutdown) = shutdown::channel();
    let keeper = CheckpointKeeper::new(&scenario.client(), &config(), kept.clone(), metrics());
    Keeping {
        task: spawn("checkpoint", keeper.run(leadership, shutdown)),
        kept,
        scenario,
        lead,
        stop,
    }
}

impl Keeping {
    fn written(&self) -> Vec<String> {
        let calls = self.scenario.calls(&Method::PATCH);
        let text = |call: crate::scenario::Call| call.body["data"][DATA].to_string();
        calls.into_iter().map(text).collect()
    }

    fn set(&self, text: &str) {
        text.clone_into(&mut self.kept.text.lock());
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_written_every_thirty_seconds_and_nothing_at_rest() {
    let keeping = keeping(StatusCode::OK);
    sleep(Duration::from_secs(29)).await;
    assert!(keeping.written().is_empty());
    sleep(Duration::from_secs(32)).await;
    assert_eq!(keeping.written(), ["\"one\""]);
    keeping.set("two");
    sleep(Duration::from_secs(300)).await;
    assert_eq!(keeping.written(), ["\"one\"", "\"two\""]);
}

#[tokio::test(start_paused = true)]
async fn a_departure_is_written_soon_and_several_at_once() {
    let keeping = keeping(StatusCode::OK);
    sleep(Duration::from_millis(1)).await;
    for _ in 0..3 {
        keeping.kept.urgent.send_modify(|count| *count += 1);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(keeping.written().is_empty());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(keeping.written(), ["\"one\""]);
}

#[tokio::test(start_paused = true)]
async fn the_last_checkpoint_is_written_before_the_lease_is_released() {
    let mut keeping = keeping(StatusCode::OK);
    sleep(Duration::from_millis(1)).await;
    keeping.stop.stop();
    keeping.lead.lose();
    (&mut keeping.task).await.unwrap();
    assert_eq!(keeping.written(), ["\"one\""]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_writes_nothing_and_a_new_leader_writes_again() {
    let mut keeping = keeping(StatusCode::OK);
    sleep(Duration::from_secs(31)).await;
    keeping.lead.lose();
    keeping.set("two");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(keeping.written(), ["\"one\""]);
    keeping.set("one");
    keeping.lead.gain();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(keeping.written(), ["\"one\"", "\"one\""]);
    keeping.lead.lose();
    sleep(Duration::from_millis(1)).await;
    keeping.stop.stop();
    (&mut keeping.task).await.unwrap();
    assert_eq!(keeping.written().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_is_tried_again() {
    let keeping = keeping(StatusCode::INTERNAL_SERVER_ERROR);
    sleep(Duration::from_secs(65)).await;
    assert_eq!(keeping.written().len(), 2);
}

#[tokio::test]
async fn a_stored_checkpoint_is_loaded_and_an_older_chart_has_none() {
    let scenario = |status: StatusCode, data: serde_json::Value| {
        let scenario = Scenario::default().rule(move |call| {
            let read = call.method == Method::GET && call.path == PATH;
            read.then(|| match status {
                StatusCode::OK => (status, json!({"metadata": {}, "data": data.clone()})),
                StatusCode::NOT_FOUND => refusal(status, "NotFound"),
                other => refusal(other, "Refused"),
            })
        });
        scenario.client()
    };
    let full = scenario(StatusCode::OK, json!({DATA: "one"}));
    assert_eq!(
        load_checkpoint(&full, &config()).await.unwrap().as_deref(),
        Some("one")
    );
    let none = [
        scenario(StatusCode::OK, json!(null)),
        scenario(StatusCode::NOT_FOUND, json!(null)),
        scenario(StatusCode::FORBIDDEN, json!(null)),
    ];
    for client in none {
        assert_eq!(load_checkpoint(&client, &config()).await.unwrap(), None);
    }
    let away = scenario(StatusCode::SERVICE_UNAVAILABLE, json!(null));
    assert!(load_checkpoint(&away, &config()).await.is_err());
}
