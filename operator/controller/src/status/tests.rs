use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{ConditionType, Reason};
use http::{Method, StatusCode};
use kube::api::DynamicObject;
use operator_compile::{
    Compiled, Diagnostic, Judgement, Kind, ObjectRef, Severity, UnusableKey, Verdict,
};
use operator_publish::{Fleet, Outage, Publication, Replica};
use parking_lot::Mutex;
use proxy_admin::shutdown;
use proxy_core::names::{EntryName, ObjectName};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::judge::{Acknowledged, Heard, Wanted};
use super::service::Service;
use super::{Inputs, PublishedTable, StatusWriter};
use crate::claims::Claims;
use crate::compiler::Compilation;
use crate::event_writer::EventWriter;
use crate::events::Announcer;
use crate::lease::keeper::Leadership;
use crate::scenario::{Call, Scenario, eventually, metrics};
use crate::stored_status::{StoredObject, StoredObjects, StoredStatus};
use crate::watch::Observed;

mod fleet;
mod outages;
mod passes;

// === the pure part ===

fn route() -> ObjectRef {
    ObjectRef::new(Kind::AiRoute, ObjectName::new("team", "chat"))
}

fn entry(object: &ObjectRef) -> EntryName {
    object.entry().expect("the kind has entries")
}

fn judgement(condition: ConditionType, holds: bool, reason: Reason) -> Judgement {
    Judgement {
        condition,
        holds,
        reason,
        message: String::new(),
    }
}

fn sound(generation: i64) -> Verdict {
    Verdict {
        generation,
        conditions: vec![
            judgement(ConditionType::Accepted, true, Reason::Accepted),
            judgement(ConditionType::ResolvedRefs, true, Reason::ResolvedRefs),
        ],
        diagnostics: Vec::new(),
        parents: Vec::new(),
    }
}

fn unresolved(generation: i64) -> Verdict {
    Verdict {
        generation,
        conditions: vec![
            judgement(ConditionType::Accepted, true, Reason::Accepted),
            judgement(ConditionType::ResolvedRefs, false, Reason::BackendNotFound),
        ],
        diagnostics: vec![Diagnostic {
            object: route(),
            severity: Severity::Error,
            condition: ConditionType::ResolvedRefs,
            reason: Reason::BackendNotFound,
            field: "spec.rules[0].backendRefs[0].name".to_owned(),
            message: "there is no AIBackend \"missing\"".to_owned(),
        }],
        parents: Vec::new(),
    }
}

fn fleet(acked: &[Option<u64>]) -> Fleet {
    let replicas = acked.iter().enumerate().map(|(index, acked)| Replica {
        id: format!("proxy-{index}"),
        pod: None,
        silent_since_ms: None,
        acked: *acked,
        refused: None,
        store_lost: false,
        tokenless: Arc::default(),
        unsupported: Arc::default(),
        outages: Arc::default(),
    });
    Fleet {
        replicas: replicas.collect(),
    }
}

fn wanted(verdict: &Verdict, fleet: &Fleet) -> Wanted {
    let acknowledged = Acknowledged::count(&entry(&route()), Some(5), fleet);
    Wanted::new(&route(), verdict, &Heard::Progress(acknowledged))
}

/// The status that is stored after `wanted` was.
fn stored(wanted: &Wanted, before: &StoredObject, now_ms: i64) -> (Value, StoredStatus) {
    let patch = wanted.patch(&route(), before, now_ms);
    let status = StoredStatus::read(patch.get("status"));
    (patch["status"].clone(), status)
}

fn words(status: &Value) -> Vec<String> {
    let conditions = status["conditions"].as_array().expect("there are some");
    let word = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .map(|one| {
            let field = |name| word(one, name);
            format!("{}={}/{}", field("type"), field("status"), field("reason"))
        })
        .collect()
}

