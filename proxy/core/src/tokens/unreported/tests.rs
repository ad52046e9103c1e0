use std::time::Duration;

use proptest::prelude::*;

use super::{FASTEST, Thoughts, Unreported};
use crate::tokens::Expected;

/// 10 tokens shown after two seconds, of at most 500.
fn answer(thoughts: Thoughts) -> Unreported {
    Unreported {
        shown: 10,
        thoughts,
        bound: Some(500),
        lasted: Duration::from_secs(2),
        ..Unreported::default()
    }
}

fn usual(reasoning_tokens: u64) -> Expected {
    Expected {
        reasoning_tokens: Some(reasoning_tokens),
        ..Expected::default()
    }
}

#[test]
fn thoughts_count_as_other_answers_had_them() {
    let check = |thoughts, expected, expect| {
        assert_eq!(answer(thoughts).output_tokens(expected), expect);
    };
    check(Thoughts::Unknown, usual(60), 70);
    check(Thoughts::Begun, usual(60), 70);
    check(Thoughts::Absent, usual(60), 10);
    check(Thoughts::Unknown, usual(0), 10);
    check(Thoughts::Unknown, usual(700), 500);
}

#[test]
fn thoughts_of_unknown_size_count_as_the_bound_allows() {
    let unknown = Expected::default();
    let check = |thoughts, reasons, expected, expect| {
        let answer = Unreported {
            reasons,
            ..answer(thoughts)
        };
        assert_eq!(answer.output_tokens(expected), expect);
    };
    check(Thoughts::Begun, false, unknown, 500);
    // No answer of this model told how much it thought.
    check(Thoughts::Begun, false, usual(0), 500);
    check(Thoughts::Unknown, true, unknown, 500);
    check(Thoughts::Unknown, false, unknown, 10);
    check(Thoughts::Absent, true, unknown, 10);
}

#[test]
fn no_more_counts_than_the_time_allows() {
    let check = |speed, millis, choices, expect| {
        let answer = Unreported {
            choices,
            lasted: Duration::from_millis(millis),
            bound: None,
            ..answer(Thoughts::Begun)
        };
        let expected = Expected {
            tokens_per_second: speed,
            ..Expected::default()
        };
        assert_eq!(answer.output_tokens(expected), expect);
    };
    check(None, 300, 1, 300);
    check(None, 300, 2, 600);
    check(Some(80), 300, 1, 48);
    check(Some(80), 1, 1, 10);
    check(Some(1), 10_001, 1, 21);
}

proptest! {
    #[test]
    fn an_answer_costs_at_least_what_it_shows_and_at_most_what_is_possible(
        shown in 0_u64..2_000, thoughts in 0..3_usize, reasons: bool, choices in 0_u64..5,
        bound in prop::option::of(1_u64..5_000), millis in 0_u64..100_000,
        usual in prop::option::of(0_u64..5_000), speed in prop::option::of(1_u64..2_000),
    ) {
        let answer = Unreported {
            shown,
            thoughts: [Thoughts::Unknown, Thoughts::Absent, Thoughts::Begun][thoughts],
            reasons,
            choices,
            bound,
            lasted: Duration::from_millis(millis),
        };
        let expected = Expected {
            reasoning_tokens: usual,
            tokens_per_second: speed,
            ..Expected::default()
        };
        let output = answer.output_tokens(expected);
        prop_assert!(output >= shown);
        let per_second = speed.map_or(FASTEST, |speed| speed * 2);
        let in_time = (millis * per_second).div_ceil(1_000) * choices.max(1);
        let bound = bound.unwrap_or(u64::MAX).saturating_mul(choices.max(1));
        prop_assert!(output <= in_time.min(bound).max(shown));
        let later = Unreported { lasted: answer.lasted * 2, ..answer };
        prop_assert!(later.output_tokens(expected) >= output);
    }
}
