use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::ObjectName;
use proxy_core::table::Contents;

use super::*;

type Received = Arc<Mutex<Vec<String>>>;

fn current() -> (Current, Received) {
    let received = Received::default();
    let sink = {
        let received = Arc::clone(&received);
        move |update: Update| {
            received.lock().push(match update {
                Update::Table {
                    table, revision, ..
                } => format!("{revision}: {} keys", table.contents().keys.len()),
                Update::Confirmed => "confirmed".to_owned(),
                Update::Stale(stale) => format!("stale: {stale}"),
                Update::Replicas(replicas) => format!("{replicas} replicas"),
                Update::Carried(carried) => {
                    let each = carried.iter().map(|one| {
                        format!(
                            " {}@{}={}",
                            one.limit.limit, one.period_start_ms, one.amount
                        )
                    });
                    format!("carried{}", each.collect::<String>())
                }
            });
        }
    };
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    (Current::new(Box::new(sink), metrics), received)
}

fn applied() -> Outcome {
    Outcome::Applied(Arc::new([]))
}

fn key(n: usize) -> Key {
    Key {
        secret: ObjectName::new("a", format!("k{n}")),
        consumer: "c".into(),
        digest: KeyDigest::of("k"),
        attributes: Vec::new(),
        expires_ms: None,
    }
}

fn version(revision: u64, keys: usize) -> Version {
    let objects = v1::encode(&Contents {
        keys: (0..keys).map(|n| Arc::new(key(n))).collect(),
        ..Contents::default()
    });
    Version {
        revision,
        digest: v1::digest(&objects).into(),
        objects: Arc::new(objects),
    }
}

