use http::{Method, StatusCode};
use proxy_admin::shutdown::{self, Trigger};
use proxy_admin::task::spawn;
use proxy_core::names::ObjectName;
use proxy_core::quota::{LimitName, SubjectKey, Unit};
use serde_json::Value;

use super::*;
use crate::lease::keeper::tests_support::Lead;
use crate::scenario::{Scenario, metrics, refusal};
use crate::stored_status::StoredObject;

const PATH: &str = "/apis/events.k8s.io/v1/namespaces/team/events";

/// Warnings that a test gives.
#[derive(Clone)]
struct Given {
    pending: Arc<Mutex<Vec<LimitWarnings>>>,
    changes: watch::Sender<u64>,
}

impl Warnings for Given {
    fn take(&self) -> Vec<LimitWarnings> {
        std::mem::take(&mut self.pending.lock())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Bench {
    given: Given,
    scenario: Scenario,
    lead: Lead,
    _stop: Trigger,
}

impl Bench {
    async fn warn(&self, warnings: LimitWarnings) {
        self.given.pending.lock().push(warnings);
        self.given.changes.send_modify(|count| *count += 1);
        rest().await;
    }

    /// The events that the API server has.
    fn stored(&self) -> Vec<Value> {
        self.scenario.stored.lock().values().cloned().collect()
    }

    fn notes(&self) -> Vec<String> {
        let stored = self.stored().into_iter();
        let mut notes: Vec<String> = stored.map(|one| text(&one["note"])).collect();
        notes.sort();
        notes
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is text").to_owned()
}

/// The clock is paused, so this takes no time.
async fn rest() {
    sleep(Duration::from_secs(20)).await;
}

/// A writer that leads, of an installation with the quota team/spend.
fn bench(scenario: Scenario) -> Bench {
    let given = Given {
        pending: Arc::default(),
        changes: watch::Sender::new(0),
    };
    let stored = Arc::<Mutex<StoredObjects>>::default();
    let object = ObjectRef::new(Kind::AiQuota, ObjectName::new("team", "spend"));
    let known = StoredObject {
        uid: "u".to_owned(),
        ..StoredObject::default()
    };
    stored.lock().insert(object, known);
    let events = EventWriter::new(scenario.client(), "operator-0", metrics());
    let (lead, leadership) = Leadership::for_tests();
    let (stop, shutdown) = shutdown::channel();
    let writer = WarningWriter::new(given.clone(), stored, events);
    spawn("quota warnings", writer.run(leadership, shutdown));
    Bench {
        given,
        scenario,
        lead,
        _stop: stop,
    }
}

fn warning(subject: u8) -> QuotaWarning {
    QuotaWarning {
        subject: format!("consumer=team/c{subject}").into(),
        key: SubjectKey([subject; 16]),
        level: 80,
        used: 41,
        amount: 50,
        apart: None,
        window_ms: 7,
    }
}

fn of_limit(listed: Vec<QuotaWarning>, more: u64) -> LimitWarnings {
    LimitWarnings {
        limit: LimitName {
            quota: ObjectName::new("team", "spend"),
            limit: "day".into(),
        },
        unit: Unit::Requests,
        listed,
        more,
        at_ms: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_warning_is_one_event_of_its_quota() {
    let bench = bench(Scenario::default().storing(PATH));
    bench.warn(of_limit(vec![warning(1)], 0)).await;
    let [event] = &*bench.stored() else {
        panic!("one event: {:?}", bench.stored());
    };
    assert_eq!(
        (text(&event["type"]), text(&event["reason"])),
        ("Warning".into(), "QuotaWarning".into())
    );
    let about = &event["regarding"];
    assert_eq!(
        (text(&about["kind"]), text(&about["name"])),
        ("AIQuota".into(), "spend".into())
    );
    assert_eq!(text(&about["uid"]), "u");
    let note = "limit day: 41 of 50 Requests of consumer=team/c1 are used, 80% or more";
    assert_eq!(text(&event["note"]), note);
    assert!(event["eventTime"].is_string());
    // The next leader may not know that this one has said so.
    bench.warn(of_limit(vec![warning(1)], 0)).await;
    assert_eq!(bench.stored().len(), 1);
    let next = QuotaWarning {
        window_ms: 8,
        apart: Some(3),
        ..warning(1)
    };
    bench.warn(of_limit(vec![next], 0)).await;
    assert_eq!(bench.notes().len(), 2);
    assert!(bench.notes()[1].ends_with("80% or more, which is the part of one of 3 proxies"));
}

#[tokio::test(start_paused = true)]
async fn the_counters_that_are_not_named_are_counted_in_one_event() {
    let bench = bench(Scenario::default().storing(PATH));
    bench
        .warn(of_limit((0..16).map(warning).collect(), 984))
        .await;
    assert_eq!(bench.stored().len(), 17);
    let counted = "limit day: 984 more of its counters have reached a level of warnAt; tundish quota lists them";
    assert!(bench.notes().iter().any(|note| note == counted));
}

#[tokio::test(start_paused = true)]
async fn a_pass_writes_a_few_events_and_the_next_ones_the_rest() {
    let bench = bench(Scenario::default().storing(PATH));
    let many = (0..40).map(warning).collect();
    bench.given.pending.lock().push(of_limit(many, 0));
    bench.given.changes.send_modify(|count| *count += 1);
    sleep(PASS + PASS / 2).await;
    assert_eq!(bench.stored().len(), AT_ONCE);
    rest().await;
    assert_eq!(bench.stored().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_follower_writes_nothing_and_a_new_leader_what_is_left() {
    let mut bench = bench(Scenario::default().storing(PATH));
    bench.lead.lose();
    rest().await;
    bench.warn(of_limit(vec![warning(1)], 0)).await;
    assert!(bench.scenario.calls(&Method::POST).is_empty());
    bench.lead.gain();
    rest().await;
    assert_eq!(bench.stored().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_tried_again_for_a_minute_and_one_of_a_deleted_quota_never() {
    let failing = Arc::new(Mutex::new(true));
    let fails = Arc::clone(&failing);
    let scenario = Scenario::default().rule(move |_| {
        fails
            .lock()
            .then(|| refusal(StatusCode::SERVICE_UNAVAILABLE, "Busy"))
    });
    let bench = bench(scenario.storing(PATH));
    bench.warn(of_limit(vec![warning(1)], 0)).await;
    assert!(bench.stored().is_empty());
    *failing.lock() = false;
    rest().await;
    assert_eq!(bench.stored().len(), 1);
    *failing.lock() = true;
    bench.warn(of_limit(vec![warning(2)], 0)).await;
    sleep(PATIENCE * 2).await;
    let tries = bench.scenario.calls(&Method::POST).len();
    rest().await;
    assert_eq!(bench.scenario.calls(&Method::POST).len(), tries);
    let mut gone = of_limit(vec![warning(3)], 0);
    gone.limit.quota = ObjectName::new("team", "gone");
    bench.warn(gone).await;
    assert_eq!(bench.scenario.calls(&Method::POST).len(), tries);
}
