use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use operator_compile::gateway::Gateways;
use operator_compile::{Kind, ObjectRef, Settings, Tenants};
use operator_publish::epoch;
use parking_lot::Mutex;
use proxy_admin::shutdown;
use proxy_core::names::ObjectName;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Compilation, Compiler, Due, KINDS, LONGEST, QUIET};
use crate::config::Scope;
use crate::scenario::metrics;
use crate::stored_status::StoredObjects;
use crate::watch::{Observed, Update};

struct Bench {
    updates: mpsc::Sender<Update>,
    compilations: watch::Receiver<Option<Compilation>>,
    stored: Arc<Mutex<StoredObjects>>,
    _trigger: shutdown::Trigger,
}

fn settings() -> Settings {
    Settings {
        own_namespace: "gateway".to_owned(),
        grants_served: false,
        tenants: Tenants::One,
        host_grants: Vec::new(),
        identity_grants: operator_compile::IdentityGrants::All,
        reach: proxy_core::reach::Reach::default(),
        backend_hosts: Vec::new(),
        gateways: None,
        today: operator_compile::Day::at(0),
        secrets: operator_compile::Secrets::All,
    }
}

/// A running compiler for these scopes.
fn bench(scopes: &[Scope]) -> Bench {
    bench_with(scopes, |_| {})
}

/// The same, after `change`.
fn bench_with(scopes: &[Scope], change: impl FnOnce(&mut Compiler)) -> Bench {
    let stored = Arc::<Mutex<StoredObjects>>::default();
    let (changed, _) = watch::channel(0);
    let (mut compiler, compilations) =
        Compiler::new(settings(), scopes, Arc::clone(&stored), changed, metrics());
    change(&mut compiler);
    let (updates, receiver) = mpsc::channel(1_024);
    let (trigger, shutdown) = shutdown::channel();
    proxy_admin::task::spawn("compiler", compiler.run(receiver, shutdown));
    Bench {
        updates,
        compilations,
        stored,
        _trigger: trigger,
    }
}

impl Bench {
    async fn send(&self, update: Update) {
        self.updates.send(update).await.expect("the compiler runs");
    }

    /// Everything listed, with nothing there.
    async fn listed(&self, version: u64) {
        for kind in KINDS {
            self.send(listed(kind, None, Vec::new(), version)).await;
        }
    }

    /// The next compilation.
    async fn next(&mut self) -> Compilation {
        self.compilations
            .changed()
            .await
            .expect("the compiler runs");
        let compilation = self.compilations.borrow_and_update().clone();
        compilation.expect("a change is a compilation")
    }

