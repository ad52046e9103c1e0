use std::time::Duration;

use proxy_admin::shutdown;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{EntryKind, ObjectName};
use proxy_wire::v1::{Line, Unsupported};

use super::subscription::{Follower, Subscription};
use super::*;

/// A table of these keys, sorted.
fn keys(names: &[&str]) -> Contents {
    let key = |name: &&str| Key {
        secret: ObjectName::new("a", *name),
        consumer: (*name).into(),
        digest: KeyDigest::of(name),
        attributes: Vec::new(),
        expires_ms: None,
    };
    Contents {
        keys: names.iter().map(|name| Arc::new(key(name))).collect(),
        ..Contents::default()
    }
}

fn publisher() -> Publisher {
    Publisher::new(Features::KNOWN, Metrics::default())
}

fn follow(publisher: &Publisher, have: Option<&str>) -> (shutdown::Trigger, Subscription) {
    let (trigger, shutdown) = shutdown::channel();
    let times = (Duration::from_secs(5), Duration::from_secs(3_600));
    let follower = Follower {
        replica: Some("p1".to_owned()),
        have: have.map(str::to_owned),
        form: Form {
            by_shards: true,
            by_edits: true,
        },
        ..Follower::default()
    };
    let subscription = Subscription::new(publisher, follower, times, shutdown);
    (trigger, subscription)
}

async fn line(subscription: &mut Subscription) -> Line {
    Line::parse(&subscription.next().await.unwrap()).unwrap()
}

fn ack(digest: &str, result: AckResult) -> Ack {
    Ack {
        replica: "p1".to_owned(),
        revision: 1,
        digest: digest.to_owned(),
        result,
        error: (result == AckResult::Refused).then(|| "x".repeat(5_000)),
        unsupported: Vec::new(),
    }
}

#[tokio::test]
async fn unsupported_entries_are_those_of_the_newest_applied_publication() {
    let publisher = publisher();
    let (_trigger, _subscription) = follow(&publisher, None);
    let first = publisher.publish(1, &keys(&["x"]));
    let second = publisher.publish(2, &keys(&["x", "y"]));
    let entries = || publisher.fleet().borrow().replicas[0].unsupported.clone();
    let lacking = Ack {
        unsupported: vec![Unsupported {
            entry: "key/a/x".to_owned(),
            needs: vec!["colour".to_owned()],
        }],
        ..ack(&second.digest, AckResult::Applied)
    };
    assert!(publisher.acknowledge("p1", lacking));
    let entry = EntryName::new(EntryKind::Key, ObjectName::new("a", "x"));
    assert_eq!(entries().get(&entry).unwrap(), &["colour"]);
    // An acknowledgement that was overtaken changes nothing.
    assert!(publisher.acknowledge("p1", ack(&first.digest, AckResult::Applied)));
    assert_eq!(entries().len(), 1);
    assert!(publisher.acknowledge("p1", ack(&second.digest, AckResult::Applied)));
    assert!(entries().is_empty());
}

#[test]
fn the_same_table_is_published_once() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    assert_eq!(publisher.publish(2, &keys(&["x"])), first);
    let empty = self::publisher();
    assert_eq!(empty.publish(1, &Contents::default()).sequence, 1);
}

#[test]
fn tables_with_the_same_bytes_are_one_publication() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x", "y"]));
    let mut reversed = keys(&["x", "y"]);
    reversed.keys.reverse();
    assert_eq!(publisher.publish(2, &reversed), first);
}

#[test]
fn a_publication_knows_when_each_entry_last_changed() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x", "y"]));
    let second = publisher.publish(2, &keys(&["x", "z"]));
    let at = |publication: &Publication, key: &str| {
        let entry = EntryName::new(EntryKind::Key, ObjectName::new("a", key));
        publication.changed_at.get(&entry)
    };
    assert_eq!(
        ["x", "y", "z"].map(|key| at(&second, key)),
        [Some(1), None, Some(2)]
    );
    // A later publication does not change an earlier one.
    assert_eq!(
        ["x", "y", "z"].map(|key| at(&first, key)),
        [Some(1), Some(1), None]
    );
}

