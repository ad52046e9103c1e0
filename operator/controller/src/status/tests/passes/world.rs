//! Two writers with the same inputs, each with an API server of its own: one looks at the open objects, and the
//! other one at all of them.

use std::time::Duration;

use operator_compile::{Day, Memo, Settings};
use proptest::prelude::*;
use proxy_core::table::{Changes, Contents, Named};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::super::*;
use super::cluster::{Server, settings, specs};
use super::{Change, Event};
use crate::lease::keeper::tests_support::Lead;
use crate::status::{COALESCE, RETRY};

/// Before a deployment retires, shortly before, and after.
const DAYS: [&str; 3] = ["2025-06-01", "2026-01-29", "2026-03-01"];

const BACKENDS: [&str; 2] = ["eu", "us"];

/// The states of a deployment: its reason and what the backend said, if it is out.
const DEPLOYMENTS: [Option<(&str, &str)>; 5] = [
    None,
    Some(("Failing", "one")),
    Some(("Failing", "two")),
    Some(("CredentialRefused", "one")),
    Some(("CredentialRefused", "two")),
];

/// A writer and its API server.
struct Side {
    writer: StatusWriter,
    stored: Arc<Mutex<StoredObjects>>,
    server: Arc<Mutex<Server>>,
}

pub(super) struct World {
    open: Side,
    whole: Side,
    specs: Vec<(ObjectRef, Vec<Value>)>,
    memo: Memo,
    settings: Settings,
    contents: Contents,
    /// When each entry of `contents` last changed.
    changed_at: BTreeMap<EntryName, u64>,
    sequence: u64,
    replicas: [Option<Replica>; 3],
    /// How many objects and proxies there have been.
    count: u64,
    publications: watch::Sender<Option<PublishedTable>>,
    fleet: watch::Sender<Fleet>,
    status_changes: watch::Sender<u64>,
    leadership: Leadership,
    lead: Lead,
    /// A pass is due, whatever the inputs.
    due: bool,
    /// The last pass is to be tried again.
    retries: bool,
}

// === impl Side ===

impl Side {
    fn new(
        publications: watch::Receiver<Option<PublishedTable>>,
        fleet: watch::Receiver<Fleet>,
        status_changes: watch::Receiver<u64>,
    ) -> Self {
        let server = Arc::<Mutex<Server>>::default();
        let stored = Arc::<Mutex<StoredObjects>>::default();
        let client = Server::scenario(&server).client();
        let claims = Claims::new(client.clone(), "home", Arc::clone(&stored), metrics());
        let inputs = Inputs {
            publications,
            fleet,
            status_changes,
            stored: Arc::clone(&stored),
            claims: Arc::new(claims),
        };
        let announcer = Announcer::new(EventWriter::new(client.clone(), "operator-0", metrics()));
        let mut writer = StatusWriter::new(client, inputs, announcer, metrics());
        writer.settled_ms = u64::MAX;
        Self {
            writer,
            stored,
            server,
        }
    }

    /// False if the pass is to be tried again.
    async fn pass(&mut self, leadership: &Leadership) -> bool {
        self.writer.begin();
        self.writer.pass(leadership).await
    }

    async fn whole_pass(&mut self, leadership: &Leadership) -> bool {
        self.writer.open.lock().reset();
        self.pass(leadership).await
    }