    /// Whether nothing is compiled for a long time. The clock is paused, so that costs none.
    async fn rests(&mut self) -> bool {
        let changed = self.compilations.changed();
        tokio::time::timeout(Duration::from_secs(3_600), changed)
            .await
            .is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_whose_crd_is_gone_holds_tables_back_until_every_kind_is_listed_again() {
    let mut bench = bench(&[None]);
    bench.listed(5).await;
    bench.next().await;
    for kind in [Kind::AiRoute, Kind::AiQuota] {
        bench.send(Update::Unserved { kind, scope: None }).await;
    }
    let route = || observed(Kind::AiRoute, "team", "chat", 1, 7);
    bench
        .send(listed(Kind::AiRoute, None, vec![route()], 8))
        .await;
    assert!(bench.rests().await, "its quotas are not known yet");
    bench.send(listed(Kind::AiQuota, None, Vec::new(), 8)).await;
    let compiled = bench.next().await.compiled;
    assert_eq!(compiled.contents.routes.len(), 1);
}

#[test]
fn a_secret_that_is_read_again_is_still_one() {
    let (changed, _) = watch::channel(0);
    let stored = Arc::default();
    let (mut compiler, _) = Compiler::new(settings(), &[None], stored, changed, metrics());
    for kind in KINDS {
        compiler.apply(listed(kind, None, Vec::new(), 5));
    }
    let secret = || Box::new(observed(Kind::Secret, "team", "key", 1, 7));
    assert!(
        !compiler.apply(Update::Reread(secret())),
        "it was never read"
    );
    assert!(compiler.apply(Update::Applied(secret())));
    assert!(compiler.apply(Update::Reread(secret())));
    assert_eq!(compiler.counts.get(&Kind::Secret), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn no_table_is_compiled_before_gateways_are_listed_and_each_change_of_them_is_one() {
    let mut bench = bench_with(&[None], Compiler::await_gateways);
    bench.listed(5).await;
    assert!(bench.rests().await, "attached routes would be out of it");
    let report = |gateways, version| Update::Gateways { gateways, version };
    let none = Gateways::default();
    bench.send(report(Some(none.clone()), 9)).await;
    assert_eq!(bench.next().await.revision, 9);
    bench.send(report(Some(none), 9)).await;
    assert!(bench.rests().await, "nothing has changed");
    bench.send(report(None, 12)).await;
    assert_eq!(bench.next().await.revision, 12);
}

fn listed(kind: Kind, scope: Scope, objects: Vec<Observed>, version: u64) -> Update {
    Update::Listed {
        kind,
        scope,
        objects,
        version,
    }
}

fn observed(kind: Kind, namespace: &str, name: &str, generation: i64, version: u64) -> Observed {
    let spec = match kind {
        Kind::AiRoute => json!({"authentication": {"anonymous": {}}, "rules": [
            {"name": "chat", "backendRefs": [{"name": "foundry"}]},
        ]}),
        Kind::AiBackend | Kind::AiQuota | Kind::Secret | Kind::ReferenceGrant => json!({}),
    };
    read(kind, namespace, name, generation, version, &spec)
}

fn read(
    kind: Kind,
    namespace: &str,
    name: &str,
    generation: i64,
    version: u64,
    spec: &Value,
) -> Observed {
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": "u",
            "generation": generation, "resourceVersion": version.to_string(),
        },
        "spec": spec,
    }))
    .expect("it has metadata");
    Observed::read(kind, object).expect("it has a name")
}

fn applied(observed: Observed) -> Update {
    Update::Applied(Box::new(observed))
}

fn reference(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, ObjectName::new("team", name))
}

