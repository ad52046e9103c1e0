//! Bounds of the shared store, over seeds. `TUNDISH_SEEDS` says how many per kind of accident.

use tests_quota::world::Accidents;
use tests_quota::{Findings, Scenario, run};

fn stories(accidents: Accidents, buckets_short: u64, seeds: u64) -> impl Iterator<Item = Findings> {
    (0..seeds).map(move |seed| {
        run(Scenario {
            seed,
            accidents,
            buckets_short,
        })
    })
}

fn holds(accidents: Accidents) {
    let seeds = std::env::var("TUNDISH_SEEDS").map_or(2_500, |n| n.parse().expect("a number"));
    let (mut admitted, mut peak) = (0, 0.0_f64);
    for found in stories(accidents, 0, seeds) {
        assert_eq!(found.breach, None);
        admitted += found.admitted;
        peak = peak.max(found.peak);
    }
    assert!(
        admitted > seeds * 50,
        "the stories tell nothing: {admitted}"
    );
    println!("{accidents:?}: {seeds} seeds, {admitted} admitted, at most {peak:.4} of a limit");
}

#[test]
fn without_accidents_no_window_ever_holds_more_than_its_limit() {
    holds(Accidents::None);
}

#[test]
fn whatever_is_lost_late_wrong_or_dead_no_window_ever_holds_more_than_its_limit() {
    holds(Accidents::All);
}

#[test]
fn while_the_store_is_away_shares_bound_what_is_admitted() {
    holds(Accidents::Outages);
}

#[test]
fn a_store_that_comes_back_empty_is_told_what_was_used() {
    holds(Accidents::DataLoss);
}

/// Otherwise the checks would be blind.
#[test]
fn a_ring_that_is_one_sub_bucket_too_short_is_noticed() {
    let breaches = stories(Accidents::None, 1, 1_000)
        .filter(|found| found.breach.is_some())
        .count();
    println!("{breaches} of 1000 stories breach the limit with K + 1 sub-buckets");
    assert!(breaches > 0);
}
