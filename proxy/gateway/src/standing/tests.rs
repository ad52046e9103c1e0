use std::sync::Arc;

use prometheus_client::registry::Registry;
use proxy_core::quota::{Mode, Per, Unit};
use proxy_core::table::Table;

use super::{SUBJECTS, Standing, SubjectStanding, limits};
use crate::ledger::Settled;
use crate::ledger::tests::{Bench, clock, contents, cost, limit};
use crate::server::Gateway;
use crate::test_support::gateway;

#[test]
fn tells_what_is_reserved_and_then_what_was_used() {
    let bench = Bench::new();
    let tokens = vec![limit("l", Unit::Tokens, 100)];
    let live = bench.live(contents(Mode::Enforce, vec![Per::Model], tokens), 2);
    let told = || limits(&live, &bench.ledger, clock()).remove(0).limit;
    assert_eq!((told().counters, told().subjects.len()), (0, 0));
    let mut charge = bench.take(&live, "k", 30).expect("fits");
    let running = bench.take(&live, "k", 5).expect("fits");
    let subject = |used, reserved| SubjectStanding {
        subject: "model=m".to_owned(),
        used,
        reserved,
        remaining: 50 - used,
        reset_seconds: Some(61),
    };
    let first = told();
    assert_eq!(first.subjects, [subject(35, 35)]);
    assert_eq!((first.declared, first.amount), (100, 50));
    assert_eq!(
        (&*first.limit, &*first.unit, &*first.window, &*first.mode),
        ("ns/q/l", "Tokens", "Minute", "Enforce")
    );
    charge.settle(cost(12), Settled::Measured);
    assert_eq!(told().subjects, [subject(17, 5)]);
    drop(charge);
    assert_eq!(told().subjects, [subject(17, 5)], "settled once");
    assert!(bench.take(&live, "k", 40).is_err());
    assert_eq!(told().denials, 1);
    drop(running);
    assert_eq!(told().subjects, [subject(17, 0)]);
}

#[test]
fn names_every_part_and_lets_no_caller_play_another() {
    let bench = Bench::new();
    let per = vec![Per::Consumer, Per::Route, Per::Attribute];
    let running = vec![limit("l", Unit::Concurrency, 5)];
    let live = bench.live(contents(Mode::Enforce, per, running), 1);
    let held = bench.take(&live, "k", 1).expect("fits");
    let told = limits(&live, &bench.ledger, clock()).remove(0).limit;
    let one = &told.subjects[0];
    assert!(one.subject.starts_with("consumer=key-"), "{}", one.subject);
    assert!(one.subject.ends_with(" route=ns/r ="), "{}", one.subject);
    assert_eq!((one.used, one.reset_seconds), (1, None));
    drop(held);
    assert_eq!(limits(&live, &bench.ledger, clock())[0].limit.counters, 0);
}

#[test]
fn tells_the_most_used_and_how_many_it_left_out() {
    let bench = Bench::new();
    let tokens = vec![limit("l", Unit::Tokens, 10_000)];
    let live = bench.live(contents(Mode::Enforce, vec![Per::Consumer], tokens), 1);
    for index in 1..=1_005 {
        drop(bench.take(&live, &format!("k{index}"), index));
    }
    let told = limits(&live, &bench.ledger, clock()).remove(0).limit;
    assert_eq!(
        (told.counters, told.subjects.len(), told.cut()),
        (1_005, SUBJECTS, 5)
    );
    assert_eq!(told.subjects[0].used, 1_005);
    assert_eq!(told.subjects.last().expect("some").used, 6);
}

#[test]
fn a_limit_that_is_gone_is_not_told() {
    let bench = Bench::new();
    let tokens = |name| {
        let limits = vec![limit(name, Unit::Tokens, 10)];
        bench.live(contents(Mode::Enforce, Vec::new(), limits), 1)
    };
    drop(bench.take(&tokens("before"), "k", 1));
    let told = limits(&tokens("after"), &bench.ledger, clock());
    assert_eq!(
        (told.len(), &*told[0].limit.limit, told[0].limit.counters),
        (1, "ns/q/after", 0)
    );
}

#[test]
fn the_page_reads_back_and_the_scrape_has_a_sample_for_each_limit() {
    let mut registry = Registry::with_prefix("tundish");
    let gateway: Gateway = gateway(&mut registry);
    gateway.register_limits(&mut registry);
    assert_eq!(gateway.standing().limits, []);
    let declared = contents(
        Mode::Shadow,
        Vec::new(),
        vec![limit("l", Unit::Tokens, 90), limit("m", Unit::Requests, 7)],
    );
    gateway.publish(Arc::new(Table::new(declared)));
    gateway.share_among(3);
    let read: Standing =
        serde_json::from_str(&gateway.standing_page().expect("writes")).expect("reads");
    assert_eq!(read, gateway.standing());
    assert_eq!((read.replicas, read.limits.len()), (3, 2));
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
