use super::{Distribution, ENOUGH, LARGEST, ObservedSizes, bucket, largest_of};
use crate::names::Usage;
use crate::tokens::{Expected, Shape, estimate, most, overhead};
use proptest::prelude::*;
use std::time::Duration;

const A_SECOND: Duration = Duration::from_secs(1);

fn of(values: &[u64]) -> Distribution {
    let mut distribution = Distribution::default();
    for value in values {
        distribution.observe(*value);
    }
    distribution
}

fn observe(
    sizes: &mut ObservedSizes,
    times: u32,
    bytes: u64,
    bound: Option<u64>,
    usage: (u64, u64),
) {
    let shape = Shape {
        body_bytes: bytes,
        max_output_tokens: bound,
        choices: 1,
        ..Shape::default()
    };
    let usage = Usage {
        input_tokens: usage.0,
        output_tokens: usage.1,
        ..Usage::default()
    };
    for _ in 0..times {
        sizes.observe(shape, usage, A_SECOND);
    }
}

fn unbounded(bytes: u64) -> Shape {
    Shape {
        body_bytes: bytes,
        ..Shape::default()
    }
}

#[test]
fn what_an_api_adds_is_no_part_of_the_ratio() {
    let with_tools = |bytes| Shape {
        body_bytes: bytes,
        overhead: overhead(true),
        ..Shape::default()
    };
    let mut sizes = ObservedSizes::default();
    let usage = Usage {
        input_tokens: 352 + 100,
        ..Usage::default()
    };
    for _ in 0..ENOUGH {
        sizes.observe(with_tools(1_000), usage, A_SECOND);
    }
    // A step of the distribution is 3 % here.
    let held = |shape| estimate(shape, sizes.expected(), 1).input_tokens;
    assert_eq!(held(with_tools(1_000)), 352 + 103);
    assert_eq!(held(with_tools(100_000)), 352 + 10_300);
    assert_eq!(held(unbounded(1_000)), 103, "without tools");
}

#[test]
fn the_speed_is_that_of_the_fastest_long_answers() {
    let mut sizes = ObservedSizes::default();
    let mut write = |times: u32, choices, output_tokens, millis| {
        let shape = Shape {
            choices,
            ..Shape::default()
        };
        let usage = Usage {
            output_tokens,
            ..Usage::default()
        };
        for _ in 0..times {
            sizes.observe(shape, usage, Duration::from_millis(millis));
        }
        sizes.expected().tokens_per_second
    };
    assert_eq!(write(1, 1, 63, 10), None, "too short");
    assert_eq!(write(1, 1, 100, 2_000), Some(50));
    assert_eq!(write(1, 4, 800, 2_000), Some(100), "of one choice");
    assert_eq!(write(5, 1, 100, 2_000), Some(95), "slower ones");
    assert_eq!(write(1, 1, 100, 0), Some(100_000));
    assert!(write(10_000, 1, 100, 2_000) < Some(100), "forgotten");
}

#[test]
fn takes_less_than_a_kilobyte() {
    assert!(size_of::<Distribution>() < 1024);
}

#[test]
fn without_observations_nothing_is_known() {
    assert_eq!(Distribution::default().quantile(950), None);
    assert_eq!(ObservedSizes::default().expected(), Expected::default());
}

#[test]
fn small_values_are_exact() {
    for value in 0..32 {
        assert_eq!(of(&[value]).quantile(950), Some(value));
    }
}

#[test]
fn larger_values_count_as_the_largest() {
    assert_eq!(of(&[u64::MAX]).quantile(500), Some(LARGEST));
}

#[test]
fn holds_the_default_until_twenty_observations() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, ENOUGH - 1, 80, None, (8, 16));
    let held = estimate(unbounded(80), sizes.expected(), 512);
    assert_eq!((held.input_tokens, held.output_tokens), (20, 512));
    observe(&mut sizes, 1, 80, None, (8, 16));
    let held = estimate(unbounded(80), sizes.expected(), 512);
    // 8 of 80 bytes are 100 per mille, whose step ends at 103.
    assert_eq!((held.input_tokens, held.output_tokens), (9, 16));
}

#[test]
fn reasoning_is_expected_of_each_choice_as_it_was_seen() {
    let mut sizes = ObservedSizes::default();
    let mut think = |times: u32, choices, reasoning_tokens| {
        let shape = Shape {
            choices,
            max_output_tokens: Some(100),
            ..Shape::default()
        };
        let usage = Usage {
            reasoning_tokens,
            ..Usage::default()
        };
        for _ in 0..times {
            sizes.observe(shape, usage, A_SECOND);
        }
        sizes.expected().reasoning_tokens
    };
    assert_eq!(think(3, 1, 0), Some(0), "none so far");
    assert_eq!(think(1, 2, 25), Some(13));
    // The largest of a few, then what all but one in twenty have.
    assert_eq!(think(ENOUGH - 2, 1, 4), Some(13));
    assert_eq!(think(1, 1, 4), Some(4));
}

#[test]
fn a_bounded_answer_counts_only_for_the_input() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, 100, 80, Some(1), (8, 1));
    assert_eq!(sizes.expected().output_tokens, None);
    assert!(sizes.expected().input_per_mille.is_some());
}

#[test]
fn the_clients_bound_is_held_whatever_was_observed() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, 100, 80, None, (8, 16));
    let shape = Shape {
        max_output_tokens: Some(4_000),
        ..unbounded(80)
    };
    assert_eq!(estimate(shape, sizes.expected(), 512).output_tokens, 4_000);
}

