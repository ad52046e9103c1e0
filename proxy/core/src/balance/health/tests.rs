use std::time::Duration;

use proptest::prelude::*;

use super::{Call, Change, Health, HealthSettings, OutReason, Outcome, Standing};
use crate::balance::Demand;
use crate::names::{Class, Moment};

const SETTINGS: HealthSettings = HealthSettings {
    consecutive_failures: 5,
    max_ejection: Duration::from_secs(60),
    suspect_after: Duration::from_secs(15),
};

/// The tokens of most requests here.
const SIZE: u64 = 2_000;

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: 0,
    }
}

/// What a usual request of this many tokens asks.
const fn of(size: u64) -> Demand {
    Demand {
        size,
        class: Class::Standard,
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An endpoint and the clock beside it.
#[derive(Default)]
struct Endpoint {
    health: Health,
    now: u64,
    answered: u64,
}

impl Endpoint {
    /// A call that begins and ends now.
    fn call(&mut self, outcome: Outcome) -> Option<Change> {
        self.call_since(self.now, outcome)
    }

    fn call_since(&mut self, began: u64, outcome: Outcome) -> Option<Change> {
        self.call_of(SIZE, began, outcome)
    }

    fn call_of(&mut self, size: u64, began: u64, outcome: Outcome) -> Option<Change> {
        self.answered += u64::from(outcome == Outcome::Answered);
        let call = Call {
            began: at(began),
            ended: at(self.now),
            demand: of(size),
        };
        self.health.record(outcome, call, self.answered, &SETTINGS)
    }

    fn standing(&self) -> Standing {
        self.health.standing(of(SIZE), at(self.now))
    }

    fn probes(&mut self) -> bool {
        self.health.take_probe(of(SIZE), at(self.now))
    }

    fn fail(&mut self, times: usize) -> Option<Change> {
        (0..times).filter_map(|_| self.call(Outcome::Failed)).last()
    }
}

#[test]
fn five_failures_in_a_row_are_one_too_many_and_an_answer_ends_the_row() {
    let mut one = Endpoint::default();
    assert_eq!(one.fail(4), None);
    one.call(Outcome::Answered);
    assert_eq!(one.fail(4), None);
    assert_eq!(one.standing(), Standing::In);
    assert_eq!(
        one.fail(1),
        Some(Change::Out(OutReason::Failing, seconds(1)))
    );
    assert_eq!(
        one.standing(),
        Standing::Out(OutReason::Failing, seconds(1))
    );
}

#[test]
fn half_of_a_window_is_too_much_and_a_tenth_is_not() {
    let mut half = Endpoint::default();
    let mut tenth = Endpoint::default();
    let mut out = None;
    for call in 0..200 {
        half.now = call * 50;
        tenth.now = half.now;
        let failed = |every: u64| match call % every {
            0 => Outcome::Failed,
            _ => Outcome::Answered,
        };
        assert_eq!(tenth.call(failed(10)), None);
        out = out.or_else(|| half.call(failed(2)));
    }
    assert!(matches!(out, Some(Change::Out(OutReason::Failing, _))));
}

#[test]
fn hours_of_answers_do_not_hide_a_share_of_failures() {
    let mut one = Endpoint {
        answered: 1_000_000,
        ..Endpoint::default()
    };
    one.now = 3_600_000;
    let mut out = None;
    for call in 0..60 {
        one.now += 100;
        out = out.or_else(|| match call % 2 {
            0 => one.call(Outcome::Failed),
            _ => one.call(Outcome::Answered),
        });
    }
    assert!(out.is_some());
}

#[test]
fn one_call_is_the_probe_and_its_answer_brings_a_growing_share() {
    let mut one = Endpoint::default();
    one.fail(5);
    assert!(!one.probes());
    one.now = 1_000;
    assert_eq!(one.standing(), Standing::Due(OutReason::Failing));
    assert!(one.probes());
    assert!(!one.probes(), "one call at a time");
    one.now = 1_200;
    let back = one.call_since(1_000, Outcome::Answered);
    let lasted = Duration::from_millis(1_200);
    assert_eq!(back, Some(Change::Back(OutReason::Failing, lasted)));
    let mut before = 0.0;
    for _ in 0..4 {
        let Standing::Ramp(share) = one.standing() else {
            panic!("{:?}", one.standing());
        };
        assert!(share > before && share < 1.0);
        before = share;
        one.now += 1_000;
    }
    assert_eq!(one.standing(), Standing::In);
    assert!(one.health.is_well(at(one.now)));
}

#[test]
fn an_endpoint_that_recovers_is_whole_again_within_ten_seconds() {
    let mut one = Endpoint::default();
    one.fail(5);
    // An hour of probes that fail.
    while one.now < 3_600_000 {
        one.now += 100;
        if one.probes() {
            one.call(Outcome::Failed);
        }
    }
    let recovered = one.now;
    while one.standing() != Standing::In {
        one.now += 100;
        if one.probes() {
            one.call(Outcome::Answered);
        }
    }
    assert!(one.now - recovered <= 10_000, "{}", one.now - recovered);
}

#[test]
fn a_probe_without_an_answer_is_followed_by_another() {
    let mut one = Endpoint::default();
    one.fail(5);
    one.now = 1_000;
    assert!(one.probes());
    one.now = 10_999;
    assert!(!one.probes());
    one.now = 11_000;
    assert!(one.probes());
}

#[test]
fn a_named_wait_counts_at_once_and_is_cut_to_the_longest() {
    for (named, expected) in [
        (
            Some(Duration::from_millis(1_700)),
            Duration::from_millis(1_700),
        ),
        (Some(seconds(86_400)), seconds(60)),
        (None, seconds(1)),
    ] {
        let mut one = Endpoint::default();
        let change = one.call(Outcome::Throttled(named));
        assert_eq!(change, Some(Change::Out(OutReason::Throttled, expected)));
        assert_eq!(
            one.standing(),
            Standing::Out(OutReason::Throttled, expected)
        );
    }
}

#[test]
fn a_huge_request_that_is_throttled_keeps_no_small_one_away() {
    let mut one = Endpoint::default();
    one.call_of(100_000, 0, Outcome::Throttled(Some(seconds(55))));
    let standing = |one: &Endpoint, size| one.health.standing(of(size), at(one.now));
    assert_eq!(standing(&one, 2_000), Standing::In);
    assert_eq!(standing(&one, 10), Standing::In);
    let out = Standing::Out(OutReason::Throttled, seconds(55));
    assert_eq!(standing(&one, 100_000), out);
    assert_eq!(standing(&one, 12_500), Standing::In);
    assert_eq!(standing(&one, 12_501), out);
    // The answer to a small one tells nothing of huge ones.
    assert_eq!(one.call_of(10, 0, Outcome::Answered), None);
    assert_eq!(standing(&one, 100_000), out);
    // Nor does a single failure, or one from before.
    one.now = 10;
    assert_eq!(one.call_of(10, 10, Outcome::Failed), None);
    assert_eq!(one.call_of(100_000, 10, Outcome::Failed), None);
    assert_eq!(one.call_of(10, 10, Outcome::NotThere), None);
    assert_eq!(standing(&one, 10), Standing::In);
    // A small one that is throttled too keeps all away.
    one.call_of(10, 10, Outcome::Throttled(Some(seconds(20))));
    assert!(matches!(standing(&one, 10), Standing::Out(..)));
    // And its answer brings all back.
    one.now = 20_010;
    assert!(one.health.take_probe(of(10), at(one.now)));
    assert!(one.call_of(10, 20_010, Outcome::Answered).is_some());
    assert!(matches!(standing(&one, 100_000), Standing::Ramp(_)));
}

#[test]
fn what_throttles_a_class_keeps_lower_ones_away_whatever_they_ask() {
    let mut one = Endpoint::default();
    one.call_of(100_000, 0, Outcome::Throttled(Some(seconds(5))));
    let standing = |one: &Endpoint, size, class| {
        let demand = Demand { size, class };
        one.health.standing(demand, at(one.now))
    };
    let out = Standing::Out(OutReason::Throttled, seconds(5));
    assert_eq!(standing(&one, 10, Class::Batch), out);
    assert_eq!(standing(&one, 10, Class::Standard), Standing::In);
    assert_eq!(standing(&one, 10, Class::Interactive), Standing::In);
    // And no higher one, until that is throttled itself.
    assert_eq!(standing(&one, 100_000, Class::Interactive), Standing::In);
    let call = Call {
        began: at(one.now),
        ended: at(one.now),
        demand: Demand {
            size: 100_000,
            class: Class::Interactive,
        },
    };
    let throttled = Outcome::Throttled(Some(seconds(5)));
    one.health.record(throttled, call, 0, &SETTINGS);
    assert_eq!(standing(&one, 100_000, Class::Interactive), out);
    assert_eq!(standing(&one, 10, Class::Standard), out);
}

#[test]
fn after_a_short_wait_the_whole_share_is_soon_back() {
    let mut one = Endpoint::default();
    one.call(Outcome::Throttled(Some(Duration::from_millis(300))));
    one.now = 300;
    assert!(one.probes());
    assert!(one.call(Outcome::Answered).is_some());
    assert!(matches!(one.standing(), Standing::Ramp(_)));
    one.now = 600;
    assert_eq!(one.standing(), Standing::In);
}

#[test]
fn calls_from_before_it_went_out_tell_nothing_of_its_return() {
    let mut one = Endpoint {
        now: 5_000,
        ..Endpoint::default()
    };
    one.call(Outcome::Throttled(Some(seconds(10))));
    one.now = 6_000;
    assert_eq!(one.call_since(4_000, Outcome::Answered), None);
    // But they may know a longer wait, and no shorter one.
    one.call_since(4_000, Outcome::Throttled(Some(seconds(20))));
    one.call_since(4_000, Outcome::Throttled(Some(seconds(2))));
    assert_eq!(
        one.standing(),
        Standing::Out(OutReason::Throttled, seconds(20))
    );
}

#[test]
fn the_wait_of_a_failed_probe_replaces_the_one_before() {
    let mut one = Endpoint::default();
    one.call(Outcome::Throttled(Some(seconds(10))));
    one.now = 10_000;
    assert!(one.probes());
    assert_eq!(one.call(Outcome::Throttled(Some(seconds(2)))), None);
    assert_eq!(
        one.standing(),
        Standing::Out(OutReason::Throttled, seconds(2))
    );
}

#[test]
fn a_wave_that_fails_at_once_lengthens_the_time_once() {
    let mut one = Endpoint {
        now: 1_000,
        ..Endpoint::default()
    };
    one.fail(5);
    for _ in 0..100 {
        one.call_since(900, Outcome::Failed);
    }
    assert_eq!(
        one.standing(),
        Standing::Out(OutReason::Failing, seconds(1))
    );
}

#[test]
fn other_credentials_bring_back_what_was_refused_and_nothing_else() {
    for (outcome, is_back) in [
        (Outcome::CredentialRefused, true),
        (Outcome::NotThere, true),
        (Outcome::Throttled(Some(seconds(9))), false),
    ] {
        let mut one = Endpoint::default();
        let changes = (0..3).filter_map(|_| one.call(outcome)).count();
        assert_eq!(changes, 1);
        assert_eq!(one.health.renewed(at(100)).is_some(), is_back);
        assert_eq!(one.standing() == Standing::In, is_back);
    }
}

#[test]
fn refusals_of_an_earlier_credential_do_not_count_with_those_of_the_next() {
    let mut one = Endpoint::default();
    for _ in 0..3 {
        for _ in 0..2 {
            assert_eq!(one.call(Outcome::CredentialRefused), None);
        }
        assert_eq!(one.health.renewed(at(100)), None);
    }
}

#[test]
fn a_refusal_of_what_one_request_names_is_none_of_the_endpoint() {
    let mut one = Endpoint::default();
    for _ in 0..100 {
        assert_eq!(one.call(Outcome::NotThere), None);
        assert_eq!(one.call(Outcome::NotThere), None);
        one.call(Outcome::Begun);
    }
    assert_eq!(one.standing(), Standing::In);
}

#[test]
fn a_silent_endpoint_is_back_with_any_answer() {
    let mut one = Endpoint {
        now: 20_000,
        ..Endpoint::default()
    };
    let change = one.health.silent(at(20_000), &SETTINGS);
    assert_eq!(change, Some(Change::Out(OutReason::Silent, seconds(1))));
    one.now = 20_500;
    assert!(one.call_since(100, Outcome::Answered).is_some());
}

#[test]
fn answers_that_are_cut_are_failures_although_they_began() {
    let mut one = Endpoint::default();
    let mut cut = 0;
    while one.now < 60_000 {
        one.now += 20;
        let may_go = match one.standing() {
            Standing::In => true,
            Standing::Ramp(share) => share > 0.5,
            Standing::Due(_) => one.probes(),
            Standing::Out(..) => false,
        };
        if may_go {
            one.call(Outcome::Begun);
            one.call(Outcome::Failed);
            cut += 1;
        }
    }
    // Five at first, and then the probes.
    assert!(cut <= 5 + 15, "{cut} of 3000");
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Answered),
        2 => Just(Outcome::Begun),
        4 => Just(Outcome::Failed),
        1 => (0u64..200_000).prop_map(|ms| Outcome::Throttled(Some(Duration::from_millis(ms)))),
        1 => Just(Outcome::Throttled(None)),
        1 => Just(Outcome::CredentialRefused),
        1 => Just(Outcome::NotThere),
    ]
}

