#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may overflow: it fails"
)]

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    Cost, Counter, Entry, Escrow, LeaseReply, Limit, Mode, Period, Reservation, RoundTrip,
    TimeZone, Unit, Wait, Window, reserve,
};
use crate::names::{Moment, Usage};

mod outage;

fn limit(unit: Unit, amount: u64, window: Window) -> Limit {
    Limit {
        name: "l".into(),
        unit,
        amount,
        window,
    }
}

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: i64::try_from(ms).expect("small"),
    }
}

fn tokens(input: u64) -> Cost {
    Cost {
        usage: Usage {
            input_tokens: input,
            ..Usage::default()
        },
        cost_micros: 0,
    }
}

#[test]
fn a_wait_is_written_as_a_person_says_it() {
    for (millis, expect) in [
        (1, "1 s"),
        (120_000, "120 s"),
        (120_001, "3 min"),
        (7_200_000, "120 min"),
        (80_428_000, "23 h"),
        (172_801_000, "3 days"),
    ] {
        assert_eq!(Wait::Millis(millis).to_string(), expect);
    }
    assert_eq!(Wait::Never.to_string(), "never");
}

fn take(limit: &Limit, counter: &mut Counter, ask: u64, ms: u64) -> Result<Reservation, Wait> {
    let mut entries = [Entry::own(limit, Mode::Enforce, counter)];
    match reserve::<Vec<_>>(&mut entries, &tokens(ask), at(ms)) {
        Ok(mut taken) => Ok(taken.remove(0)),
        Err(shortfall) => Err(shortfall.exceeded().wait),
    }
}

fn settle(limit: &Limit, counter: &mut Counter, taken: Reservation, actual: u64, ms: u64) {
    let mut entry = Entry::own(limit, Mode::Enforce, counter);
    entry.settle(taken, actual, at(ms));
}

#[test]
fn a_refusal_names_the_wait_after_which_the_request_fits() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    take(&minute, &mut counter, 60, 500).expect("fits");
    take(&minute, &mut counter, 40, 30_000).expect("fits");
    let Err(Wait::Millis(wait)) = take(&minute, &mut counter, 50, 31_000) else {
        panic!("must wait")
    };
    assert_eq!(
        31_000 + wait,
        61_000,
        "when the bucket of the first has left"
    );
    assert!(take(&minute, &mut counter, 50, 31_000 + wait - 1).is_err());
    assert!(take(&minute, &mut counter, 50, 31_000 + wait).is_ok());
}

#[test]
fn more_than_the_whole_limit_never_fits() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    assert_eq!(take(&minute, &mut counter, 101, 0), Err(Wait::Never));
}

#[test]
fn a_refusal_debits_no_sibling() {
    let wide = limit(Unit::Tokens, 1_000, Window::Minute);
    let tight = limit(Unit::Requests, 1, Window::Minute);
    let (mut a, mut b) = (Counter::new(&wide, at(0)), Counter::new(&tight, at(0)));
    let both = |a: &mut Counter, b: &mut Counter| {
        let mut entries = [
            Entry::own(&wide, Mode::Enforce, a),
            Entry::own(&tight, Mode::Enforce, b),
        ];
        reserve::<Vec<_>>(&mut entries, &tokens(10), at(0))
    };
    both(&mut a, &mut b).expect("the first fits");
    assert_eq!(
        both(&mut a, &mut b)
            .expect_err("the second does not")
            .exceeded()
            .entry,
        1
    );
    assert_eq!((a.used(&wide, at(0)), b.used(&tight, at(0))), (10, 1));
}

#[test]
fn a_shadowed_limit_counts_and_reports_and_refuses_nothing() {
    let tight = limit(Unit::Requests, 1, Window::Minute);
    let mut counter = Counter::new(&tight, at(0));
    let mut over = Vec::new();
    for _ in 0..3 {
        let mut entries = [Entry::own(&tight, Mode::Shadow, &mut counter)];
        let taken: Vec<_> = reserve(&mut entries, &tokens(1), at(0)).expect("never refuses");
        over.push(taken[0].over);
    }
    assert_eq!(over, [false, true, true]);
    assert_eq!(counter.used(&tight, at(0)), 3);
}