#[tokio::test(start_paused = true)]
async fn the_first_compile_waits_for_every_listing() {
    let mut bench = bench(&[None]);
    let (last, first) = KINDS.split_last().expect("there are kinds");
    for kind in first {
        bench.send(listed(*kind, None, Vec::new(), 10)).await;
    }
    assert!(bench.rests().await);
    bench.send(listed(*last, None, Vec::new(), 12)).await;
    assert_eq!(bench.next().await.revision, 12);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_reference_grants_does_not_wait_for_them() {
    let mut bench = bench(&[None]);
    for kind in &KINDS[..4] {
        bench.send(listed(*kind, None, Vec::new(), 10)).await;
    }
    bench.send(Update::GrantsServed(false)).await;
    assert_eq!(bench.next().await.revision, 10);
}

fn unreadable(kind: Kind, namespace: &str) -> Update {
    Update::Unreadable {
        kind,
        namespace: namespace.to_owned(),
        why: "forbidden".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_read_is_left_out_whole_until_it_can() {
    let scope = |name: &str| Some(name.to_owned());
    let mut bench = bench(&["gateway", "team", "gone"].map(scope));
    // Its routes without its quotas would admit what they must not.
    let route = observed(Kind::AiRoute, "gone", "chat", 1, 7);
    bench
        .send(listed(Kind::AiRoute, scope("gone"), vec![route], 8))
        .await;
    bench.send(unreadable(Kind::AiQuota, "gone")).await;
    for namespace in ["gateway", "team"] {
        for kind in KINDS {
            bench
                .send(listed(kind, scope(namespace), Vec::new(), 9))
                .await;
        }
    }
    assert!(bench.next().await.compiled.verdicts.is_empty());
    bench
        .send(applied(observed(Kind::AiRoute, "gone", "more", 1, 10)))
        .await;
    bench.send(unreadable(Kind::AiQuota, "gone")).await;
    assert!(bench.rests().await);
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::AiRoute) {
        bench
            .send(listed(kind, scope("gone"), Vec::new(), 11))
            .await;
    }
    assert_eq!(bench.next().await.compiled.verdicts.len(), 2);
    bench
        .send(listed(Kind::AiRoute, scope("gone"), Vec::new(), 12))
        .await;
    assert!(bench.next().await.compiled.verdicts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_own_namespace_is_never_left_out() {
    let mut bench = bench(&[Some("gateway".to_owned()), Some("team".to_owned())]);
    for kind in KINDS {
        bench
            .send(listed(kind, Some("team".to_owned()), Vec::new(), 9))
            .await;
        bench.send(unreadable(kind, "gateway")).await;
    }
    assert!(bench.rests().await, "the platform's quotas are there");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_compiled_once() {
    let mut bench = bench(&[None]);
    bench.listed(10).await;
    bench.next().await;
    for version in 11..=50 {
        let name = format!("route-{version}");
        bench
            .send(applied(observed(Kind::AiRoute, "team", &name, 1, version)))
            .await;
    }
    let compilation = bench.next().await;
    assert_eq!(compilation.revision, 50);
    assert_eq!(compilation.compiled.verdicts.len(), 40);
    assert!(bench.rests().await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_does_not_delay_the_compile() {
    let mut bench = bench(&[None]);
    bench.listed(10).await;
    bench.next().await;
    let start = Instant::now();
    let updates = bench.updates.clone();
    proxy_admin::task::spawn("changes", async move {
        for version in 11..=1_000 {
            let change = applied(observed(Kind::AiRoute, "team", "chat", 1_000, version));
            let mut change = change;
            if let Update::Applied(observed) = &mut change {
                observed.stored.generation = i64::try_from(version).expect("it is small");
            }
            if updates.send(change).await.is_err() {
                return;
            }
            tokio::time::sleep(QUIET / 2).await;
        }
    });
    bench.next().await;
    assert!(start.elapsed() <= LONGEST + QUIET, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_status_of_the_same_generation_is_stored_and_not_compiled() {
    let mut bench = bench(&[None]);
    bench.listed(10).await;
    bench
        .send(applied(observed(Kind::AiRoute, "team", "chat", 1, 11)))
        .await;
    bench.next().await;
    let mut again = observed(Kind::AiRoute, "team", "chat", 1, 12);
    again.stored.status.programmed = "1/1".to_owned();
    bench.send(applied(again)).await;
    assert!(bench.rests().await);
    let stored = bench.stored.lock();
    let stored = &stored[&reference(Kind::AiRoute, "chat")];
    assert_eq!(
        (stored.version, stored.status.programmed.as_str()),
        (12, "1/1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_object_is_compiled() {
    let mut bench = bench(&[None]);
    bench.listed(10).await;
    bench
        .send(applied(observed(Kind::AiRoute, "team", "chat", 1, 11)))
        .await;
    bench.next().await;
    let mut recreated = observed(Kind::AiRoute, "team", "chat", 1, 12);
    recreated.stored.uid = "another".to_owned();
    bench.send(applied(recreated)).await;
    assert_eq!(bench.next().await.revision, 12);
}

#[tokio::test(start_paused = true)]
async fn the_revision_never_moves_back_and_includes_deletions() {
    let mut bench = bench(&[None]);
    bench.listed(100).await;
    bench
        .send(applied(observed(Kind::AiRoute, "team", "chat", 1, 60)))
        .await;
    assert_eq!(bench.next().await.revision, 100);
    let gone = observed(Kind::AiRoute, "team", "chat", 1, 120);
    bench.send(Update::Deleted(Box::new(gone))).await;
    let compilation = bench.next().await;
    assert_eq!(compilation.revision, 120);
    assert!(compilation.compiled.verdicts.is_empty());
    assert!(bench.stored.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listing_removes_deleted_objects_of_its_own_scope_only() {
    let scopes = vec![Some("team".to_owned()), Some("other".to_owned())];
    let mut bench = bench(&scopes);
    for kind in KINDS {
        for scope in &scopes {
            bench
                .send(listed(kind, scope.clone(), Vec::new(), 10))
                .await;
        }
    }
    for (namespace, version) in [("team", 11), ("other", 12)] {
        let route = observed(Kind::AiRoute, namespace, "chat", 1, version);
        bench.send(applied(route)).await;
    }
    assert_eq!(bench.next().await.compiled.verdicts.len(), 2);
    let relisted = listed(Kind::AiRoute, Some("team".to_owned()), Vec::new(), 20);
    bench.send(relisted).await;
    let compilation = bench.next().await;
    let left: Vec<String> = compilation
        .compiled
        .verdicts
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(left, ["AIRoute other/chat"]);
    assert_eq!(compilation.revision, 20);
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_object_is_judged_and_affects_no_other() {
    let mut bench = bench(&[None]);
    bench.listed(10).await;
    let broken = read(Kind::AiRoute, "team", "broken", 7, 11, &json!({"rules": 5}));
    bench.send(applied(broken)).await;
    bench
        .send(applied(observed(Kind::AiRoute, "team", "chat", 1, 12)))
        .await;
    let compilation = bench.next().await;
    let broken = reference(Kind::AiRoute, "broken");
    assert!(
        !compilation.compiled.verdicts[&broken]
            .diagnostics
            .is_empty()
    );
    assert_eq!(compilation.compiled.verdicts[&broken].generation, 7);
    assert!(
        compilation
            .compiled
            .verdicts
            .contains_key(&reference(Kind::AiRoute, "chat"))
    );
    // Repaired, it is like any other.
    bench
        .send(applied(observed(Kind::AiRoute, "team", "broken", 8, 13)))
        .await;
    assert_eq!(bench.next().await.compiled.verdicts[&broken].generation, 8);
}

#[test]
fn the_first_change_bounds_the_wait_and_the_last_one_sets_it() {
    let start = Instant::now();
    let once = Due::after(None, start);
    assert_eq!(once.at(), start + QUIET);
    let late = Due::after(Some(once), start + LONGEST);
    assert_eq!(late.at(), start + LONGEST);
}

/// The models of the route `chat`, and the revision of its table.
fn chat(compilation: &Compilation) -> (u64, String) {
    let routes = &compilation.compiled.contents.routes;
    let names = routes.iter().flat_map(|route| &route.rules);
    let names: Vec<&str> = names.map(|rule| &*rule.name).collect();
    (compilation.revision, names.join(","))
}

#[tokio::test(start_paused = true)]
async fn versions_that_go_back_begin_an_epoch_and_generations_count_no_more() {
    let chat_of = |rule: &str, generation, version| {
        let spec = json!({"rules": [{"name": rule, "backendRefs": [{"name": "foundry"}]}]});
        read(Kind::AiRoute, "team", "chat", generation, version, &spec)
    };
    let relisted = |route, version| listed(Kind::AiRoute, None, vec![route], version);
    let mut bench = bench(&[None]);
    bench.listed(5).await;
    bench.next().await;
    bench.send(applied(chat_of("now", 2, 900))).await;
    assert_eq!(chat(&bench.next().await), (900, "now".to_owned()));

    // Restored: the same generation for another spec. Every kind is listed again.
    bench.send(relisted(chat_of("then", 2, 400), 500)).await;
    for kind in [Kind::AiBackend, Kind::AiQuota, Kind::Secret] {
        bench.send(listed(kind, None, Vec::new(), 501)).await;
    }
    let restored = chat(&bench.next().await);
    assert_eq!(restored, (epoch::revision(1, 501), "then".to_owned()));

    // A proxy in this epoch says nothing new. A status changes nothing, nor does a listing that goes on.
    bench
        .send(Update::Epoch {
            epoch: 1,
            version: 500,
        })
        .await;
    bench.send(applied(chat_of("then", 2, 502))).await;
    bench.send(relisted(chat_of("then", 2, 502), 600)).await;
    assert!(bench.rests().await);

    // Restored once more, noticed by a proxy first: the version of the route may be the same again.
    bench
        .send(Update::Epoch {
            epoch: 2,
            version: 300,
        })
        .await;
    bench.send(relisted(chat_of("again", 2, 502), 550)).await;
    let again = chat(&bench.next().await);
    assert_eq!(again, (epoch::revision(2, 550), "again".to_owned()));
}