    /// The writes since the last look, and what is stored.
    fn look(&self) -> (Vec<ObjectRef>, BTreeMap<ObjectRef, Value>) {
        let mut server = self.server.lock();
        let mut writes = std::mem::take(&mut server.writes);
        writes.sort();
        (writes, server.statuses())
    }
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let publications = watch::Sender::new(None);
        let fleet = watch::Sender::new(Fleet::default());
        let status_changes = watch::Sender::new(0);
        let side = || {
            Side::new(
                publications.subscribe(),
                fleet.subscribe(),
                status_changes.subscribe(),
            )
        };
        let (lead, leadership) = Leadership::for_tests();
        Self {
            open: side(),
            whole: side(),
            specs: specs(),
            memo: Memo::default(),
            settings: settings(),
            contents: Contents::default(),
            changed_at: BTreeMap::new(),
            sequence: 0,
            replicas: Default::default(),
            count: 0,
            publications,
            fleet,
            status_changes,
            leadership,
            lead,
            due: true,
            retries: false,
        }
    }

    pub(super) fn objects(&self) -> usize {
        self.specs.len()
    }

    fn servers(&self) -> [&Mutex<Server>; 2] {
        [&self.open.server, &self.whole.server]
    }

    /// Lets the writer run for `pause`. Each of its passes has to write what one over all objects does; when it
    /// waits at the end, such a pass has to find nothing.
    pub(super) async fn last(&mut self, pause: Duration) -> Result<(), TestCaseError> {
        let end = Instant::now() + pause;
        if !self.leadership.holds() {
            sleep_until(end).await;
            return Ok(());
        }
        loop {
            if self.retries {
                sleep(RETRY).await;
            } else if !std::mem::take(&mut self.due) {
                let changed = timeout_at(end, self.open.writer.changed());
                if changed.await.is_err() {
                    break;
                }
            }
            sleep(COALESCE).await;
            self.retries = !self.open.pass(&self.leadership).await;
            self.whole.whole_pass(&self.leadership).await;
            prop_assert_eq!(self.open.look(), self.whole.look());
            if self.retries && Instant::now() >= end {
                return Ok(());
            }
        }
        self.whole.whole_pass(&self.leadership).await;
        let (missed, _) = self.whole.look();
        prop_assert_eq!(missed, Vec::new(), "the writer waits");
        // A pass also notes how backends serve, so both writers need the same ones.
        self.open.pass(&self.leadership).await;
        prop_assert_eq!(self.open.look(), self.whole.look());
        Ok(())
    }

    pub(super) fn happen(&mut self, event: &Event) {
        let object = |choice: &prop::sample::Index| choice.index(self.specs.len());
        match event {
            Event::Apply(choice, spec) => self.put(object(choice), spec.index(8)),
            Event::Delete(choice) => self.delete(object(choice)),
            Event::Recreate(choice) => self.recreate(object(choice)),
            Event::Overwrite(choice, how) => {
                let (object, _) = choice.get(&self.specs);
                for server in self.servers() {
                    server.lock().overwrite(object, *how);
                }
            }
            Event::Replica(choice, change) => self.change(choice.index(3), change),
            Event::Recovered => self.recover(),
            Event::Today(choice) => {
                self.settings.today = Day::parse(DAYS[choice.index(3)]).expect("it is a day");
            }
            Event::Key(admitted) => self.key("other", *admitted),
            Event::Observed => self.observe(),
            Event::Published => self.publish(),
            Event::Settled => {
                self.open.writer.settled_ms = 0;
                self.whole.writer.settled_ms = 0;
                self.due = true;
            }
            Event::ServerFails(fails) => {
                for server in self.servers() {
                    server.lock().fails = *fails;
                }
            }
            Event::Leads(false) => self.lead.lose(),
            Event::Leads(true) => {
                if !self.leadership.holds() {
                    self.lead.gain();
                    for side in [&self.open, &self.whole] {
                        side.writer.announcer.begin();
                        side.writer.open.lock().reset();
                    }
                    (self.due, self.retries) = (true, false);
                }
            }
        }
    }

    pub(super) fn put(&mut self, object: usize, spec: usize) {
        self.count += 1;
        let (object, specs) = &self.specs[object];
        let spec = &specs[spec % specs.len()];
        for server in self.servers() {
            server.lock().put(object, spec, self.count);
        }
    }

    fn delete(&mut self, object: usize) {
        let (object, _) = &self.specs[object];
        for server in self.servers() {
            server.lock().objects.remove(object);
        }
    }

    fn recreate(&mut self, object: usize) {
        self.count += 1;
        let (object, _) = &self.specs[object];
        for server in self.servers() {
            let mut server = server.lock();
            if let Some(gone) = server.objects.remove(object) {
                server.put(object, &gone["spec"], self.count);
            }
        }
    }

    /// Compiles with a Secret that routes admit, or that they do not.
    pub(super) fn key(&mut self, name: &str, admitted: bool) {
        let label = if admitted { "chat" } else { "other" };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "team", "name": name, "labels": {"keys": label}},
            "stringData": {"key": name},
        });
        let read = serde_json::from_value(secret).expect("it is an object");
        let observed = Observed::read(Kind::Secret, read).expect("it has a name");
        self.memo.apply(observed.content);
    }

    /// Delivers to each writer what its server stores, and to the compiler the specs.
    fn observe(&mut self) {
        let mut changed = 0;
        for side in [&self.open, &self.whole] {
            let (server, mut stored) = (side.server.lock(), side.stored.lock());
            let known: Vec<ObjectRef> = stored.keys().cloned().collect();
            for object in known {
                if !server.objects.contains_key(&object) {
                    stored.remove(&object);
                    self.memo.delete(&object);
                }
            }
            for (object, value) in &server.objects {
                let read = serde_json::from_value(value.clone()).expect("it is an object");
                let observed = Observed::read(object.kind, read).expect("it has a name");
                if stored.get(object) == Some(&observed.stored) {
                    continue;
                }
                changed += 1;
                let new = observed.stored;
                let before = stored.insert(object.clone(), new.clone());
                let is_same = |before: StoredObject| {
                    before.uid == new.uid && before.generation == new.generation
                };
                if !before.is_some_and(is_same) {
                    self.memo.apply(observed.content);
                }
            }
        }
        if changed > 0 {
            self.status_changes.send_modify(|count| *count += 1);
        }
    }

    /// Publishes as the publisher does: an entry that differs has a new sequence.
    fn publish(&mut self) {
        let compiled = self.memo.compile(&self.settings);
        let mut contents = compiled.contents.clone();
        if self.sequence == 0 || contents != self.contents {
            contents.share(&self.contents);
            self.sequence += 1;
            let routes = contents.routes.changes(&self.contents.routes);
            mark(&mut self.changed_at, Kind::AiRoute, &routes, self.sequence);
            let quotas = contents.quotas.changes(&self.contents.quotas);
            mark(&mut self.changed_at, Kind::AiQuota, &quotas, self.sequence);
            self.contents = contents;
        }
        let changed_at = self.changed_at.iter();
        self.publications.send_replace(Some(PublishedTable {
            compilation: Compilation {
                revision: self.sequence,
                compiled: Arc::new(compiled),
            },
            publication: Publication {
                sequence: self.sequence,
                digest: "digest".into(),
                changed_at: changed_at.map(|(entry, at)| (entry.clone(), *at)).collect(),
            },
        }));
    }

    fn recover(&mut self) {
        for replica in self.replicas.iter_mut().flatten() {
            *replica = Replica {
                id: replica.id.clone(),
                pod: replica.pod.clone(),
                acked: Some(self.sequence),
                ..Replica::default()
            };
        }
        self.report();
    }

    fn report(&self) {
        let replicas = self.replicas.iter().flatten().cloned().collect();
        let fleet = Fleet { replicas };
        self.fleet.send_if_modified(|known| {
            let is_other = *known != fleet;
            *known = fleet;
            is_other
        });
    }

    pub(super) fn change(&mut self, place: usize, change: &Change) {
        self.count += 1;
        let id = format!("proxy-{place}-{}", self.count);
        let slot = &mut self.replicas[place];
        if matches!(change, Change::Joins) {
            slot.get_or_insert_with(|| Replica {
                id,
                ..Replica::default()
            });
        } else if matches!(change, Change::Leaves) {
            *slot = None;
        } else if let Some(replica) = slot {
            alter(replica, change, (id, self.sequence), &self.specs);
        }
        self.report();
    }
}