#[test]
fn settling_returns_the_unused_part() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    let stamp = take(&minute, &mut counter, 100, 0).expect("fits");
    settle(&minute, &mut counter, stamp, 30, 2_000);
    assert_eq!(counter.used(&minute, at(2_000)), 30);
    assert!(take(&minute, &mut counter, 70, 2_000).is_ok());
}

#[test]
fn a_late_settlement_returns_nothing_to_another_window() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    let stamp = take(&minute, &mut counter, 50, 0).expect("fits");
    take(&minute, &mut counter, 100, 61_000).expect("the first has left the window");
    settle(&minute, &mut counter, stamp, 0, 61_500);
    assert_eq!(counter.used(&minute, at(61_500)), 100);
}

#[test]
fn debt_takes_the_place_of_what_expires() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    let stamp = take(&minute, &mut counter, 10, 0).expect("fits");
    settle(&minute, &mut counter, stamp, 250, 100);
    assert_eq!(counter.used(&minute, at(100)), 250);
    assert_eq!(
        counter.used(&minute, at(61_000)),
        150,
        "one limit is worked off per window"
    );
    let Err(Wait::Millis(wait)) = take(&minute, &mut counter, 60, 61_000) else {
        panic!("in debt")
    };
    assert!(take(&minute, &mut counter, 60, 61_000 + wait).is_ok());
    assert_eq!(counter.used(&minute, at(400_000)), 0);
}

#[test]
fn debt_drains_when_nothing_else_is_left_to_expire() {
    let minute = limit(Unit::Tokens, 100, Window::Minute);
    let mut counter = Counter::new(&minute, at(0));
    let large = take(&minute, &mut counter, 90, 0).expect("fits");
    let small = take(&minute, &mut counter, 10, 0).expect("fits");
    settle(&minute, &mut counter, small, 210, 1);
    settle(&minute, &mut counter, large, 0, 2);
    assert_eq!(counter.used(&minute, at(2)), 210);
    assert_eq!(counter.used(&minute, at(61_000)), 110);
    assert_eq!(counter.used(&minute, at(200_000)), 0);
    assert!(take(&minute, &mut counter, 100, 200_000).is_ok());
}

#[test]
fn concurrency_is_held_until_it_is_settled() {
    let two = limit(Unit::Concurrency, 2, Window::Held);
    let mut counter = Counter::new(&two, at(0));
    let first = take(&two, &mut counter, 0, 0).expect("fits");
    take(&two, &mut counter, 0, 0).expect("fits");
    assert!(take(&two, &mut counter, 0, 900_000).is_err());
    settle(&two, &mut counter, first, 5, 900_000);
    assert!(take(&two, &mut counter, 0, 900_000).is_ok());
}

#[test]
fn pending_returns_do_not_count_as_used() {
    let limit = limit(Unit::Tokens, 1_000, Window::Minute);
    let mut escrow = Escrow::new(&limit);
    let ask = escrow.request(80, 1, at(0));
    let answer = LeaseReply {
        granted: 100,
        at: 0,
        lasts: 1,
        used: 300,
        ends_in_ms: None,
        elsewhere: 0,
        profile: None,
    };
    let trip = RoundTrip {
        sent_ms: at(0).monotonic_ms,
        received_ms: at(1).monotonic_ms,
        settling: false,
    };
    escrow.answered(&ask, answer, trip);
    let loan = escrow.take(80, at(2));
    assert_eq!(escrow.used(80, at(2)), 280);
    // The lease is over, and only 30 of the 80 were needed.
    escrow.settle(&loan, 80, 30, at(1_500));
    escrow.tidy(1, at(1_500));
    assert_eq!(escrow.used(30, at(1_500)), 230);
}

#[test]
fn a_counter_is_untouched_once_nothing_counts() {
    let day = Window::Calendar(Period::Day, TimeZone::UTC);
    for (window, gone) in [
        (Window::Second, 1_100),
        (Window::Minute, 61_000),
        (day, 86_400_000),
    ] {
        let rule = limit(Unit::Tokens, 100, window);
        let mut counter = Counter::new(&rule, at(0));
        assert!(counter.is_untouched(at(0)));
        take(&rule, &mut counter, 1, 0).expect("fits");
        assert!(!counter.is_untouched(at(gone - 1)), "{rule:?}");
        assert!(counter.is_untouched(at(gone)), "{rule:?}");
    }
}