#[test]
fn a_route_that_every_replica_has_is_ready() {
    let wanted = wanted(&sound(3), &fleet(&[Some(5), Some(9)]));
    let (status, _) = stored(&wanted, &StoredObject::default(), 0);
    assert_eq!(
        words(&status),
        [
            "Accepted=True/Accepted",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=True/Programmed",
            "Ready=True/Ready"
        ]
    );
    assert_eq!(status["programmed"], "all");
    assert_eq!(status["observedGeneration"], 3);
    let conditions = status["conditions"].as_array().expect("there are some");
    assert!(conditions.iter().all(|one| one["observedGeneration"] == 3));
}

#[test]
fn programmed_comes_only_from_acknowledgements() {
    let check = |acked: &[Option<u64>], reason: &str, programmed: &str| {
        let (status, _) = stored(
            &wanted(&sound(1), &fleet(acked)),
            &StoredObject::default(),
            0,
        );
        let expected = ["Programmed", "Ready"].map(|one| format!("{one}=False/{reason}"));
        assert_eq!(words(&status)[2..4], expected, "{acked:?}");
        assert_eq!(status["programmed"], programmed, "{acked:?}");
    };
    check(&[], "Pending", "0/0");
    check(&[None], "ProxiesBehind", "0/1");
    check(&[Some(4), Some(5)], "ProxiesBehind", "1/2");
}

#[test]
fn a_refusal_is_shown_with_the_replicas_error_until_it_has_the_table() {
    let mut fleet = fleet(&[Some(5), Some(4)]);
    fleet.replicas[1].refused = Some((6, "unknown field".to_owned()));
    let (status, _) = stored(&wanted(&sound(1), &fleet), &StoredObject::default(), 0);
    assert_eq!(words(&status)[2], "Programmed=False/Rejected");
    let message = status["conditions"][2]["message"].as_str().expect("text");
    assert!(
        message.contains("proxy-1") && message.contains("unknown field"),
        "{message}"
    );
    // A refusal of something older than this object's form says nothing about it.
    fleet.replicas[1].refused = Some((4, "unknown field".to_owned()));
    let (status, _) = stored(&wanted(&sound(1), &fleet), &StoredObject::default(), 0);
    assert_eq!(words(&status)[2], "Programmed=False/ProxiesBehind");
}

#[test]
fn a_missing_reference_is_waited_for() {
    let (status, _) = stored(
        &wanted(&unresolved(1), &fleet(&[Some(5)])),
        &StoredObject::default(),
        0,
    );
    assert_eq!(
        words(&status),
        [
            "Accepted=True/Accepted",
            "ResolvedRefs=False/BackendNotFound",
            "Programmed=True/Programmed",
            "Ready=False/BackendNotFound",
            "Reconciling=True/BackendNotFound"
        ]
    );
}

#[test]
fn a_backend_is_ready_unless_a_replica_has_no_token_for_it() {
    let backend = ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "foundry"));
    let check = |fleet: &Fleet| {
        let heard = Heard::of_backend(&backend.name, Service::default(), fleet);
        let wanted = Wanted::new(&backend, &sound(1), &heard);
        let patch = wanted.patch(&backend, &StoredObject::default(), 0);
        assert_eq!(patch["status"].get("programmed"), None);
        let words = words(&patch["status"]);
        (
            words.last().cloned(),
            patch["status"]["conditions"][2]["message"].clone(),
        )
    };
    let ready = Some("Ready=True/Ready".to_owned());
    assert_eq!(check(&fleet(&[])).0, ready);
    let mut fleet = fleet(&[Some(5), Some(5)]);
    assert_eq!(check(&fleet).0, ready);
    let of =
        |name: &str| Arc::new([(ObjectName::new("team", name), "AADSTS7; fix it".into())].into());
    fleet.replicas[1].tokenless = of("other");
    assert_eq!(check(&fleet).0, ready);
    fleet.replicas[1].tokenless = of("foundry");
    let (word, message) = check(&fleet);
    assert_eq!(word.as_deref(), Some("Ready=False/NoToken"));
    let message = message.as_str().unwrap_or_default();
    assert!(message.contains("AADSTS7; fix it"), "{message}");
}

