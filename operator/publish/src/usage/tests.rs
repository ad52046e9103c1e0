use std::time::Instant;

use proxy_admin::clock;
use proxy_core::names::ObjectName;
use proxy_core::quota::{self, CounterReading, Period, TimeZone, Unit, WarnAt};
use proxy_core::table::List;
use proxy_core::test_util::quota;
use serde_json::{Value, json};

use super::*;
use crate::fleet::{GRACE, Members};

const KEY: SubjectKey = SubjectKey([7; 16]);

pub(crate) fn name(limit: &str) -> LimitName {
    LimitName {
        quota: ObjectName::new("team", "spend"),
        limit: limit.into(),
    }
}

/// A limit of 100 a day and one of 100 a minute.
fn declared() -> Limits {
    declared_with(WarnAt::default())
}

/// The same with warnings.
pub(crate) fn declared_with(warn_at: WarnAt) -> Limits {
    let limit = |name: &str, window| Limit {
        name: name.into(),
        unit: Unit::Tokens,
        amount: 100,
        window,
    };
    let day = Window::Calendar(Period::Day, TimeZone::UTC);
    let declared = vec![limit("day", day), limit("minute", Window::Minute)];
    let mut quota = quota("team/spend", declared);
    quota.warn_at = warn_at;
    let quotas = List::from(vec![Arc::new(quota)]);
    let mut limits = Limits::new();
    renew(&mut limits, &quotas.changes(&List::default()));
    limits
}

fn now() -> Moment {
    clock::now()
}

fn today() -> i64 {
    let limits = declared();
    period_start_ms(&limits[&name("day")].limit, now()).expect("it is a calendar limit")
}

fn reading(limit: &str, period_start_ms: Option<i64>, used: u64) -> CounterReading {
    CounterReading {
        limit: name(limit),
        key: KEY,
        subject: "consumer=team/ann".into(),
        period_start_ms,
        used,
        reserved: 1,
        amount: 50,
        overridden: None,
        warned: None,
    }
}

/// A report of `used` today and, as much, within a minute.
fn report(instance: &str, store: StoreState, used: u64) -> Usage {
    let counters = vec![
        reading("day", Some(today()), used),
        reading("minute", None, used),
    ];
    let denials = vec![Denials {
        limit: name("day"),
        denials: 2,
        shadow_denials: 0,
    }];
    let counted = v1::Counted {
        counters,
        limits: denials,
        ..v1::Counted::new(store)
    };
    Usage::reported(instance.to_owned(), counted, 0)
}

/// Members that each used so much, without a store.
fn members(used: &[(&str, u64)], at: Instant) -> Members {
    let mut members = Members::default();
    for (id, used) in used {
        members.join(id, Some("a"), at);
        assert!(members.reported(id, report("a", StoreState::None, *used)));
    }
    members
}

/// The carryover of the daily limit; the limit per minute has none.
fn carried(members: &Members) -> u64 {
    let (carried, left_out) = crate::carryover::carryover(members, &declared(), now());
    assert_eq!(left_out, 0);
    let mut amount = 0;
    for entry in carried.entries {
        let entry = quota::Carried::from(entry);
        assert_eq!((entry.limit, entry.period_start_ms), (name("day"), today()));
        amount += entry.amount;
    }
    amount
}

fn page(members: &Members) -> Value {
    let page = page::usage_page(members, &declared(), now());
    serde_json::to_value(page).expect("it is JSON")
}