fn broken(revision: u64) -> Version {
    let objects: Objects = serde_json::from_str(r#"{"route/a/b": {"rules": 7}}"#).unwrap();
    Version {
        revision,
        digest: v1::digest(&objects).into(),
        objects: Arc::new(objects),
    }
}

#[test]
fn the_revision_never_moves_back() {
    let (current, received) = current();
    assert_eq!(current.offer(version(5, 1)), applied());
    assert_eq!(current.offer(version(4, 2)), Outcome::Older);
    assert_eq!(current.offer(version(5, 3)), applied(), "another digest");
    assert_eq!(current.offer(version(9, 3)), applied(), "the same digest");
    assert_eq!(current.offer(version(8, 4)), Outcome::Older);
    assert_eq!(*received.lock(), ["5: 1 keys", "5: 3 keys"]);
}

#[test]
fn the_table_on_disk_has_a_revision() {
    let (current, received) = current();
    assert_eq!(
        current.restore(version(5, 1), 3, Origin::LastGood),
        applied()
    );
    assert_eq!(current.offer(version(4, 2)), Outcome::Older);
    assert_eq!(*received.lock(), ["5: 1 keys", "3 replicas"]);
    assert!(
        !current.newest().has_changed().unwrap(),
        "it is on disk already"
    );
}

/// A snapshot that was written long ago.
const STORED: Origin = Origin::Snapshot { written_ms: 5 };

#[test]
fn a_snapshot_replaces_an_older_last_good_table_and_no_newer_one() {
    let (current, received) = current();
    current.restore(version(5, 1), 3, Origin::LastGood);
    assert_eq!(current.restore(version(4, 2), 2, STORED), Outcome::Older);
    assert_eq!(current.restore(version(5, 1), 2, STORED), Outcome::Older);
    assert_eq!(current.restore(version(6, 4), 2, STORED), applied());
    assert!(!current.is_answered());
    let expected = ["5: 1 keys", "3 replicas", "6: 4 keys", "2 replicas"];
    assert_eq!(*received.lock(), expected);
}

#[test]
fn an_answer_of_an_operator_replaces_a_snapshot_also_if_it_is_older() {
    let (current, received) = current();
    current.restore(version(900, 1), 3, STORED);
    assert_eq!(current.offer(version(4, 2)), applied());
    assert!(current.is_answered());
    assert_eq!(current.restore(version(901, 1), 3, STORED), Outcome::Older);
    // From now on the revision counts again.
    assert_eq!(current.offer(version(3, 3)), Outcome::Older);
    assert_eq!(*received.lock(), ["900: 1 keys", "3 replicas", "4: 2 keys"]);
    assert!(current.newest().borrow().is_some(), "it is for the disk");
}

#[test]
fn an_operator_with_the_same_table_confirms_it_and_its_revision_counts() {
    let (current, received) = current();
    current.restore(version(900, 1), 3, STORED);
    current.confirm(7, "another");
    assert!(!current.is_answered());
    current.confirm(7, &version(0, 1).digest);
    current.confirm(7, &version(0, 1).digest);
    assert_eq!(current.version().unwrap().revision, 7);
    assert_eq!(current.offer(version(6, 2)), Outcome::Older);
    assert_eq!(*received.lock(), ["900: 1 keys", "3 replicas", "confirmed"]);
    assert!(current.newest().borrow().is_some(), "it is for the disk");
}

#[test]
fn an_unreadable_table_is_refused_and_the_current_one_stays() {
    let (current, _received) = current();
    current.offer(version(5, 1));
    let Outcome::Refused(error) = current.offer(broken(6)) else {
        panic!("refused");
    };
    assert!(error.contains("route/a/b"), "{error}");
    assert_eq!(current.version().unwrap().revision, 5);
    assert_eq!(current.offer(version(5, 2)), applied());
}

#[test]
fn the_largest_replica_count_of_a_connected_operator_applies_and_the_last_one_stays() {
    let (current, received) = current();
    let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    current.count(one, 4);
    current.count(two, 1);
    current.count(two, 4);
    current.count(one, 3);
    current.gone(two);
    current.gone(one);
    assert_eq!(*received.lock(), ["4 replicas", "3 replicas"]);
}

#[test]
fn a_new_replica_count_is_written_to_disk() {
    let (current, _received) = current();
    let newest = current.newest();
    let one = SocketAddr::from(([127, 0, 0, 1], 1));
    current.count(one, 1);
    assert!(newest.borrow().is_none(), "there is no table yet");
    current.offer(version(5, 1));
    current.count(one, 2);
    let kept = newest.borrow().clone();
    let (kept, replicas) = kept.unwrap();
    assert_eq!((kept.revision, replicas), (5, 2));
}

fn carried(replicas: u64, entries: &[(&str, i64, u64)]) -> v1::Carried {
    let entries = entries
        .iter()
        .map(|&(limit, period_start_ms, amount)| Carried {
            limit: LimitName {
                quota: ObjectName::new("a", "q"),
                limit: limit.into(),
            },
            key: SubjectKey([0; 16]),
            period_start_ms,
            amount,
        });
    v1::Carried {
        replicas,
        entries: entries.map(Into::into).collect(),
    }
}

#[test]
fn the_largest_carried_amount_of_a_connected_operator_applies_and_the_last_one_stays() {
    let (current, received) = current();
    let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    current.carry(one, carried(2, &[("day", 7, 30), ("hour", 7, 5)]));
    current.carry(two, carried(2, &[("day", 7, 10), ("hour", 8, 1)]));
    current.carry(two, carried(2, &[("day", 7, 40)]));
    current.gone(two);
    current.carry(one, carried(2, &[]));
    current.carry(one, carried(2, &[("day", 7, 9)]));
    current.gone(one);
    let expected = [
        "2 replicas",
        "carried day@7=30 hour@7=5",
        "carried day@7=30 hour@8=1",
        "carried day@7=40 hour@7=5",
        "carried day@7=30 hour@7=5",
        "carried",
        "carried day@7=9",
    ];
    assert_eq!(*received.lock(), expected);
}

#[test]
fn a_change_of_replicas_and_carried_amounts_never_admits_more_than_before_or_after() {
    let (current, received) = current();
    let one = SocketAddr::from(([127, 0, 0, 1], 1));
    current.carry(one, carried(2, &[("day", 7, 20)]));
    current.carry(one, carried(1, &[("day", 7, 40)]));
    current.carry(one, carried(4, &[("day", 7, 10)]));
    let expected = [
        "2 replicas",
        "carried day@7=20",
        "carried day@7=40",
        "1 replicas",
        "4 replicas",
        "carried day@7=10",
    ];
    assert_eq!(*received.lock(), expected);
}

/// A table with a key and, if `red`, a quota that needs a feature.
fn skewed(revision: u64, red: bool) -> Version {
    let mut objects = v1::encode(&Contents {
        keys: vec![Arc::new(key(1))].into(),
        ..Contents::default()
    });
    if red {
        let json = r#"{"quota/a/red": {"needs": ["colour"]}}"#;
        let more: Objects = serde_json::from_str(json).unwrap();
        let entries = objects.iter().chain(more.iter());
        let entries = entries.map(|(key, entry)| (key.into(), entry.clone()));
        objects = entries.collect();
    }
    Version {
        revision,
        digest: v1::digest(&objects).into(),
        objects: Arc::new(objects),
    }
}

#[test]
fn unsupported_entries_are_acknowledged_with_their_table() {
    let (current, _received) = current();
    let red = skewed(1, true);
    let listed = Outcome::Applied(Arc::new([Unsupported {
        entry: "quota/a/red".to_owned(),
        needs: vec!["colour".to_owned()],
    }]));
    assert_eq!(current.offer(red.clone()), listed);
    assert_eq!(current.offer(red.clone()), listed, "the same digest");
    assert!(
        current
            .unsupported(&red.digest)
            .is_some_and(|one| one.len() == 1)
    );
    let green = skewed(2, false);
    assert_eq!(current.offer(green.clone()), applied());
    assert_eq!(current.unsupported(&red.digest), None, "it is not current");
    assert!(
        current
            .unsupported(&green.digest)
            .is_some_and(|one| one.is_empty())
    );
}

#[test]
fn unchanged_entries_keep_their_handles() {
    let tables = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let tables = Arc::clone(&tables);
        move |update: Update| {
            if let Update::Table { table, .. } = update {
                tables.lock().push(table);
            }
        }
    };
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let current = Current::new(Box::new(sink), metrics);
    // The entries of the second table are other allocations, as in a snapshot.
    current.offer(version(1, 2));
    current.offer(version(2, 3));
    let tables = tables.lock();
    let [first, second] = [0, 1].map(|place| &tables[place].contents().keys);
    assert!(
        first
            .iter()
            .zip(second)
            .all(|(one, other)| Arc::ptr_eq(one, other))
    );
}