fn check_period(period: Period, zone: &str, at: &str, start: &str, end: &str) {
    let ms = |text: &str| {
        text.parse::<jiff::Timestamp>()
            .expect("a timestamp")
            .as_millisecond()
    };
    let zone = TimeZone::named(zone).expect("a zone");
    let span = period.around(&zone, ms(at));
    assert_eq!(
        (span.start, span.end),
        (ms(start), ms(end)),
        "{period:?} at {at}"
    );
}

#[test]
fn calendar_periods_follow_the_zone_and_its_clock_changes() {
    let check = check_period;
    check(
        Period::Month,
        "UTC",
        "2026-02-28T23:59:59Z",
        "2026-02-01T00:00:00Z",
        "2026-03-01T00:00:00Z",
    );
    check(
        Period::Week,
        "UTC",
        "2026-11-24T12:00:00Z",
        "2026-11-23T00:00:00Z",
        "2026-11-30T00:00:00Z",
    );
    let vienna = "Europe/Vienna";
    check(
        Period::Day,
        vienna,
        "2026-03-29T12:00:00Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:00Z",
    );
    check(
        Period::Day,
        vienna,
        "2026-10-25T12:00:00Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T23:00:00Z",
    );
    check(
        Period::Hour,
        "Asia/Kolkata",
        "2026-01-01T00:10:00Z",
        "2025-12-31T23:30:00Z",
        "2026-01-01T00:30:00Z",
    );
}

#[test]
fn an_unknown_zone_is_not_found() {
    assert_eq!(TimeZone::named("Mars/Olympus"), None);
}

#[test]
fn a_wall_clock_set_back_does_not_reopen_a_spent_period() {
    let hour = limit(
        Unit::Tokens,
        10,
        Window::Calendar(Period::Hour, TimeZone::UTC),
    );
    let mut counter = Counter::new(&hour, at(7_200_000));
    take(&hour, &mut counter, 10, 7_200_000).expect("fits");
    let back = Moment {
        monotonic_ms: 7_200_001,
        unix_ms: 3_600_000,
    };
    let mut entries = [Entry::own(&hour, Mode::Enforce, &mut counter)];
    assert!(reserve::<Vec<_>>(&mut entries, &tokens(1), back).is_err());
    assert!(take(&hour, &mut counter, 1, 10_800_000).is_ok());
}

#[test]
fn use_of_departed_replicas_counts_until_the_period_ends() {
    let hour = limit(
        Unit::Tokens,
        100,
        Window::Calendar(Period::Hour, TimeZone::UTC),
    );
    let mut counter = Counter::new(&hour, at(0));
    counter.carry(0, 80);
    counter.carry(0, 60);
    counter.carry(3_600_000, 90);
    assert_eq!(
        (counter.used(&hour, at(0)), counter.own_used(&hour, at(0))),
        (60, 0)
    );
    assert!(take(&hour, &mut counter, 41, 1).is_err());
    let stamp = take(&hour, &mut counter, 40, 1).expect("what is left");
    settle(&hour, &mut counter, stamp, 70, 2);
    assert_eq!(counter.used(&hour, at(2)), 130);
    assert_eq!(
        counter.used(&hour, at(3_600_000)),
        30,
        "only the debt goes on"
    );
}

#[test]
fn a_window_is_shown_with_its_zone() {
    let vienna = TimeZone::named("Europe/Vienna").expect("known");
    for (window, text) in [
        (Window::Minute, "Minute"),
        (Window::Calendar(Period::Day, TimeZone::UTC), "Day"),
        (
            Window::Calendar(Period::Month, vienna),
            "Month Europe/Vienna",
        ),
    ] {
        assert_eq!(window.to_string(), text);
    }
}

#[derive(Clone, Debug)]
struct Step {
    pause_ms: u64,
    ask: u64,
    used_percent: u64,
    settles_after: usize,
}

fn steps(max_pause: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..max_pause, 1u64..60, 0u64..=100, 0usize..6).prop_map(
        |(pause_ms, ask, used_percent, settles_after)| Step {
            pause_ms,
            ask,
            used_percent,
            settles_after,
        },
    );
    prop::collection::vec(step, 1..120)
}

