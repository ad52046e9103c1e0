//! Bounds of the shared store, over seeds. `bench simulation` runs any number of them.

use tests_quota::world::Accidents;
use tests_quota::{Findings, Flaw, Scenario, run};

/// Per kind of accident: 10,000 in all, in about a minute.
const SEEDS: u64 = 2_000;

fn stories(accidents: Accidents, flaw: Flaw, seeds: u64) -> impl Iterator<Item = Findings> {
    (0..seeds).map(move |seed| {
        run(Scenario {
            seed,
            accidents,
            flaw,
        })
    })
}

fn holds(accidents: Accidents) {
    let mut admitted = 0;
    for found in stories(accidents, Flaw::None, SEEDS) {
        assert_eq!(found.breach, None);
        admitted += found.admitted;
    }
    assert!(
        admitted > SEEDS * 50,
        "the stories prove nothing: {admitted}"
    );
}

#[test]
fn without_accidents_no_window_ever_holds_more_than_its_limit() {
    holds(Accidents::None);
}

#[test]
fn use_beyond_a_reservation_is_all_that_can_exceed_a_limit() {
    holds(Accidents::Overuse);
}

#[test]
fn losses_delays_and_deaths_let_no_window_hold_more_than_its_limit() {
    holds(Accidents::All);
}

#[test]
fn shares_bound_admission_while_the_store_is_away() {
    holds(Accidents::Outages);
}

#[test]
fn a_store_that_comes_back_empty_learns_the_use_again() {
    holds(Accidents::DataLoss);
}

/// Otherwise the checks would be blind.
fn is_noticed(flaw: Flaw) {
    let breaches = stories(Accidents::None, flaw, 1_000)
        .filter(|found| found.breach.is_some())
        .count();
    assert!(
        breaches >= 10,
        "{flaw:?}: {breaches} of 1000 stories breach the limit"
    );
}

#[test]
fn a_ring_that_is_one_sub_bucket_too_short_is_noticed() {
    is_noticed(Flaw::ShortRing);
}

#[test]
fn long_grants_that_are_charged_too_early_are_noticed() {
    is_noticed(Flaw::EarlyCharge);
}