fn alter(
    replica: &mut Replica,
    change: &Change,
    (id, newest): (String, u64),
    specs: &[(ObjectRef, Vec<Value>)],
) {
    let team = |name: &str| ObjectName::new("team", name);
    match change {
        Change::Joins | Change::Leaves => {}
        Change::Replaced => replica.id = id,
        Change::PodKnown(known) => replica.pod = known.then(|| "pod".to_owned()),
        Change::Acknowledges(behind) => {
            replica.acked = behind.and_then(|behind| newest.checked_sub(behind));
        }
        Change::Refuses(refuses) => replica.refused = refuses.then(|| (newest, "no".to_owned())),
        Change::Silent(silent) => replica.silent_since_ms = silent.then_some(1_000),
        Change::StoreLost(lost) => replica.store_lost = *lost,
        Change::Lacks(choice, feature) => {
            let lacking = Arc::make_mut(&mut replica.unsupported);
            let entry = choice.get(specs).0.entry().expect("the kind has entries");
            match feature {
                Some(feature) => lacking.insert(entry, vec![(*feature).to_owned()]),
                None => lacking.remove(&entry),
            };
        }
        Change::Tokenless(choice, why) => {
            let tokenless = Arc::make_mut(&mut replica.tokenless);
            let backend = team(BACKENDS[choice.index(2)]);
            match why {
                Some(why) => tokenless.insert(backend, (*why).to_owned()),
                None => tokenless.remove(&backend),
            };
        }
        Change::Deployment(choice, state) => {
            let outage = state.get(&DEPLOYMENTS).map(|(reason, cause)| Outage {
                reason: reason.to_owned(),
                cause: cause.to_owned(),
            });
            let outages = Arc::make_mut(&mut replica.outages);
            let backend = team(BACKENDS[choice.index(2)]);
            outages.insert(backend, [("gpt-4o".to_owned(), outage)].into());
        }
    }
}

/// Notes that the entries have changed.
fn mark<T: Named>(
    changed_at: &mut BTreeMap<EntryName, u64>,
    kind: Kind,
    changes: &Changes<'_, T>,
    sequence: u64,
) {
    let entry = |one: &T| ObjectRef::new(kind, one.name().clone()).entry();
    for gone in changes.gone.iter().filter_map(|one| entry(one)) {
        changed_at.remove(&gone);
    }
    for fresh in changes.fresh.iter().filter_map(|one| entry(one)) {
        changed_at.insert(fresh, sequence);
    }
}
