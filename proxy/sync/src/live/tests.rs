use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::ObjectName;
use proxy_core::table::Contents;

use super::*;

type Told = Arc<Mutex<Vec<String>>>;

fn live() -> (Live, Told) {
    let told = Told::default();
    let sink = {
        let told = Arc::clone(&told);
        move |update: Update| {
            told.lock().push(match update {
                Update::Table {
                    table, revision, ..
                } => format!("{revision}: {} keys", table.contents().keys.len()),
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
    (Live::new(Box::new(sink), metrics), told)
}

fn version(revision: u64, keys: usize) -> Version {
    let key = |n: usize| Key {
        secret: ObjectName::new("a", format!("k{n}")),
        consumer: "c".into(),
        digest: KeyDigest::of("k"),
        attributes: Vec::new(),
        expires_ms: None,
    };
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
    let (live, told) = live();
    assert_eq!(live.offer(version(5, 1)), Outcome::Live);
    assert_eq!(live.offer(version(4, 2)), Outcome::Older);
    assert_eq!(live.offer(version(5, 3)), Outcome::Live, "another digest");
    assert_eq!(live.offer(version(9, 3)), Outcome::Live, "the same digest");
    assert_eq!(live.offer(version(8, 4)), Outcome::Older);
    assert_eq!(*told.lock(), ["5: 1 keys", "5: 3 keys"]);
}

#[test]
fn what_is_on_disk_counts_as_a_revision() {
    let (live, told) = live();
    assert_eq!(live.restore(version(5, 1), 3), Outcome::Live);
    assert_eq!(live.offer(version(4, 2)), Outcome::Older);
    assert_eq!(*told.lock(), ["5: 1 keys", "3 replicas"]);
    assert!(
        !live.newest().has_changed().unwrap(),
        "it is on disk already"
    );
}

#[test]
fn what_is_not_a_table_is_refused_and_the_live_one_stays() {
    let (live, _told) = live();
    live.offer(version(5, 1));
    let Outcome::Refused(error) = live.offer(broken(6)) else {
        panic!("refused");
    };
    assert!(error.contains("route/a/b"), "{error}");
    assert_eq!(live.current().unwrap().revision, 5);
    assert_eq!(live.offer(version(5, 2)), Outcome::Live);
}

#[test]
fn the_largest_count_of_a_connected_operator_is_told_and_the_last_one_stays() {
    let (live, told) = live();
    let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    live.count(one, 4);
    live.count(two, 1);
    live.count(two, 4);
    live.count(one, 3);
    live.gone(two);
    live.gone(one);
    assert_eq!(*told.lock(), ["4 replicas", "3 replicas"]);
}

#[test]
fn a_new_number_of_replicas_goes_to_the_disk_too() {
    let (live, _told) = live();
    let newest = live.newest();
    let one = SocketAddr::from(([127, 0, 0, 1], 1));
    live.count(one, 1);
    assert!(newest.borrow().is_none(), "there is no table yet");
    live.offer(version(5, 1));
    live.count(one, 2);
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
fn of_what_operators_tell_to_carry_the_most_counts_and_the_last_one_stays() {
    let (live, told) = live();
    let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    live.carry(one, carried(2, &[("day", 7, 30), ("hour", 7, 5)]));
    live.carry(two, carried(2, &[("day", 7, 10), ("hour", 8, 1)]));
    live.carry(two, carried(2, &[("day", 7, 40)]));
    live.gone(two);
    live.carry(one, carried(2, &[]));
    live.carry(one, carried(2, &[("day", 7, 9)]));
    live.gone(one);
    let expected = [
        "2 replicas",
        "carried day@7=30 hour@7=5",
        "carried day@7=30 hour@8=1",
        "carried day@7=40 hour@7=5",
        "carried day@7=30 hour@7=5",
        "carried",
        "carried day@7=9",
    ];
    assert_eq!(*told.lock(), expected);
}

#[test]
fn a_change_of_both_never_admits_more_than_before_or_after() {
    let (live, told) = live();
    let one = SocketAddr::from(([127, 0, 0, 1], 1));
    live.carry(one, carried(2, &[("day", 7, 20)]));
    live.carry(one, carried(1, &[("day", 7, 40)]));
    live.carry(one, carried(4, &[("day", 7, 10)]));
    let expected = [
        "2 replicas",
        "carried day@7=20",
        "carried day@7=40",
        "1 replicas",
        "4 replicas",
        "carried day@7=10",
    ];
    assert_eq!(*told.lock(), expected);
}