#[tokio::test]
async fn the_first_proxies_follow_by_the_names_that_they_know() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    let (_trigger, mut new) = follow(&publisher, None);
    let Line::Snapshot(snapshot) = line(&mut new).await else {
        panic!("a snapshot");
    };
    let old_name = v1::digest_in_a_row(&snapshot.objects);
    let (_trigger, shutdown) = shutdown::channel();
    let times = (Duration::from_secs(5), Duration::from_secs(3_600));
    let follower = Follower {
        replica: Some("p0".to_owned()),
        have: Some(old_name.clone()),
        ..Follower::default()
    };
    let mut old = Subscription::new(&publisher, follower, times, shutdown);
    let Line::Heartbeat(heartbeat) = line(&mut old).await else {
        panic!("a heartbeat");
    };
    assert_eq!(heartbeat.digest, old_name);
    let second = publisher.publish(2, &keys(&["x", "y"]));
    let (Line::Delta(by_shards), Line::Delta(in_a_row)) =
        (line(&mut new).await, line(&mut old).await)
    else {
        panic!("two deltas");
    };
    assert_eq!(
        (&*by_shards.base, &*by_shards.digest),
        (&*first.digest, &*second.digest)
    );
    assert_eq!(by_shards.changed, in_a_row.changed);
    let next = v1::apply(&snapshot.objects, &old_name, &in_a_row).unwrap();
    assert_eq!(in_a_row.digest, v1::digest_in_a_row(&next));
    for (replica, digest) in [("p0", in_a_row.digest), ("p1", by_shards.digest)] {
        let ack = Ack {
            replica: replica.to_owned(),
            ..ack(&digest, AckResult::Applied)
        };
        assert!(publisher.acknowledge(replica, ack));
    }
    let fleet = publisher.fleet().borrow().clone();
    let acked: Vec<_> = fleet.replicas.iter().map(|one| one.acked).collect();
    assert_eq!(acked, [Some(second.sequence); 2]);
}

