use super::{Candidate, Key, Turn, choose, prefer};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn candidate(priority: u8, weight: u32, excluded: bool) -> Candidate {
    Candidate {
        priority,
        weight,
        turn: if excluded { Turn::Never } else { Turn::Usual },
        load: 0,
        first_byte_us: 0,
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
    all[0].turn = Turn::Never;
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

#[test]
fn the_last_resort_of_a_first_tier_waits_for_all_others() {
    let mut all = [
        candidate(0, 1, false),
        candidate(1, 1, false),
        candidate(2, 1, true),
    ];
    all[0].turn = Turn::Last;
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), Some(1));
    all[1].turn = Turn::Never;
    assert_eq!(choose(&all, &mut StdRng::seed_from_u64(1)), Some(0));
    // Any tier may be well again.
    all[1].turn = Turn::Last;
    let mut rng = StdRng::seed_from_u64(1);
    let seconds = (0..100).filter(|_| choose(&all, &mut rng) == Some(1));
    assert!((30..70).contains(&seconds.count()));
}

/// Calls that last as long as others arrive: the loads follow the choices.
#[test]
fn a_slow_endpoint_gets_less_and_equal_ones_get_their_weights() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut shares = |slowness: [u32; 2], weights: [u32; 2]| {
        let mut all = [
            candidate(0, weights[0], false),
            candidate(0, weights[1], false),
        ];
        let mut running: Vec<(u32, usize)> = Vec::new();
        let mut hits = [0u32; 2];
        for now in 0..20_000u32 {
            running.retain(|(end, index)| {
                let ends = *end <= now;
                all[*index].load -= u32::from(ends);
                !ends
            });
            let chosen = choose(&all, &mut rng).expect("one is usable");
            all[chosen].load += 1;
            hits[chosen] += 1;
            running.push((now + slowness[chosen], chosen));
        }
        f64::from(hits[0]) / 20_000.0
    };
    let equal = shares([20, 20], [3, 1]);
    assert!((equal - 0.75).abs() < 0.03, "{equal}");
    let slow = shares([400, 20], [1, 1]);
    assert!(slow < 0.3, "{slow}");
}

proptest! {
    #[test]
    fn never_chooses_an_excluded_a_weightless_or_a_later_tier(
        all in prop::collection::vec((0u8..4, 0u32..3, any::<bool>()), 0..8), seed: u64,
    ) {
        let all: Vec<_> = all.into_iter().map(|(p, w, x)| candidate(p, w, x)).collect();
        let best = all.iter().filter(|c| c.turn == Turn::Usual && c.weight > 0).map(|c| c.priority).min();
        let chosen = choose(&all, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(chosen.map(|index| all[index].priority), best);
        if let Some(index) = chosen {
            prop_assert!(all[index].turn == Turn::Usual && all[index].weight > 0);
        }
    }
}

#[test]
fn a_preference_is_one_of_the_first_tier_that_takes_its_usual_share() {
    let identity = |index: usize| Key::new().with(&index.to_le_bytes());
    let prefer =
        |all: &[Candidate], key: &str| prefer(all, Key::new().with(key.as_bytes()), identity);
    let mut all = [
        candidate(0, 1, false),
        candidate(0, 1, false),
        candidate(0, 0, false),
        candidate(1, 1, false),
    ];
    let of_first_tier: Vec<_> = (0..40).map(|key| prefer(&all, &key.to_string())).collect();
    assert!(of_first_tier.contains(&Some(0)) && of_first_tier.contains(&Some(1)));
    assert!(!of_first_tier.contains(&Some(2)) && !of_first_tier.contains(&Some(3)));
    // Health wins.
    all[0].turn = Turn::Spare;
    assert!((0..40).all(|key| prefer(&all, &key.to_string()) == Some(1)));
    all[1].turn = Turn::Never;
    assert_eq!(prefer(&all, "1"), Some(3));
    all[3].turn = Turn::Last;
    assert_eq!(prefer(&all, "1"), None);
}

proptest! {
    #[test]
    fn the_next_by_rank_follows_one_that_was_tried(loads in prop::collection::vec(0_u32..8, 4), key: u64) {
        let identity = |index: usize| Key::new().with(&index.to_le_bytes());
        let key = Key::new().with(&key.to_le_bytes());
        let mut all: Vec<_> = loads.iter().map(|load| Candidate { load: *load, ..candidate(0, 1, false) }).collect();
        let mut order = Vec::new();
        while let Some(index) = prefer(&all, key, identity) {
            order.push(index);
            all[index].turn = Turn::Never;
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, vec![0, 1, 2, 3]);
    }
}

#[test]
fn of_two_the_one_whose_calls_wait_for_much_less_is_preferred() {
    let of = |load, first_byte_us| Candidate {
        load,
        first_byte_us,
        ..candidate(0, 1, false)
    };
    let share = |first, second| {
        let rng = &mut StdRng::seed_from_u64(7);
        let all = [first, second];
        (0..4_000).filter(|_| choose(&all, rng) == Some(0)).count()
    };
    // Twice as slow is chance; more takes what both are drawn for.
    assert!((1_900..2_100).contains(&share(of(0, 400), of(0, 800))));
    assert!((2_900..3_100).contains(&share(of(0, 400), of(0, 801))));
    // A fast one with much under way is as slow.
    assert!((1_900..2_100).contains(&share(of(4, 400), of(0, 801))));
    // What is not known tells nothing.
    assert!((1_900..2_100).contains(&share(of(0, 0), of(0, 9_000_000))));
}