#[test]
fn the_others_carry_what_a_departed_replica_used_today() {
    let at = clock::instant();
    let mut members = members(&[("p1", 40), ("p2", 10), ("p3", 0)], at);
    assert_eq!(carried(&members), 3, "p1 has more than a third");
    members.leave("p1", at);
    members.sweep(clock::now(), at + GRACE / 2);
    assert_eq!(
        (members.count(), carried(&members)),
        (3, 3),
        "it may only be reconnecting"
    );
    members.sweep(clock::now(), at + GRACE);
    assert_eq!((members.count(), carried(&members)), (2, 20));
    members.leave("p2", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!((members.count(), carried(&members)), (1, 50));
}

#[test]
fn a_replica_that_comes_back_takes_its_use_with_it() {
    let at = clock::instant();
    let mut members = members(&[("p1", 40), ("p2", 10)], at);
    members.leave("p1", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!(carried(&members), 40);
    members.join("p1", Some("a"), at + GRACE);
    assert_eq!(carried(&members), 0);
    members.leave("p1", at);
    members.sweep(clock::now(), at + RETURNS);
    members.sweep(clock::now(), at + RETURNS * 2);
    members.join("p1", Some("a"), at + RETURNS * 2);
    assert_eq!(
        carried(&members),
        20,
        "too late: it counts as that of a departed replica"
    );
}

#[test]
fn a_restarted_replica_starts_at_zero_and_its_former_use_counts() {
    let at = clock::instant();
    let mut members = members(&[("p1", 40), ("p2", 10)], at);
    members.join("p1", Some("b"), at);
    assert_eq!((members.count(), carried(&members)), (2, 20));
    assert!(
        !members.reported("p1", report("a", StoreState::None, 45)),
        "a ghost"
    );
    assert!(members.reported("p1", report("b", StoreState::None, 5)));
    assert_eq!(carried(&members), 20);
}

#[test]
fn an_ended_period_is_dropped() {
    let at = clock::instant();
    let mut members = members(&[("p2", 0)], at);
    members.join("p1", Some("a"), at);
    let yesterday = v1::Counted {
        counters: vec![reading("day", Some(today() - 86_400_000), 40)],
        ..v1::Counted::new(StoreState::None)
    };
    let usage = Usage::reported("a".to_owned(), yesterday, 0);
    members.reported("p1", usage);
    members.leave("p1", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!(carried(&members), 0);
    members.departed_mut().forget(&declared(), now());
    assert_eq!(members.departed().of(&name("day")).count(), 0);
}

#[test]
fn a_subject_with_an_override_is_carried_and_shown_by_its_own_amount() {
    let at = clock::instant();
    let with = |overridden, limits: &Limits| {
        let mut members = Members::default();
        for (id, used) in [("p1", 30), ("p2", 10)] {
            members.join(id, Some("a"), at);
            let mut day = reading("day", Some(today()), used);
            day.overridden = overridden;
            let counted = v1::Counted {
                counters: vec![day],
                ..v1::Counted::new(StoreState::None)
            };
            let usage = Usage::reported("a".to_owned(), counted, 0);
            assert!(members.reported(id, usage));
        }
        members.leave("p1", at);
        members.sweep(clock::now(), at + GRACE);
        // An operator that takes over knows as much.
        let checkpoint = members.checkpoint();
        let mut restored = Members::default();
        restored.restore(&checkpoint, at);
        let carried = |members: &Members| {
            let (carried, _) = crate::carryover::carryover(members, limits, now());
            let entries = carried.entries.into_iter().map(quota::Carried::from);
            entries.map(|one| one.amount).sum::<u64>()
        };
        assert_eq!(carried(&members), carried(&restored));
        let page = page::usage_page(&members, limits, now());
        let subject = page.limits[0].subjects[0].clone();
        (carried(&members), subject.amount, subject.remaining)
    };
    let mut limits = declared();
    // Without overrides in the table an old report's does not count.
    assert_eq!(with(Some(50), &limits), (30, None, 60));
    limits
        .get_mut(&name("day"))
        .expect("declared")
        .has_overrides = true;
    assert_eq!(with(None, &limits), (30, None, 60));
    assert_eq!(with(Some(50), &limits), (30, Some(50), 10));
    assert_eq!(with(Some(20), &limits), (10, Some(20), 0));
}

#[test]
fn with_a_shared_store_nothing_is_carried_and_the_largest_use_is_shown() {
    let at = clock::instant();
    let mut members = Members::default();
    for (id, used) in [("p1", 70), ("p2", 72), ("p3", 69)] {
        members.join(id, Some("a"), at);
        members.applied(id, 1, Vec::new());
        members.reported(id, report("a", StoreState::Ok, used));
    }
    members.leave("p3", at);
    members.sweep(clock::now(), at + GRACE);
    assert_eq!(carried(&members), 0);
    let page = page(&members);
    assert_eq!(page["limits"][0]["subjects"][0]["used"], 72);
    assert_eq!(page["limits"][0]["subjects"][0]["reserved"], 2);
    assert!(
        members
            .snapshot()
            .replicas
            .iter()
            .all(|one| !one.store_lost)
    );
    members.reported("p2", report("a", StoreState::Lost, 72));
    let lost = members.snapshot().replicas;
    assert_eq!(
        lost.iter().map(|one| one.store_lost).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn the_page_shows_the_sum_of_all_replicas_and_of_departed_ones() {
    let at = clock::instant();
    let mut members = members(&[("p1", 40), ("p2", 10), ("p3", 5)], at);
    members.join("old", None, at);
    members.leave("p1", at);
    members.sweep(clock::now(), at + GRACE);
    let mut page = page(&members);
    assert_eq!(
        (&page["replicas"], &page["reporting"]),
        (&json!(3), &json!(2))
    );
    let day = page["limits"][0].take();
    let subject = &day["subjects"][0];
    assert_eq!(subject["subject"], "consumer=team/ann");
    assert_eq!(
        (&subject["used"], &subject["reserved"]),
        (&json!(55), &json!(2))
    );
    assert_eq!(
        (&subject["remaining"], &day["denials"]),
        (&json!(45), &json!(4))
    );
    assert_eq!(
        (&day["limit"], &day["window"]),
        (&json!("team/spend/day"), &json!("Day"))
    );
    let minute = &page["limits"][1]["subjects"][0];
    assert_eq!(
        (&minute["used"], &minute["reset_seconds"]),
        (&json!(15), &json!(60))
    );
}

#[test]
fn a_checkpoint_hands_the_use_to_the_next_operator() {
    let at = clock::instant();
    let mut before = members(&[("p1", 30), ("p2", 10), ("p3", 20), ("p4", 4)], at);
    before.leave("p4", at);
    before.sweep(clock::now(), at + RETURNS);
    before.sweep(clock::now(), at + RETURNS * 2);
    before.leave("p3", at + RETURNS * 2);
    before.sweep(clock::now(), at + RETURNS * 2 + GRACE);
    assert_eq!((before.count(), carried(&before)), (2, 12));

    let (text, left_out) = before.checkpoint().to_json(100_000).expect("it is JSON");
    assert_eq!(left_out, 0);
    let mut next = Members::default();
    next.restore(
        &Checkpoint::from_json(&text).expect("it was written so"),
        at,
    );
    assert_eq!((next.count(), carried(&next)), (2, 12));
    assert!(
        next.snapshot().replicas.is_empty(),
        "no replica has subscribed yet"
    );
    next.join("p1", Some("a"), at);
    next.join("p3", Some("a"), at);
    assert_eq!(
        (next.count(), carried(&next)),
        (3, 1),
        "p3 is back; 36 are left, and 39 would fit"
    );
    next.sweep(clock::now(), at + Duration::from_secs(14));
    assert_eq!(next.count(), 3);
    next.sweep(clock::now(), at + Duration::from_secs(15));
    assert_eq!((next.count(), carried(&next)), (2, 7), "p2 did not come");
}

#[test]
fn limits_follow_the_quotas_that_come_change_and_go() {
    let of = |name: &str, amount| {
        let limit = |name: &str| Limit {
            name: name.into(),
            unit: Unit::Tokens,
            amount,
            window: Window::Minute,
        };
        Arc::new(quota(name, vec![limit("one"), limit("two")]))
    };
    let kept = of("team/kept", 1);
    let first = List::from(vec![Arc::clone(&kept), of("team/spend", 1)]);
    let mut spend = Quota::clone(&of("team/spend", 2));
    spend.limits.truncate(1);
    let second = List::from(vec![Arc::clone(&kept), Arc::new(spend)]);
    let third = List::from(vec![kept]);
    let mut limits = Limits::new();
    let mut amounts = |now: &List<Quota>, before: &List<Quota>| -> Vec<(String, u64)> {
        renew(&mut limits, &now.changes(before));
        let all = limits.iter();
        let all = all.map(|(name, declared)| (name.to_string(), declared.limit.amount));
        all.collect::<BTreeMap<_, _>>().into_iter().collect()
    };
    let found = amounts(&first, &List::default());
    assert_eq!(found.len(), 4);
    let found = amounts(&second, &first);
    assert_eq!(found.len(), 3);
    assert_eq!(found[2].1, 2, "{found:?}");
    assert_eq!(amounts(&third, &second).len(), 2);
}
