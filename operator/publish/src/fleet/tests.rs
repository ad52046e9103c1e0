use proxy_admin::clock;

use super::*;
use crate::roster::Pod;

/// The pods `p1` and `p2`, named `proxy-1` and `proxy-2`.
fn roster(ready: &[(&str, bool)]) -> Roster {
    let pod = |(id, ready): &(&str, bool)| {
        let name = id.replace('p', "proxy-");
        let pod = Pod {
            name,
            ready: *ready,
        };
        ((*id).to_owned(), pod)
    };
    Roster(ready.iter().map(pod).collect())
}

/// Two proxies that have subscribed at `at`, each in its pod.
fn two(at: Instant) -> Members {
    let mut members = Members::default();
    for id in ["p1", "p2"] {
        members.join(id, Some("a"), at);
        members.applied(id, 1, Vec::new());
    }
    members.enlist(roster(&[("p1", true), ("p2", true)]), at);
    members
}

/// Names of the silent ones.
fn silent(members: &Members) -> Vec<String> {
    let replicas = members.snapshot().replicas;
    let silent = replicas.iter().filter(|one| one.silent_since_ms.is_some());
    silent.map(|one| one.name().to_owned()).collect()
}

#[test]
fn a_proxy_without_a_goodbye_is_silent_until_its_pod_is_gone() {
    let at = clock::instant();
    let mut members = two(at);
    members.leave("p2", at);
    members.sweep(clock::now(), at + GRACE / 2);
    assert!(silent(&members).is_empty());
    for later in [GRACE, GRACE * 1_000] {
        members.sweep(clock::now(), at + later);
        assert_eq!(
            (members.count(), silent(&members)),
            (2, vec!["proxy-2".to_owned()])
        );
    }
    members.enlist(roster(&[("p1", true)]), at);
    members.sweep(clock::now(), at + GRACE * 1_000);
    assert_eq!((members.count(), silent(&members)), (1, Vec::new()));
}

#[test]
fn the_silence_begins_when_the_subscription_ended() {
    let at = clock::instant();
    let mut members = two(at);
    members.leave("p2", at);
    let now = clock::now();
    members.sweep(now, at + Duration::from_secs(70));
    let since = members.snapshot().replicas[1].silent_since_ms;
    assert_eq!(since, Some(now.unix_ms - 70_000));
    // It does not move.
    members.sweep(clock::now(), at + Duration::from_secs(90));
    assert_eq!(members.snapshot().replicas[1].silent_since_ms, since);
}

#[test]
fn a_silent_proxy_that_subscribes_is_silent_no_longer() {
    let at = clock::instant();
    let mut members = two(at);
    members.leave("p2", at);
    members.sweep(clock::now(), at + GRACE);
    members.join("p2", Some("a"), at + GRACE);
    assert_eq!((members.count(), silent(&members)), (2, Vec::new()));
}

#[test]
fn a_silent_proxy_keeps_its_use_and_says_nothing_of_deployments() {
    let at = clock::instant();
    let mut members = two(at);
    members.leave("p2", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!(members.usages().count(), 2);
    assert_eq!(members.departed().count(), 0);
    let replicas = members.snapshot().replicas;
    assert!(replicas[1].outages.is_empty() && !replicas[1].store_lost);
}

#[test]
fn a_ready_pod_counts_before_it_subscribes_and_is_silent_if_it_never_does() {
    let at = clock::instant();
    let mut members = Members::default();
    members.join("p1", Some("a"), at);
    members.applied("p1", 1, Vec::new());
    members.enlist(roster(&[("p1", true), ("p2", true), ("p3", false)]), at);
    assert_eq!((members.count(), silent(&members)), (2, Vec::new()));
    let acked = members.snapshot().replicas;
    assert_eq!((acked.len(), acked[1].acked), (2, None));
    members.sweep(clock::now(), at + EXPECTED);
    assert_eq!(
        (members.count(), silent(&members)),
        (2, vec!["proxy-2".to_owned()])
    );
}

#[test]
fn a_replica_of_the_checkpoint_is_silent_if_only_its_pod_is_seen() {
    let at = clock::instant();
    let checkpoint = two(at).checkpoint();
    let mut members = Members::default();
    members.restore(&checkpoint, at);
    members.enlist(roster(&[("p1", false)]), at);
    members.sweep(clock::now(), at + EXPECTED);
    assert_eq!(
        (members.count(), silent(&members)),
        (1, vec!["proxy-1".to_owned()])
    );
}

#[test]
fn without_pods_a_replica_that_is_away_is_gone() {
    let at = clock::instant();
    let mut members = Members::default();
    members.join("p1", Some("a"), at);
    members.leave("p1", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!(members.count(), 0);
}

#[test]
fn a_proxy_that_starts_counts_once_it_has_a_table_or_takes_too_long() {
    let at = clock::instant();
    let mut members = two(at);
    let counted = |members: &Members| members.snapshot().replicas.len();
    members.join("p3", Some("a"), at);
    // It has its part of the limits.
    assert_eq!((members.count(), counted(&members)), (3, 2));
    members.sweep(clock::now(), at + EXPECTED / 2);
    assert_eq!(counted(&members), 2);
    let mut slow = two(at);
    slow.join("p3", Some("a"), at);
    slow.sweep(clock::now(), at + EXPECTED);
    assert_eq!(counted(&slow), 3);
    members.applied("p3", 1, Vec::new());
    assert_eq!(counted(&members), 3);
}
