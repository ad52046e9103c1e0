use std::time::Duration;

use proxy_core::balance::{Call, Change, Demand, HealthSettings, OutReason, Outcome, Turn};
use proxy_core::names::{Class, Moment};

use super::Vitals;

/// What most requests ask here.
const USUAL: Demand = Demand {
    size: 100,
    class: Class::Standard,
};

fn ended(ms: u64) -> Call {
    Call {
        began: at(ms),
        ended: at(ms),
        demand: USUAL,
    }
}

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: 0,
    }
}

fn turn(vitals: &Vitals, ms: u64) -> Turn {
    turn_of(vitals, Class::Standard, ms)
}

fn turn_of(vitals: &Vitals, class: Class, ms: u64) -> Turn {
    let demand = Demand { class, ..USUAL };
    vitals.turn(demand, at(ms), &HealthSettings::default(), None, |_| {})
}

fn call(vitals: &Vitals, ms: u64) {
    vitals.called(at(ms), &HealthSettings::default());
}

#[test]
fn three_calls_without_a_byte_for_fifteen_seconds_make_a_suspect() {
    let vitals = Vitals::default();
    for ms in [1_000, 1_001, 1_002] {
        call(&vitals, ms);
    }
    assert_eq!(turn(&vitals, 16_000), Turn::Usual);
    assert_eq!(turn(&vitals, 16_001), Turn::Last);
    let out = vitals.out(USUAL, at(16_001)).map(|(why, _)| why);
    assert_eq!(out, Some(OutReason::Silent));
    // One call after a second, and less often then.
    assert!(!vitals.admits(USUAL, at(17_000)));
    assert_eq!(turn(&vitals, 17_001), Turn::Usual);
    assert!(vitals.admits(USUAL, at(17_001)));
    assert!(!vitals.admits(USUAL, at(18_001)));
}

#[test]
fn silence_is_noticed_without_another_call() {
    let (vitals, settings) = (Vitals::default(), HealthSettings::default());
    for ms in [1_000, 1_001, 1_002] {
        call(&vitals, ms);
    }
    assert_eq!(vitals.looks(at(16_000), &settings), None);
    let change = vitals.looks(at(16_001), &settings);
    assert!(
        matches!(change, Some(Change::Out(OutReason::Silent, _))),
        "{change:?}"
    );
    assert_eq!(vitals.looks(at(16_002), &settings), None);
    assert_eq!(turn(&vitals, 16_002), Turn::Last);
}

#[test]
fn two_calls_may_wait_for_ever_and_one_byte_to_any_call_ends_a_silence() {
    let vitals = Vitals::default();
    call(&vitals, 0);
    call(&vitals, 1);
    assert_eq!(turn(&vitals, 3_600_000), Turn::Usual);
    let vitals = Vitals::default();
    for ms in 0..50 {
        call(&vitals, ms);
    }
    vitals.heard();
    assert_eq!(turn(&vitals, 60_000), Turn::Usual);
}

#[test]
fn calls_that_were_given_up_long_ago_do_not_count() {
    let vitals = Vitals::default();
    call(&vitals, 0);
    call(&vitals, 1);
    call(&vitals, 3_600_000);
    call(&vitals, 3_600_001);
    assert_eq!(turn(&vitals, 3_600_002), Turn::Usual);
}

#[test]
fn silence_of_clients_that_leave_soon_counts() {
    let vitals = Vitals::default();
    // Each of them waits for a second only.
    for second in 0..20 {
        call(&vitals, second * 1_000);
    }
    assert_eq!(turn(&vitals, 19_500), Turn::Last);
}

#[test]
fn a_slow_endpoint_is_no_suspect() {
    let vitals = Vitals::default();
    vitals.answered_after(Duration::from_secs(100));
    for ms in 0..10 {
        call(&vitals, ms);
    }
    assert_eq!(turn(&vitals, 399_000), Turn::Usual);
    assert_eq!(turn(&vitals, 401_000), Turn::Last);
}

