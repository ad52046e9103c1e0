use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Key, Member, first, unit};

fn named(index: usize) -> Key {
    Key::new()
        .with(b"team/foundry")
        .with(format!("deployment-{index}").as_bytes())
}

fn members(weights: &[u32]) -> Vec<Member> {
    let each = weights.iter().enumerate();
    each.map(|(index, weight)| Member {
        identity: named(index),
        weight: *weight,
        load: 0,
    })
    .collect()
}

/// The identity of the member that takes the key.
fn taker(key: Key, members: &[Member]) -> Option<Key> {
    first(key, members.iter().map(|one| (one.identity, *one)))
}

fn keys(seed: u64, count: usize) -> Vec<Key> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut key = || Key::new().with(&rng.random::<u64>().to_le_bytes());
    (0..count).map(|_| key()).collect()
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1_u32..200, 1..7)
}

/// Replicas of other versions and hosts must come to the same.
#[test]
fn keys_and_choices_are_those_of_every_version() {
    let key = Key::new()
        .with(b"team/app")
        .with(b"gpt-5")
        .with(b"thread-17");
    assert_eq!(format!("{key:?}"), "Key(3392297698934626721)");
    assert_eq!(
        format!("{:?}", Key::new().with(b"")),
        "Key(79260605269340283)"
    );
    assert_eq!(format!("{:?}", named(0)), "Key(2008920817096240800)");
    assert_eq!(key.meets(named(0)), 17_694_640_793_091_783_309);
    let four = members(&[1, 1, 2, 4]);
    let takers: Vec<_> = (0..12)
        .map(|thread| {
            let taker = taker(
                Key::new().with(format!("thread-{thread}").as_bytes()),
                &four,
            );
            four.iter().position(|one| taker == Some(one.identity))
        })
        .collect();
    assert_eq!(takers, [3, 3, 0, 1, 1, 2, 3, 1, 3, 2, 3, 2].map(Some));
}

#[test]
fn texts_have_other_keys_in_another_order_or_cut_elsewhere() {
    let key = |texts: &[&str]| {
        texts
            .iter()
            .fold(Key::new(), |key, text| key.with(text.as_bytes()))
    };
    let all = [
        key(&[]),
        key(&[""]),
        key(&["", ""]),
        key(&["a", "bc"]),
        key(&["ab", "c"]),
        key(&["bc", "a"]),
        key(&["abc"]),
        key(&["abc\0"]),
        key(&["12345678", "abc"]),
        key(&["12345678abc"]),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[index + 1..].contains(one), "{index}");
    }
}

#[test]
fn every_number_lies_between_0_and_1() {
    for hash in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        let unit = unit(hash);
        assert!(unit > 0.0 && unit < 1.0, "{unit}");
        assert!(unit.ln() < 0.0);
    }
}

/// One key alone: the first by rank is full at some time, and the next one takes what is beyond.
#[test]
fn one_key_never_drowns_a_member() {
    for (weights, most) in [
        (vec![1, 1], 0.78),
        (vec![1, 1, 1, 1], 0.41),
        (vec![9, 1, 10], 0.78),
    ] {
        let mut tier = members(&weights);
        let key = keys(1, 1)[0];
        for _ in 0..1_000 {
            let index = first(
                key,
                tier.iter().enumerate().map(|(index, one)| (index, *one)),
            );
            tier[index.unwrap()].load += 1;
        }
        let loads: Vec<u32> = tier.iter().map(|one| one.load).collect();
        let fullest = f64::from(*loads.iter().max().unwrap()) / 1_000.0;
        assert!(fullest <= most, "{loads:?}");
    }
}

proptest! {
    #[test]
    fn shares_follow_the_weights(weights in weights(), seed: u64) {
        const KEYS: u32 = 4_000;
        let all = members(&weights);
        let takers: Vec<_> = keys(seed, KEYS.try_into().unwrap()).into_iter().map(|key| taker(key, &all)).collect();
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        let chi_square: f64 = all.iter().map(|one| {
            let expected = f64::from(KEYS) * f64::from(one.weight) / sum;
            let found = takers.iter().filter(|taker| **taker == Some(one.identity)).count();
            (f64::from(u32::try_from(found).unwrap()) - expected).powi(2) / expected
        }).sum();
        // With up to six degrees of freedom one draw in 10^9 lies above 54.
        prop_assert!(chi_square < 54.0, "{chi_square} of {weights:?}");
    }

    #[test]
    fn a_member_that_goes_moves_its_own_keys_only(weights in weights(), gone: prop::sample::Index, seed: u64) {
        let all = members(&weights);
        let gone = gone.index(all.len());
        let mut rest = all.clone();
        rest.remove(gone);
        for key in keys(seed, 200) {
            let before = taker(key, &all);
            // The other way round: one that comes takes keys for itself only.
            if before != Some(all[gone].identity) {
                prop_assert_eq!(taker(key, &rest), before);
            }
        }
    }

    #[test]
    fn the_order_of_the_members_is_of_no_matter(
        tier in prop::collection::vec((1_u32..100, 0_u32..40), 1..7).prop_shuffle(), seed: u64,
    ) {
        let tier: Vec<Member> = tier.into_iter().enumerate()
            .map(|(index, (weight, load))| Member { identity: named(index), weight, load }).collect();
        let mut other = tier.clone();
        other.reverse();
        other.rotate_left(tier.len() / 2);
        for key in keys(seed, 50) {
            let taker = taker(key, &tier);
            prop_assert!(taker.is_some());
            prop_assert_eq!(super::tests::taker(key, &other), taker);
        }
    }
}
