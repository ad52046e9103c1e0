use proptest::prelude::*;
use proxy_admin::clock;
use proxy_core::quota::WarnAt;

use super::*;
use crate::usage::tests::{declared_with, name};

/// A limit of 100 a day and one of 100 a minute.
fn limits() -> Limits {
    declared_with(WarnAt::new([50, 80]))
}

fn now() -> Moment {
    clock::now()
}

fn today(limits: &Limits) -> i64 {
    oldest_period_ms(&limits[&name("day")].limit, now()).expect("it is a calendar limit")
}

/// What a replica reports of a subject that reached a level `ago_ms` milliseconds ago.
fn reading(limit: &str, subject: u8, level: u8, ago_ms: i64) -> CounterReading {
    let limits = limits();
    CounterReading {
        limit: name(limit),
        key: SubjectKey([subject; 16]),
        subject: format!("consumer=team/c{subject}").into(),
        period_start_ms: (limit == "day").then(|| today(&limits)),
        used: 1,
        reserved: 0,
        amount: 100,
        overridden: None,
        warned: Some(Reached {
            level,
            used: u64::from(level),
            at_ms: now().unix_ms - ago_ms,
        }),
    }
}

fn observe(warnings: &mut Warnings, reading: CounterReading) -> bool {
    warnings.observe(&[reading], None, &limits(), now())
}

#[test]
fn a_level_is_handed_over_once_however_many_replicas_report_it() {
    for limit in ["day", "minute"] {
        let mut warnings = Warnings::default();
        assert!(observe(&mut warnings, reading(limit, 1, 50, 900)));
        assert!(!observe(&mut warnings, reading(limit, 1, 50, 300)));
        assert!(!observe(&mut warnings, reading(limit, 1, 50, 900)));
        let taken = warnings.take(&limits(), now());
        assert_eq!(taken.len(), 1, "{limit}");
        let [one] = &*taken[0].listed else {
            panic!("one subject: {taken:?}");
        };
        assert_eq!(
            (&*one.subject, one.level, one.used, one.amount),
            ("consumer=team/c1", 50, 50, 100)
        );
        assert!(!observe(&mut warnings, reading(limit, 1, 50, 100)));
        assert!(observe(&mut warnings, reading(limit, 1, 80, 50)));
        assert!(!observe(&mut warnings, reading(limit, 1, 50, 40)));
        assert!(observe(&mut warnings, reading(limit, 2, 50, 30)));
        assert_eq!(warnings.take(&limits(), now())[0].listed.len(), 2);
        assert!(warnings.take(&limits(), now()).is_empty());
    }
}

#[test]
fn an_operator_that_starts_repeats_nothing_of_before() {
    let mut warnings = Warnings::default();
    assert!(!observe(&mut warnings, reading("day", 1, 80, FRESH_MS + 1)));
    // Another replica hears of the same counter later.
    assert!(!observe(&mut warnings, reading("day", 1, 80, 10)));
    assert!(!observe(
        &mut warnings,
        reading("minute", 1, 80, FRESH_MS + 1)
    ));
    assert!(warnings.take(&limits(), now()).is_empty());
}

#[test]
fn a_new_period_warns_again_and_a_report_of_the_old_one_changes_nothing() {
    let mut warnings = Warnings::default();
    let yesterday = |ago_ms| {
        let mut reading = reading("day", 1, 80, ago_ms);
        reading.period_start_ms = reading.period_start_ms.map(|start| start - 86_400_000);
        reading
    };
    assert!(observe(&mut warnings, yesterday(5_000)));
    assert!(observe(&mut warnings, reading("day", 1, 80, 1_000)));
    assert!(!observe(&mut warnings, yesterday(5_000)));
    assert!(!observe(&mut warnings, reading("day", 1, 80, 1_000)));
    let taken = warnings.take(&limits(), now());
    let windows: Vec<i64> = taken[0].listed.iter().map(|one| one.window_ms).collect();
    assert_eq!(windows, [today(&limits()) - 86_400_000, today(&limits())]);
}

#[test]
fn a_few_subjects_are_named_and_the_others_counted() {
    let mut warnings = Warnings::default();
    let many: Vec<_> = (0..100).map(|n| reading("day", n, 80, 10)).collect();
    assert!(warnings.observe(&many, Some(3), &limits(), now()));
    let taken = warnings.take(&limits(), now());
    assert_eq!(
        (taken.len(), taken[0].listed.len(), taken[0].more),
        (1, 16, 84)
    );
    assert!(taken[0].listed.iter().all(|one| one.apart == Some(3)));
}

#[test]
fn a_limit_that_is_gone_and_a_level_that_was_not_taken_in_time_are_dropped() {
    let mut warnings = Warnings::default();
    assert!(!observe(&mut warnings, reading("gone", 1, 80, 10)));
    assert!(observe(&mut warnings, reading("day", 1, 80, 10)));
    let later = Moment {
        unix_ms: now().unix_ms + FRESH_MS,
        ..now()
    };
    assert!(warnings.take(&limits(), later).is_empty());
}

#[test]
fn what_is_over_is_forgotten_now_and_then() {
    let limits = limits();
    let noon = today(&limits) + 43_200_000;
    let after = |ms: u64| Moment {
        monotonic_ms: 1_000_000 + ms,
        unix_ms: noon + i64::try_from(ms).expect("it is short"),
    };
    let mut warnings = Warnings::default();
    for limit in ["day", "minute"] {
        let mut reading = reading(limit, 1, 80, 0);
        reading.warned = reading.warned.map(|reached| Reached {
            at_ms: noon,
            ..reached
        });
        assert!(warnings.observe(&[reading], None, &limits, after(0)));
    }
    let mut known = |ms| {
        warnings.take(&limits, after(ms));
        warnings.known.len()
    };
    assert_eq!(known(0), 2);
    assert_eq!(known(FORGET_MS - 1_000), 2);
    assert_eq!(known(70_000), 1);
    assert_eq!(known(86_400_000), 0);
}

#[test]
fn a_figure_is_that_of_one_replica_only_without_a_store() {
    assert_eq!(apart(StoreState::None, 3), Some(3));
    assert_eq!(apart(StoreState::Ok, 3), None);
    let mut warnings = Warnings::default();
    assert!(warnings.observe(&[reading("day", 1, 80, 10)], Some(1), &limits(), now()));
    assert_eq!(warnings.take(&limits(), now())[0].listed[0].apart, None);
}

proptest! {
    /// In whichever order replicas report: no counter is named twice for a level of a window.
    #[test]
    fn no_level_of_a_counter_comes_twice(
        reports in prop::collection::vec((0u8..4, prop::sample::select(vec![50u8, 80]), 0i64..50_000), 1..60),
        take_at in 0usize..60,
    ) {
        let mut warnings = Warnings::default();
        let mut taken = Vec::new();
        for (turn, (subject, level, ago_ms)) in reports.into_iter().enumerate() {
            observe(&mut warnings, reading("day", subject, level, ago_ms));
            if turn == take_at {
                taken.extend(warnings.take(&limits(), now()));
            }
        }
        taken.extend(warnings.take(&limits(), now()));
        let mut named: Vec<_> = taken.iter().flat_map(|one| &one.listed).map(|one| (one.key, one.level)).collect();
        let all = named.len();
        named.sort();
        named.dedup();
        prop_assert_eq!(named.len(), all);
    }
}