#[test]
fn a_probe_that_is_answered_brings_it_back() {
    let vitals = Vitals::default();
    let settings = HealthSettings::default();
    let record = |outcome, ms| vitals.record(outcome, ended(ms), 0, &settings);
    assert!(record(Outcome::Throttled(Some(Duration::from_secs(2))), 0).is_some());
    assert_eq!(turn(&vitals, 100), Turn::Never);
    assert_eq!(turn(&vitals, 2_000), Turn::Usual);
    assert!(vitals.admits(USUAL, at(2_000)));
    assert_eq!(turn(&vitals, 2_000), Turn::Never);
    assert!(!vitals.admits(USUAL, at(2_000)), "one probe at a time");
    assert!(record(Outcome::Answered, 2_000).is_some());
    assert_ne!(turn(&vitals, 2_001), Turn::Never);
    // The first answer after the ramp ends the care.
    assert!(record(Outcome::Answered, 6_100).is_none());
    assert_eq!(turn(&vitals, 6_101), Turn::Usual);
    assert!(!vitals.ails.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn an_endpoint_that_fills_takes_the_part_that_it_has_room_for() {
    let vitals = Vitals::default();
    let usual = |ms| {
        let turns = (0..2_000).map(|_| turn(&vitals, ms));
        turns.filter(|turn| *turn == Turn::Usual).count()
    };
    vitals.tells_room(1_000, at(0), None);
    assert_eq!(usual(0), 2_000);
    vitals.tells_room(50, at(0), None);
    assert!((880..1_120).contains(&usual(0)), "{}", usual(0));
    assert_eq!(turn(&vitals, 10_000), Turn::Usual, "it is long ago");
    // Full again: the share comes back step by step.
    vitals.tells_room(0, at(0), None);
    vitals.tells_room(1_000, at(0), None);
    assert!((60..150).contains(&usual(0)), "{}", usual(0));
    for _ in 0..40 {
        vitals.tells_room(1_000, at(0), None);
    }
    assert_eq!(usual(0), 2_000);
}

#[test]
fn its_use_is_what_it_told_of_late_or_what_its_calls_take() {
    let used = |vitals: &Vitals, rate, ms| vitals.sign(rate, at(ms)).used;
    let vitals = Vitals::default();
    assert_eq!(used(&vitals, None, 0), None);
    for (told, expect) in [(900, 100), (150, 850), (-1, 1_000)] {
        vitals.tells_room(told, at(0), None);
        assert_eq!(used(&vitals, None, 9_999), Some(expect));
    }
    assert_eq!(used(&vitals, None, 10_000), None);
    let vitals = Vitals::default();
    let rate = Some(1_000);
    assert_eq!(used(&vitals, rate, 0), Some(0));
    vitals.takes(0, 500, 1_000, at(0));
    assert_eq!(used(&vitals, rate, 0), Some(500));
    assert_eq!(used(&vitals, rate, 15_000), Some(250));
}

/// A provisioned deployment as Azure counts it: a bucket that leaks, and 429 above it.
#[test]
fn what_a_provisioned_deployment_cannot_take_spills_and_no_more() {
    // Calls per second that it can take.
    const CAPACITY: u32 = 100;
    for offered in [50, 90, 100, 120, 150, 200] {
        let vitals = Vitals::default();
        let settings = HealthSettings::default();
        // In thousandths of a second's capacity.
        let (mut level, mut served, mut refused) = (0u32, 0u32, 0u32);
        let calls = offered * 60;
        for call in 0..calls {
            let ms = u64::from(call) * 1_000 / u64::from(offered);
            level = level.saturating_sub(1_000 / offered * CAPACITY * 10 / 1_000);
            if turn(&vitals, ms) != Turn::Usual || !vitals.admits(USUAL, at(ms)) {
                continue;
            }
            let outcome = if level >= 1_000 {
                refused += 1;
                Outcome::Throttled(Some(Duration::from_millis(100)))
            } else {
                level += 10;
                served += 1;
                let free = i32::try_from(1_000u32.saturating_sub(level)).unwrap();
                vitals.tells_room(free, at(ms), None);
                Outcome::Answered
            };
            vitals.record(outcome, ended(ms), served.into(), &settings);
        }
        let could = (CAPACITY * 60).min(calls);
        println!("{offered} a second: {served} of {could} served, {refused} refused");
        assert!(served * 100 >= could * 85, "{offered}: {served} of {could}");
        assert!(
            refused * 100 <= calls,
            "{offered}: {refused} of {calls} refused"
        );
    }
}

#[test]
fn a_lower_class_gives_way_while_a_higher_one_is_about_and_not_after_that() {
    let vitals = Vitals::default();
    vitals.tells_room(60, at(1), None);
    let usual = |class, ms| {
        let turns = (0..1_000).map(|_| turn_of(&vitals, class, ms));
        turns.filter(|turn| *turn == Turn::Usual).count()
    };
    // Alone, Batch has the place of all.
    assert!((500..700).contains(&usual(Class::Batch, 2)));
    turn_of(&vitals, Class::Standard, 3);
    assert_eq!(turn_of(&vitals, Class::Batch, 4), Turn::Yields);
    assert!((780..920).contains(&usual(Class::Interactive, 5)));
    assert_eq!(turn_of(&vitals, Class::Standard, 6), Turn::Yields);
    vitals.tells_room(60, at(10_006), None);
    assert!((500..700).contains(&usual(Class::Standard, 10_006)));
}

#[test]
fn the_probe_after_a_throttle_is_that_of_the_highest_class() {
    let vitals = Vitals::default();
    let throttled = Outcome::Throttled(Some(Duration::from_secs(1)));
    let call = Call {
        demand: Demand {
            class: Class::Interactive,
            ..USUAL
        },
        ..ended(1)
    };
    assert_eq!(turn_of(&vitals, Class::Interactive, 1), Turn::Usual);
    vitals.record(throttled, call, 0, &HealthSettings::default());
    assert_eq!(turn_of(&vitals, Class::Interactive, 500), Turn::Never);
    assert_eq!(turn_of(&vitals, Class::Batch, 1_001), Turn::Yields);
    assert_eq!(turn_of(&vitals, Class::Interactive, 1_001), Turn::Usual);
}

#[test]
fn a_declared_rate_is_reckoned_with_before_an_answer_tells_of_it() {
    const RATE: u64 = 6_000;
    let vitals = Vitals::default();
    let turn = |ms| {
        vitals.turn(
            USUAL,
            at(ms),
            &HealthSettings::default(),
            Some(RATE),
            |_| {},
        )
    };
    assert_eq!(turn(0), Turn::Usual);
    vitals.takes(0, RATE, RATE, at(0));
    let spare = (0..1_000).filter(|_| turn(0) == Turn::Spare).count();
    assert!(spare > 900, "{spare}");
    // A tenth of a minute empties a tenth of it.
    assert_eq!(turn(6_000), Turn::Usual);
    vitals.takes(RATE, 0, RATE, at(6_000));
    assert_eq!(turn(6_000), Turn::Usual);
    vitals.tells_room(-20, at(6_000), Some(RATE));
    assert!((0..100).any(|_| turn(6_000) == Turn::Spare));
}

#[test]
fn a_lower_class_leaves_room_behind_its_own_call() {
    const RATE: u64 = 20_000;
    let vitals = Vitals::default();
    let turn = |class, size, ms| {
        let demand = Demand { size, class };
        vitals.turn(
            demand,
            at(ms),
            &HealthSettings::default(),
            Some(RATE),
            |_| {},
        )
    };
    vitals.takes(0, RATE / 2, RATE, at(1));
    assert_eq!(turn(Class::Batch, RATE, 1), Turn::Usual, "it is alone");
    assert_eq!(turn(Class::Interactive, 100, 1), Turn::Usual);
    assert_eq!(turn(Class::Batch, RATE, 1), Turn::Yields);
    assert_eq!(turn(Class::Batch, RATE / 5, 1), Turn::Usual);
}