#[test]
fn several_choices_are_observed_and_held_one_by_one() {
    let mut sizes = ObservedSizes::default();
    let shape = Shape {
        choices: 4,
        ..unbounded(80)
    };
    let usage = Usage {
        input_tokens: 8,
        output_tokens: 61,
        ..Usage::default()
    };
    for _ in 0..ENOUGH {
        sizes.observe(shape, usage, A_SECOND);
    }
    let expected = sizes.expected();
    assert_eq!(expected.output_tokens, Some(16));
    assert_eq!(estimate(shape, expected, 512).output_tokens, 64);
}

#[test]
fn the_ratio_of_the_input_stays_within_its_bounds() {
    for (bytes, tokens, expect) in [(1_000_000, 10, 50), (10, 10_000, 1_000)] {
        let mut sizes = ObservedSizes::default();
        observe(&mut sizes, ENOUGH, bytes, None, (tokens, 1));
        assert_eq!(sizes.expected().input_per_mille, Some(expect));
    }
}

#[test]
fn longer_answers_count_soon_and_shorter_ones_in_time() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, 5_000, 80, None, (8, 16));
    observe(&mut sizes, 120, 80, None, (8, 2_000));
    let long = sizes.expected().output_tokens;
    assert!(long.is_some_and(|tokens| tokens >= 2_000), "{long:?}");
    observe(&mut sizes, 5_000, 80, None, (8, 16));
    assert_eq!(sizes.expected().output_tokens, Some(16));
}

#[test]
fn the_longest_answer_is_forgotten_slowly() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, 1, 80, Some(70_000), (8, 70_000));
    assert_eq!(sizes.expected().longest_output, None, "bounds hide lengths");
    observe(&mut sizes, 1, 80, None, (8, 20_000));
    assert_eq!(sizes.expected().longest_output, Some(20_000));
    observe(&mut sizes, 60, 80, None, (8, 20));
    let kept = sizes.expected().longest_output;
    assert!(
        kept.is_some_and(|kept| (18_000..20_000).contains(&kept)),
        "{kept:?}"
    );
    observe(&mut sizes, 10_000, 80, None, (8, 20));
    assert!(
        sizes
            .expected()
            .longest_output
            .is_some_and(|kept| kept < 1_024)
    );
    observe(&mut sizes, 1, 80, None, (8, u64::MAX));
    assert_eq!(sizes.expected().longest_output, Some(LARGEST));
}

#[test]
fn many_short_answers_do_not_bound_the_next_one() {
    let mut sizes = ObservedSizes::default();
    observe(&mut sizes, 100, 80, None, (8, 16));
    let shape = unbounded(80);
    let held = estimate(shape, sizes.expected(), 512);
    assert_eq!((held.input_tokens, held.output_tokens), (9, 16));
    let most = most(shape, sizes.expected(), held);
    assert_eq!((most.input_tokens, most.output_tokens), (80, 4_096));
}

proptest! {
    #[test]
    fn a_value_lies_in_its_bucket(value in 0..=LARGEST) {
        let index = bucket(value);
        let upper = largest_of(index / 16, index % 16);
        prop_assert!(upper >= value && upper - value <= value / 16);
        prop_assert!(bucket(upper) == index && bucket(upper + 1) == (index + 1).min(bucket(LARGEST)));
    }

    #[test]
    fn a_quantile_is_within_a_step_of_the_exact_one(
        mut values in prop::collection::vec(0..=LARGEST, 1..900), per_mille in 0u32..=1000,
    ) {
        let found = of(&values).quantile(per_mille).expect("there are values");
        values.sort_unstable();
        let share = usize::try_from(per_mille).expect("small");
        let rank = (values.len() * share).div_ceil(1000).max(1);
        let exact = values[rank - 1];
        prop_assert!(found >= exact && found - exact <= exact / 16, "{found} for {exact}");
    }

    #[test]
    fn a_higher_quantile_is_never_lower(
        values in prop::collection::vec(0..=LARGEST, 1..3000), a in 0u32..=1000, b in 0u32..=1000,
    ) {
        let distribution = of(&values);
        prop_assert!(distribution.quantile(a.min(b)) <= distribution.quantile(a.max(b)));
    }

    #[test]
    fn what_was_is_forgotten(
        before in prop::collection::vec(0..=LARGEST, 0..3000), now in 0..=LARGEST,
    ) {
        let mut distribution = of(&before);
        for _ in 0..12_000 {
            distribution.observe(now);
        }
        let found = distribution.quantile(999).expect("there are values");
        prop_assert!(found >= now && found - now <= now / 16);
        prop_assert!(distribution.total() <= 2_000);
    }

    #[test]
    fn a_learned_estimate_is_never_zero_and_never_overflows(
        body_bytes: u64, choices: u64, default: u64, input_tokens: u64, output_tokens: u64,
    ) {
        let shape = Shape { body_bytes, max_output_tokens: None, choices, ..Shape::default() };
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        let mut sizes = ObservedSizes::default();
        for _ in 0..ENOUGH {
            sizes.observe(shape, usage, A_SECOND);
        }
        let held = estimate(shape, sizes.expected(), default);
        prop_assert!(held.input_tokens > 0 && held.output_tokens > 0);
        prop_assert!(held.total_tokens() >= held.input_tokens);
        let most = most(shape, sizes.expected(), held);
        prop_assert!(most.input_tokens >= held.input_tokens);
        prop_assert!(most.output_tokens >= held.output_tokens);
    }
}
