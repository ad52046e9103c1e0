use super::{Candidate, choose};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn candidate(priority: u8, weight: u32, excluded: bool) -> Candidate {
    Candidate {
        priority,
        weight,
        excluded,
    }
}

#[test]
fn weights_of_zero_choose_no_candidate() {
    let all = [candidate(0, 0, false), candidate(1, 0, false)];
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), None);
}

#[test]
fn a_tier_without_weight_falls_to_the_next() {
    let all = [candidate(0, 0, false), candidate(1, 5, false)];
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), Some(1));
}

#[test]
fn the_next_tier_is_used_only_when_the_first_is_excluded() {
    let mut all = [candidate(0, 1, false), candidate(3, 100, false)];
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), Some(0));
    all[0].excluded = true;
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), Some(1));
}

#[test]
fn shares_follow_the_weights_within_five_standard_deviations() {
    let all = [
        candidate(0, 1, false),
        candidate(0, 3, false),
        candidate(0, 0, false),
    ];
    let mut rng = StdRng::seed_from_u64(7);
    let draws = 40_000u32;
    let mut hits = [0u32; 3];
    for _ in 0..draws {
        hits[choose(&all, &mut rng).expect("one is usable")] += 1;
    }
    assert_eq!(hits[2], 0);
    let deviation = (f64::from(draws) * 0.25 * 0.75).sqrt();
    assert!(
        (f64::from(hits[0]) - f64::from(draws) * 0.25).abs() < 5.0 * deviation,
        "{hits:?}"
    );
}

proptest! {
    #[test]
    fn never_chooses_an_excluded_a_weightless_or_a_later_tier(
        all in prop::collection::vec((0u8..4, 0u32..3, any::<bool>()), 0..8), seed: u64,
    ) {
        let all: Vec<_> = all.into_iter().map(|(p, w, x)| candidate(p, w, x)).collect();
        let best = all.iter().filter(|c| !c.excluded && c.weight > 0).map(|c| c.priority).min();
        let chosen = choose(&all, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(chosen.map(|index| all[index].priority), best);
        if let Some(index) = chosen {
            prop_assert!(!all[index].excluded && all[index].weight > 0);
        }
    }
}