proptest! {
    /// Whatever comes: no time out is longer than the longest, it ends in a probe, and an answered probe
    /// leads back to the whole share.
    #[test]
    fn no_endpoint_is_lost(calls in prop::collection::vec((outcomes(), 0u64..3_000, 0u64..5_000), 0..80)) {
        let mut one = Endpoint::default();
        for (outcome, pause, lasted) in calls {
            one.now += pause;
            one.call_since(one.now.saturating_sub(lasted), outcome);
            match one.standing() {
                Standing::Out(_, left) => prop_assert!(left <= SETTINGS.max_ejection),
                Standing::Ramp(share) => prop_assert!((0.0..1.0).contains(&share)),
                Standing::In | Standing::Due(_) => {}
            }
        }
        one.now += 60_000;
        if one.probes() {
            one.call(Outcome::Answered);
        }
        one.now += 4_000;
        prop_assert_eq!(one.standing(), Standing::In);
    }

    /// Every time out has a beginning and an end, in turn.
    #[test]
    fn changes_alternate(calls in prop::collection::vec((outcomes(), 0u64..3_000), 0..80)) {
        let mut one = Endpoint::default();
        let mut is_out = false;
        for (outcome, pause) in calls {
            one.now += pause;
            one.probes();
            match one.call(outcome) {
                Some(Change::Back(..)) => {
                    prop_assert!(is_out);
                    is_out = false;
                }
                // Also for another reason.
                Some(Change::Out(..)) => is_out = true,
                None => {}
            }
            prop_assert_eq!(one.health.out(at(one.now)).is_some(), is_out);
        }
    }
}