/// Runs the steps, and recomputes every rolling window from the log of what was admitted.
fn oracle(window: Window, length_ms: u64, all: &[Step]) -> Result<(), TestCaseError> {
    let rule = limit(Unit::Tokens, 100, window);
    let mut counter = Counter::new(&rule, at(0));
    // What counts of an admission: the reservation until it is settled, the use after that.
    let mut log: Vec<(u64, u64)> = Vec::new();
    let mut pending: Vec<(usize, usize, Reservation, u64)> = Vec::new();
    let mut now = 0;
    for (turn, step) in all.iter().enumerate() {
        now += step.pause_ms;
        let (due, later) = pending.into_iter().partition(|(when, ..)| *when <= turn);
        pending = later;
        let due: Vec<(usize, usize, Reservation, u64)> = due;
        for (_, entry, stamp, used) in due {
            settle(&rule, &mut counter, stamp, used, now);
            log[entry].1 = used;
        }
        if let Ok(stamp) = take(&rule, &mut counter, step.ask, now) {
            log.push((now, step.ask));
            let used = step.ask * step.used_percent / 100;
            pending.push((turn + step.settles_after, log.len() - 1, stamp, used));
        }
        for (start, _) in &log {
            let sum: u64 = log
                .iter()
                .filter(|(t, _)| t >= start && t - start < length_ms)
                .map(|(_, n)| n)
                .sum();
            prop_assert!(sum <= 100, "{sum} in the window that starts at {start}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_rolling_minute_ever_holds_more_than_the_limit(all in steps(9_000)) {
        oracle(Window::Minute, 60_000, &all)?;
    }

    #[test]
    fn no_rolling_second_ever_holds_more_than_the_limit(all in steps(150)) {
        oracle(Window::Second, 1_000, &all)?;
    }

    #[test]
    fn the_wait_of_a_refusal_is_sufficient_and_not_a_bucket_too_long(
        all in steps(5_000), ask in 1u64..=100,
    ) {
        let rule = limit(Unit::Tokens, 100, Window::Minute);
        let mut counter = Counter::new(&rule, at(0));
        let mut now = 0;
        for step in &all {
            now += step.pause_ms;
            take(&rule, &mut counter, step.ask, now).ok();
        }
        if let Err(Wait::Millis(wait)) = counter.fits(&rule, ask, at(now)) {
            if wait > 1 {
                prop_assert!(counter.fits(&rule, ask, at(now + wait - 1)).is_err());
            }
            prop_assert!(counter.fits(&rule, ask, at(now + wait)).is_ok());
        }
    }

    #[test]
    fn what_is_settled_is_what_is_counted(uses in prop::collection::vec((1u64..50, 0u64..50), 1..20)) {
        let day = limit(Unit::Tokens, 10_000, Window::Calendar(Period::Day, TimeZone::UTC));
        let mut counter = Counter::new(&day, at(0));
        let mut total = 0;
        for (ask, used) in uses {
            let stamp = take(&day, &mut counter, ask, 0).expect("a wide limit");
            settle(&day, &mut counter, stamp, used, 1);
            total += used;
        }
        prop_assert_eq!(counter.used(&day, at(2)), total);
    }
}

#[test]
fn threads_neither_lose_nor_invent_tokens_and_never_exceed_the_limit() {
    let rule = Arc::new(limit(Unit::Tokens, 1_000, Window::Minute));
    let counter = Arc::new(parking_lot::Mutex::new(Counter::new(&rule, at(0))));
    let threads: Vec<_> = (0..8u64)
        .map(|seed| {
            let (rule, counter) = (Arc::clone(&rule), Arc::clone(&counter));
            std::thread::spawn(move || {
                let mut kept = 0;
                for turn in 0..500u64 {
                    let ask = 1 + (turn * 7 + seed) % 13;
                    let taken = take(&rule, &mut counter.lock(), ask, 10);
                    let Ok(stamp) = taken else { continue };
                    assert!(counter.lock().used(&rule, at(10)) <= 1_000);
                    let used = if turn % 3 == 0 { ask } else { 0 };
                    settle(&rule, &mut counter.lock(), stamp, used, 10);
                    kept += used;
                }
                kept
            })
        })
        .collect();
    let kept: u64 = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .sum();
    assert_eq!(counter.lock().used(&rule, at(10)), kept);
}