#[test]
fn a_quota_shows_a_lost_store_and_stays_ready() {
    let quota = ObjectRef::new(Kind::AiQuota, ObjectName::new("team", "spend"));
    let check = |fleet: &Fleet, stored: Option<&StoredStatus>| {
        let acknowledged = Acknowledged::count(&entry(&quota), Some(5), fleet);
        let wanted = Wanted::new(&quota, &sound(1), &Heard::Progress(acknowledged));
        let patch = wanted.patch(&quota, &StoredObject::default(), 0);
        let status = StoredStatus::read(patch.get("status"));
        let differs = stored.is_none_or(|stored| wanted.differs(stored));
        (words(&patch["status"]), differs, status)
    };
    let mut fleet = fleet(&[Some(5), Some(5), Some(5)]);
    let (before, _, status) = check(&fleet, None);
    fleet.replicas[1].store_lost = true;
    let (words, differs, status) = check(&fleet, Some(&status));
    assert!(differs);
    assert_eq!(words[..4], before);
    assert_eq!(words[3], "Ready=True/Ready");
    assert_eq!(words[4], "StoreUnavailable=True/StoreUnavailable");
    fleet.replicas[2].store_lost = true;
    let (_, differs, status) = check(&fleet, Some(&status));
    assert!(!differs, "one more is no reason to write");
    fleet.replicas[1].store_lost = false;
    fleet.replicas[2].store_lost = false;
    let (words, differs, _) = check(&fleet, Some(&status));
    assert!(differs);
    assert_eq!(words, before);
    // Of no interest to a route.
    fleet.replicas[1].store_lost = true;
    let (status, _) = stored(&wanted(&sound(1), &fleet), &StoredObject::default(), 0);
    assert_eq!(status["conditions"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_stored_status_does_not_differ_whatever_its_times() {
    let wanted = wanted(&unresolved(1), &fleet(&[Some(5)]));
    let (_, status) = stored(&wanted, &StoredObject::default(), 1_000_000);
    assert!(wanted.differs(&StoredStatus::default()));
    assert!(!wanted.differs(&status));
}

#[test]
fn a_leftover_condition_is_a_difference() {
    let (_, status) = stored(
        &wanted(&unresolved(1), &fleet(&[Some(5)])),
        &StoredObject::default(),
        0,
    );
    let mut without = status.clone();
    without.conditions.retain(|one| one.type_ != "Reconciling");
    let broken = wanted(&unresolved(1), &fleet(&[Some(5)]));
    assert!(broken.differs(&without));
    // A condition of another controller is ignored.
    let mut foreign = status.clone();
    let mut other = foreign.conditions[0].clone();
    other.type_ = "example.com/Audited".to_owned();
    foreign.conditions.push(other);
    assert!(!broken.differs(&foreign));
    let mended = wanted(&sound(1), &fleet(&[Some(5)]));
    assert!(mended.differs(&status));
}

#[test]
fn only_a_flip_of_the_status_moves_its_time() {
    let behind = wanted(&sound(1), &fleet(&[Some(4)]));
    let (first, status) = stored(&behind, &StoredObject::default(), 1_000_000);
    let known = StoredObject {
        status,
        ..StoredObject::default()
    };
    let done = wanted(&sound(2), &fleet(&[Some(5)]));
    let (second, _) = stored(&done, &known, 2_000_000);
    let time =
        |status: &Value, index: usize| status["conditions"][index]["lastTransitionTime"].clone();
    assert_eq!(time(&first, 0), time(&second, 0), "Accepted stayed true");
    assert_eq!(
        time(&second, 2),
        "1970-01-01T00:33:20Z",
        "Programmed flipped"
    );
}

#[test]
fn after_a_restart_a_programmed_route_stays_so_until_replicas_have_had_time_to_subscribe() {
    let (before, status) = stored(
        &wanted(&sound(1), &fleet(&[Some(5), Some(5)])),
        &StoredObject::default(),
        0,
    );
    let mut restarted = wanted(&sound(1), &fleet(&[]));
    restarted.keep_programmed(&status);
    assert!(!restarted.differs(&status));
    let known = StoredObject {
        status: status.clone(),
        ..StoredObject::default()
    };
    assert_eq!(stored(&restarted, &known, 99_000).0, before);
    // But not for another generation, and not against a refusal.
    let mut newer = wanted(&sound(2), &fleet(&[]));
    newer.keep_programmed(&status);
    assert_eq!(
        words(&stored(&newer, &known, 0).0)[2],
        "Programmed=False/Pending"
    );
    let mut refusing = fleet(&[None]);
    refusing.replicas[0].refused = Some((5, "no".to_owned()));
    let mut refused = wanted(&sound(1), &refusing);
    refused.keep_programmed(&status);
    assert_eq!(
        words(&stored(&refused, &known, 0).0)[2],
        "Programmed=False/Rejected"
    );
}

#[test]
fn a_replica_that_lacks_a_feature_of_an_object_does_not_have_it() {
    let mut fleet = fleet(&[Some(5), Some(5)]);
    let lacks = |object: &ObjectRef| {
        let needs = vec!["colour".to_owned(), "shape".to_owned()];
        Arc::new(BTreeMap::from([(entry(object), needs)]))
    };
    fleet.replicas[1].unsupported = lacks(&route());
    let (status, _) = stored(&wanted(&sound(1), &fleet), &StoredObject::default(), 0);
    assert_eq!(words(&status)[2], "Programmed=False/ProxiesBehind");
    assert_eq!(status["programmed"], "1/2");
    let message = status["conditions"][2]["message"].as_str().unwrap();
    let expected = "in force on 1 of 2 proxies; proxy proxy-1 is too old for colour, shape";
    assert!(message.starts_with(expected), "{message}");
    // Another object of the same table is not affected.
    let other = ObjectRef::new(Kind::AiRoute, ObjectName::new("team", "other"));
    fleet.replicas[1].unsupported = lacks(&other);
    let (status, _) = stored(&wanted(&sound(1), &fleet), &StoredObject::default(), 0);
    assert_eq!(words(&status)[2], "Programmed=True/Programmed");
    assert_eq!(status["programmed"], "all");
}

#[test]
fn an_object_without_an_entry_in_the_table_is_not_programmed() {
    let acknowledged = Acknowledged::count(&entry(&route()), None, &fleet(&[Some(9)]));
    let wanted = Wanted::new(&route(), &sound(1), &Heard::Progress(acknowledged));
    let (status, _) = stored(&wanted, &StoredObject::default(), 0);
    assert_eq!(words(&status)[2], "Programmed=False/NotReady");
    assert_eq!(status["programmed"], "0/1");
}

// === the writer, on a fake API server ===

/// The Kubernetes events that were written.
fn events(bench: &Bench) -> Vec<Call> {
    let written = bench.scenario.calls(&Method::POST).into_iter();
    written
        .filter(|call| call.path.contains("/events"))
        .collect()
}

struct Bench {
    scenario: Scenario,
    stored: Arc<Mutex<StoredObjects>>,
    publications: watch::Sender<Option<PublishedTable>>,
    fleet: watch::Sender<Fleet>,
    status_changes: watch::Sender<u64>,
    leadership: crate::lease::keeper::tests_support::Lead,
    _trigger: shutdown::Trigger,
}

/// A running writer that leads, and an API server that stores what is applied.
fn bench(verdicts: BTreeMap<ObjectRef, Verdict>) -> Bench {
    let objects = Arc::<Mutex<StoredObjects>>::default();
    for (object, verdict) in &verdicts {
        let one = StoredObject {
            uid: "u".to_owned(),
            generation: verdict.generation,
            version: 1,
            status: StoredStatus::default(),
        };
        objects.lock().insert(object.clone(), one);
    }
    let scenario = Scenario::default()
        .storing("/apis/events.k8s.io/v1/namespaces/team/events")
        .rule(|call| {
            let mut object = call.body.clone();
            object["metadata"]["resourceVersion"] = json!("2");
            call.path
                .ends_with("/status")
                .then_some((StatusCode::OK, object))
        });
    let (publications, changes_of_table) = watch::channel(Some(published(verdicts)));
    let (fleet, fleets) = watch::channel(fleet(&[Some(5)]));
    let (status_changes, changes) = watch::channel(0);
    let (leadership, leads) = Leadership::for_tests();
    let inputs = Inputs {
        publications: changes_of_table,
        fleet: fleets,
        status_changes: changes,
        stored: Arc::clone(&objects),
        claims: Arc::new(Claims::new(
            scenario.client(),
            "home",
            Arc::clone(&objects),
            metrics(),
        )),
    };
    let events = EventWriter::new(scenario.client(), "operator-0", metrics());
    let announcer = Announcer::new(events);
    let writer = StatusWriter::new(scenario.client(), inputs, announcer, metrics());
    let (trigger, shutdown) = shutdown::channel();
    proxy_admin::task::spawn("status", writer.run(leads, shutdown));
    Bench {
        scenario,
        stored: objects,
        publications,
        fleet,
        status_changes,
        leadership,
        _trigger: trigger,
    }
}

fn published(verdicts: BTreeMap<ObjectRef, Verdict>) -> PublishedTable {
    published_with(verdicts, BTreeSet::new())
}

fn published_with(
    verdicts: BTreeMap<ObjectRef, Verdict>,
    unusable_keys: BTreeSet<UnusableKey>,
) -> PublishedTable {
    // The route "late" was published later than all others.
    let sequence = |object: &ObjectRef| if object.name.name() == "late" { 6 } else { 5 };
    let entries = verdicts
        .keys()
        .filter_map(|object| Some((object.entry()?, sequence(object))));
    let publication = Publication {
        sequence: 6,
        digest: "digest".into(),
        changed_at: entries.collect(),
    };
    let compiled = Compiled {
        unusable_keys: Arc::new(unusable_keys),
        contents: proxy_core::table::Contents::default(),
        verdicts: verdicts.into_iter().collect(),
        gateways: Arc::default(),
    };
    PublishedTable {
        compilation: Compilation {
            revision: 1,
            compiled: Arc::new(compiled),
        },
        publication,
    }
}

fn named(name: &str, verdict: Verdict) -> (ObjectRef, Verdict) {
    let object = ObjectRef::new(Kind::AiRoute, ObjectName::new("team", name));
    (object, verdict)
}

impl Bench {
    fn writes(&self) -> usize {
        self.scenario.calls(&Method::PATCH).len()
    }

    fn events(&self) -> usize {
        events(self).len()
    }

    async fn wrote(&self, count: usize) {
        eventually(
            &format!("{count} writes, there are {}", self.writes()),
            || (self.writes() >= count).then_some(()),
        )
        .await;
    }

    /// Lets the writer finish all its work. The clock is paused, so this takes no time.
    async fn rest(&self) {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_once_with_one_manager_and_the_uid() {
    let bench = bench(BTreeMap::from([named("chat", sound(1))]));
    bench.wrote(1).await;
    bench.rest().await;
    bench.status_changes.send_modify(|count| *count += 1);
    bench.rest().await;
    assert_eq!(bench.writes(), 1);
    let call = &bench.scenario.calls(&Method::PATCH)[0];
    assert!(
        call.path.ends_with("/namespaces/team/airoutes/chat/status"),
        "{}",
        call.path
    );
    assert_eq!(call.body["metadata"]["uid"], "u");
    assert!(call.body.get("spec").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_stored_already_is_not_written() {
    let wanted = wanted(&sound(1), &fleet(&[Some(5)]));
    let (_, status) = stored(&wanted, &StoredObject::default(), 0);
    let bench = bench(BTreeMap::new());
    let (object, verdict) = named("chat", sound(1));
    let known = StoredObject {
        uid: "u".to_owned(),
        generation: 1,
        version: 1,
        status,
    };
    bench.stored.lock().insert(object.clone(), known);
    let verdicts = BTreeMap::from([(object, verdict)]);
    bench.publications.send_replace(Some(published(verdicts)));
    bench.rest().await;
    assert_eq!(bench.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_objects_whose_count_changes_are_written_when_the_fleet_changes() {
    let routes = ["a", "b", "late"].map(|name| named(name, sound(1)));
    let bench = bench(BTreeMap::from(routes));
    bench.wrote(3).await;
    bench.rest().await;
    // The replica now has the newest table; the others' entries did not change in it.
    bench.fleet.send_replace(fleet(&[Some(6)]));
    bench.wrote(4).await;
    bench.rest().await;
    assert_eq!(bench.writes(), 4);
    let call = bench
        .scenario
        .calls(&Method::PATCH)
        .pop()
        .expect("there are four");
    assert!(
        call.path.ends_with("/airoutes/late/status"),
        "{}",
        call.path
    );
    assert_eq!(call.body["status"]["programmed"], "all");
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_newer_operator_stays() {
    let bench = bench(BTreeMap::new());
    let (object, verdict) = named("chat", sound(1));
    let newer = wanted(&sound(2), &fleet(&[]));
    let (_, status) = stored(&newer, &StoredObject::default(), 0);
    let known = StoredObject {
        uid: "u".to_owned(),
        generation: 1,
        version: 1,
        status,
    };
    bench.stored.lock().insert(object.clone(), known);
    let verdicts = BTreeMap::from([(object, verdict)]);
    bench.publications.send_replace(Some(published(verdicts)));
    bench.rest().await;
    assert_eq!(bench.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_writes_nothing() {
    let mut bench = bench(BTreeMap::new());
    bench.leadership.lose();
    bench.rest().await;
    let (object, verdict) = named("chat", unresolved(1));
    let known = StoredObject {
        uid: "u".to_owned(),
        generation: 1,
        ..StoredObject::default()
    };
    bench.stored.lock().insert(object.clone(), known);
    let verdicts = BTreeMap::from([(object, verdict)]);
    bench.publications.send_replace(Some(published(verdicts)));
    bench.rest().await;
    assert_eq!((bench.writes(), bench.events()), (0, 0));
    bench.leadership.gain();
    bench.wrote(1).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_reported_once_and_again_only_if_it_changes() {
    let bench = bench(BTreeMap::from([named("chat", unresolved(1))]));
    bench.wrote(1).await;
    bench.rest().await;
    assert_eq!(bench.events(), 1);
    let event = events(&bench)[0].body.clone();
    assert_eq!(event["reason"], "BackendNotFound");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], "u");
    assert!(
        event["note"]
            .as_str()
            .is_some_and(|note| note.contains("backendRefs[0]")),
        "{event}"
    );
    let again = BTreeMap::from([named("chat", unresolved(1))]);
    bench.publications.send_replace(Some(published(again)));
    bench.rest().await;
    assert_eq!(bench.events(), 1);
    let mut other = unresolved(1);
    other.diagnostics[0].message = "there is no AIBackend \"gone\"".to_owned();
    let other = BTreeMap::from([named("chat", other)]);
    bench.publications.send_replace(Some(published(other)));
    bench.rest().await;
    assert_eq!(bench.events(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_does_not_report_an_error_that_the_status_shows() {
    let mut bench = bench(BTreeMap::from([named("chat", unresolved(1))]));
    bench.wrote(1).await;
    bench.rest().await;
    assert_eq!(bench.events(), 1);
    bench.leadership.lose();
    bench.rest().await;
    bench.leadership.gain();
    bench.rest().await;
    assert_eq!((bench.writes(), bench.events()), (1, 1));
}

#[test]
fn a_status_of_another_shape_is_read_as_far_as_possible() {
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "chat", "namespace": "team"},
        "status": {"conditions": [{"type": "Ready"}], "observedGeneration": 4},
    }))
    .expect("it has metadata");
    let observed = Observed::read(Kind::AiRoute, object).expect("it has a name");
    assert_eq!(observed.stored.status.newest_generation(), Some(4));
    assert!(observed.stored.status.conditions.is_empty());
}
