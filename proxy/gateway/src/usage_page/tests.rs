use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_core::auth::KeyDigest;
use proxy_core::names::{ConsumerMatch, ConsumerName};
use proxy_core::quota::{Mode, Per, Unit};
use proxy_core::table::{Override, Table};

use proxy_core::test_util::{input_cost, limit};
use proxy_ledger::Settled;

use super::{LimitUsage, SUBJECTS, SubjectUsage, limits};
use crate::gateway::Gateway;
use crate::test_support::{NOW, contents, gateway, is_refused, published, take};

fn all(gateway: &Gateway) -> Vec<LimitUsage> {
    let shared = gateway.shared();
    let live = shared.live().expect("a table");
    let sums = limits(&live, &shared.ledger, NOW).into_iter();
    sums.map(|sum| sum.limit).collect()
}

fn first(gateway: &Gateway) -> LimitUsage {
    all(gateway).remove(0)
}

#[test]
fn shows_reservations_and_then_use() {
    let tokens = vec![limit("l", Unit::Tokens, 100)];
    let gateway = published(contents(Mode::Enforce, vec![Per::Model], tokens), 2);
    let shown = || first(&gateway);
    assert_eq!((shown().counters, shown().subjects.len()), (0, 0));
    let charge = take(&gateway, "k", 30);
    let running = take(&gateway, "k", 5);
    let subject = |used, reserved| SubjectUsage {
        subject: "model=m".to_owned(),
        used,
        reserved,
        amount: None,
        remaining: 50 - used,
        reset_seconds: Some(61),
    };
    let first = shown();
    assert_eq!(first.subjects, [subject(35, 35)]);
    assert_eq!((first.declared, first.amount), (100, 50));
    assert_eq!(
        (&*first.unit, &*first.window, &*first.mode),
        ("Tokens", "Minute", "Enforce")
    );
    charge.settle(input_cost(12), Settled::Measured, NOW);
    assert_eq!(shown().subjects, [subject(17, 5)]);
    assert!(is_refused(&gateway, "k", 40));
    assert_eq!(shown().denials, 1);
    drop(running);
    assert_eq!(shown().subjects, [subject(17, 0)]);
}

#[test]
fn a_subject_names_every_part_and_no_caller_can_imitate_another() {
    let per = vec![Per::Consumer, Per::Route, Per::Attribute];
    let running = vec![limit("l", Unit::Concurrency, 5)];
    let gateway = published(contents(Mode::Enforce, per, running), 1);
    let held = take(&gateway, "k", 1);
    let shown = first(&gateway);
    let one = &shown.subjects[0];
    assert!(one.subject.starts_with("consumer=key-"), "{}", one.subject);
    assert!(one.subject.ends_with(" route=ns/r ="), "{}", one.subject);
    assert_eq!((one.used, one.reset_seconds), (1, None));
    drop(held);
    assert_eq!(first(&gateway).counters, 0);
}

#[test]
fn lists_the_most_used_subjects_and_counts_the_rest() {
    let tokens = vec![limit("l", Unit::Tokens, 10_000)];
    let gateway = published(contents(Mode::Enforce, vec![Per::Consumer], tokens), 1);
    for index in 1..=1_005 {
        drop(take(&gateway, &format!("k{index}"), index));
    }
    let shown = first(&gateway);
    assert_eq!(
        (shown.counters, shown.subjects.len(), shown.unlisted()),
        (1_005, SUBJECTS, 5)
    );
    assert_eq!(shown.subjects[0].used, 1_005);
    assert_eq!(shown.subjects.last().expect("some").used, 6);
}

#[test]
fn an_override_has_its_own_amount_also_after_the_next_table() {
    let declared = |override_of_k: u64| {
        let tokens = vec![limit("l", Unit::Tokens, 100)];
        let mut contents = contents(Mode::Enforce, vec![Per::Consumer], tokens);
        let fingerprint = KeyDigest::of("k").fingerprint();
        Arc::make_mut(&mut contents.quotas[0]).overrides = vec![Override {
            consumers: ConsumerMatch {
                names: vec![ConsumerName::new("", fingerprint)],
                ..ConsumerMatch::default()
            },
            amounts: vec![("l".into(), override_of_k)],
        }];
        contents
    };
    let gateway = published(declared(1_000), 2);
    drop(take(&gateway, "k", 400));
    drop(take(&gateway, "other", 45));
    let amounts = |limit: LimitUsage| -> Vec<(u64, Option<u64>, u64)> {
        let subjects = limit.subjects.iter();
        let each = subjects.map(|one| (one.used, one.amount, one.remaining));
        each.collect()
    };
    // The larger share first: 45 of 50, and 400 of 500.
    let expect = [(45, None, 5), (400, Some(500), 100)];
    assert_eq!(amounts(first(&gateway)), expect);
    let reported = |gateway: &Gateway| -> Vec<(u64, Option<u64>)> {
        let mut counters = gateway.counters();
        counters.sort_by_key(|one| one.used);
        let each = counters.iter().map(|one| (one.amount, one.overridden));
        each.collect()
    };
    assert_eq!(reported(&gateway), [(50, None), (500, Some(1_000))]);
    // Every table makes new handles, and the same quota counts alike.
    gateway.share_among(4);
    assert_eq!(reported(&gateway), [(25, None), (250, Some(1_000))]);
    assert!(is_refused(&gateway, "k", 1));
    gateway.share_among(2);
    gateway.publish(Arc::new(Table::new(declared(900))));
    assert!(is_refused(&gateway, "k", 51));
    drop(take(&gateway, "k", 50));
    let expect = [(450, Some(450), 0), (45, None, 5)];
    assert_eq!(amounts(first(&gateway)), expect);
}

#[test]
fn a_removed_limit_is_not_shown() {
    let tokens = |name| {
        let limits = vec![limit(name, Unit::Tokens, 10)];
        contents(Mode::Enforce, Vec::new(), limits)
    };
    let gateway = published(tokens("before"), 1);
    drop(take(&gateway, "k", 1));
    gateway.publish(Arc::new(Table::new(tokens("after"))));
    let shown = all(&gateway);
    assert_eq!(
        (shown.len(), &*shown[0].limit.limit, shown[0].counters),
        (1, "after", 0)
    );
}

#[test]
fn the_page_has_every_limit_and_the_scrape_a_sample_of_each() {
    let mut registry = Registry::with_prefix("tundish");
    let gateway: Gateway = gateway(&mut registry);
    gateway.register_limits(&mut registry);
    assert_eq!(gateway.usage_page().limits, []);
    let declared = contents(
        Mode::Shadow,
        Vec::new(),
        vec![limit("l", Unit::Tokens, 90), limit("m", Unit::Requests, 7)],
    );
    gateway.publish(Arc::new(Table::new(declared)));
    gateway.share_among(3);
    let page = gateway.usage_page();
    assert_eq!((page.replicas, page.limits.len()), (3, 2));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    for line in [
        "tundish_limit_amount{limit=\"ns/q/l\",unit=\"Tokens\"} 30",
        "tundish_limit_highest_used{limit=\"ns/q/m\",unit=\"Requests\"} 0",
        "tundish_limit_subjects{limit=\"ns/q/m\",unit=\"Requests\"} 0",
        "tundish_limit_least_remaining{limit=\"ns/q/m\",unit=\"Requests\"} 2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