#[tokio::test]
async fn a_long_entry_is_edited_for_followers_that_know_edits() {
    let publisher = publisher();
    let table = |name: &str| {
        let mut contents = keys(&["x"]);
        let attributes = (0..100).map(|each| (format!("a{each}").into(), "b".into()));
        let key = contents.keys.first().map(|key| Key {
            attributes: attributes.collect(),
            consumer: name.into(),
            ..(**key).clone()
        });
        contents.keys = key.into_iter().map(Arc::new).collect();
        contents
    };
    publisher.publish(1, &table("ann"));
    let (_trigger, mut new) = follow(&publisher, None);
    let Line::Snapshot(snapshot) = line(&mut new).await else {
        panic!("a snapshot");
    };
    publisher.publish(2, &table("bob"));
    let Line::Delta(delta) = line(&mut new).await else {
        panic!("a delta");
    };
    assert_eq!((delta.changed.len(), delta.edited.len()), (0, 1));
    let next = v1::apply(&snapshot.objects, &snapshot.digest, &delta).unwrap();
    assert_eq!(v1::decode(&next).unwrap(), table("bob"));
    // The proxy has something else there, or nothing.
    let other = v1::encode(&keys(&["x"]));
    for base in [other, Objects::default()] {
        let refused = v1::apply(&base, &snapshot.digest, &delta);
        assert!(matches!(refused, Err(v1::DecodeError::Object { .. })));
    }

    let (_trigger, shutdown) = shutdown::channel();
    let times = (Duration::from_secs(5), Duration::from_secs(3_600));
    let follower = Follower {
        have: Some(snapshot.digest),
        form: Form {
            by_shards: true,
            by_edits: false,
        },
        ..Follower::default()
    };
    let mut before = Subscription::new(&publisher, follower, times, shutdown);
    let Line::Delta(whole) = line(&mut before).await else {
        panic!("a delta");
    };
    assert_eq!((whole.changed.len(), whole.edited.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_away_receives_one_delta_for_all_that_it_missed() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    let (_trigger, mut subscription) = follow(&publisher, Some(&first.digest));
    assert!(matches!(line(&mut subscription).await, Line::Heartbeat(_)));
    publisher.publish(2, &keys(&["x", "y"]));
    let third = publisher.publish(3, &keys(&["x", "y", "z"]));
    let Line::Delta(delta) = line(&mut subscription).await else {
        panic!("a delta");
    };
    assert_eq!(
        (&*delta.base, &*delta.digest),
        (&*first.digest, &*third.digest)
    );
    assert_eq!(delta.changed.len(), 2);
    assert!(matches!(line(&mut subscription).await, Line::Heartbeat(_)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_missed_too_much_receives_a_snapshot() {
    let publisher = publisher();
    let first = publisher.publish(0, &keys(&["x"]));
    let (_trigger, mut subscription) = follow(&publisher, Some(&first.digest));
    line(&mut subscription).await;
    for revision in 1..=16 {
        publisher.publish(revision, &keys(&["x", &format!("y{revision}")]));
    }
    assert!(matches!(line(&mut subscription).await, Line::Snapshot(_)));
}

#[tokio::test(start_paused = true)]
async fn subscribers_share_the_bytes_of_a_line() {
    let publisher = publisher();
    publisher.publish(1, &keys(&["x"]));
    let (_one, mut first) = follow(&publisher, None);
    let (_two, mut second) = follow(&publisher, None);
    let (one, two) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert_eq!(one.as_ptr(), two.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_regularly_and_a_subscription_ends() {
    let publisher = publisher();
    publisher.publish(1, &keys(&["x"]));
    let (_trigger, mut subscription) = follow(&publisher, None);
    let start = tokio::time::Instant::now();
    line(&mut subscription).await;
    for beat in 1..=10u32 {
        assert!(matches!(line(&mut subscription).await, Line::Heartbeat(_)));
        assert_eq!(start.elapsed().as_secs(), u64::from(beat) * 5);
    }
    while subscription.next().await.is_some() {}
    assert_eq!(start.elapsed().as_secs(), 3_600);
}

#[tokio::test(start_paused = true)]
async fn a_revived_table_is_sent_at_once() {
    let publisher = publisher();
    publisher.publish(1, &keys(&["x"]));
    let (_trigger, mut subscription) = follow(&publisher, None);
    line(&mut subscription).await;
    publisher.publish(2, &keys(&["y"]));
    publisher.publish(3, &keys(&["x"]));
    let start = tokio::time::Instant::now();
    assert!(matches!(line(&mut subscription).await, Line::Heartbeat(beat) if beat.revision == 3));
    assert!(start.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_subscriptions() {
    let publisher = publisher();
    publisher.publish(1, &keys(&["x"]));
    let (trigger, mut subscription) = follow(&publisher, None);
    line(&mut subscription).await;
    trigger.stop();
    assert!(subscription.next().await.is_none());
}

#[tokio::test]
async fn a_replica_stays_in_the_fleet_over_a_reconnect() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    let (_trigger, subscription) = follow(&publisher, None);
    assert!(publisher.acknowledge("p1", ack(&first.digest, AckResult::Applied)));
    drop(subscription);
    publisher.sweep();
    let fleet = publisher.fleet().borrow().clone();
    assert_eq!(fleet.replicas[0].acked, Some(1));
    let (_trigger, _again) = follow(&publisher, None);
    publisher.change_members(|members| {
        members.sweep(clock::now(), clock::instant() + crate::fleet::GRACE * 2)
    });
    assert_eq!(publisher.fleet().borrow().replicas.len(), 1);
}

#[tokio::test]
async fn a_replica_that_stays_away_leaves_the_fleet() {
    let publisher = publisher();
    publisher.publish(1, &keys(&["x"]));
    let (_trigger, subscription) = follow(&publisher, None);
    drop(subscription);
    publisher.change_members(|members| {
        members.sweep(clock::now(), clock::instant() + crate::fleet::GRACE * 2)
    });
    assert!(publisher.fleet().borrow().replicas.is_empty());
}

#[tokio::test]
async fn a_late_acknowledgement_never_moves_a_replica_back() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    let second = publisher.publish(2, &keys(&["y"]));
    let (_trigger, _subscription) = follow(&publisher, None);
    publisher.acknowledge("p1", ack(&second.digest, AckResult::Applied));
    publisher.acknowledge("p1", ack(&first.digest, AckResult::Applied));
    publisher.acknowledge("p1", ack("unknown", AckResult::Applied));
    assert_eq!(publisher.fleet().borrow().replicas[0].acked, Some(2));
}

#[tokio::test]
async fn the_error_of_a_replica_is_cut() {
    let publisher = publisher();
    let first = publisher.publish(1, &keys(&["x"]));
    let (_trigger, _subscription) = follow(&publisher, None);
    publisher.acknowledge("p1", ack(&first.digest, AckResult::Refused));
    let refused = publisher.fleet().borrow().replicas[0]
        .refused
        .clone()
        .unwrap();
    assert_eq!((refused.0, refused.1.len()), (1, ERROR_CHARS));
    assert!(!publisher.acknowledge("stranger", ack(&first.digest, AckResult::Applied)));
}

#[test]
fn a_stored_snapshot_is_the_newest_table_and_changes_with_the_replicas() {
    let publisher = publisher();
    assert_eq!(publisher.snapshot_version(), None);
    assert!(publisher.snapshot_parts().unwrap().is_empty());
    publisher.publish(7, &keys(&["one"]));
    let version = publisher.snapshot_version().unwrap();
    let stored = v1::join(&publisher.snapshot_parts().unwrap()).unwrap();
    assert_eq!(stored.snapshot.revision, 7);
    let objects = stored.snapshot.verified().unwrap();
    assert_eq!(*v1::digest(&objects), *version.digest);
    assert_eq!(v1::decode(&objects).unwrap(), keys(&["one"]));

    publisher.join("p1", Some("i1"));
    publisher.join("p2", Some("i2"));
    assert_ne!(publisher.snapshot_version(), Some(version));
    let stored = v1::join(&publisher.snapshot_parts().unwrap()).unwrap();
    assert_eq!(stored.snapshot.replicas, 2);
}
