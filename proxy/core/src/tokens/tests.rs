use super::{Expected, Price, Shape, estimate, max_output_tokens};
use crate::names::Usage;
use proptest::prelude::*;

#[test]
fn holds_the_clients_bound_for_every_choice() {
    let shape = Shape {
        body_bytes: 400,
        max_output_tokens: Some(50),
        choices: 3,
    };
    let held = estimate(shape, Expected::default(), 1000);
    assert_eq!((held.input_tokens, held.output_tokens), (106, 150));
}

#[test]
fn holds_the_default_without_a_bound() {
    let held = estimate(Shape::default(), Expected::default(), 700);
    assert_eq!(held.output_tokens, 700);
}

#[test]
fn prices_cached_input_separately_and_rounds_up() {
    let price = Price {
        input_per_million: 2_500_000,
        cached_input_per_million: 1_250_000,
        output_per_million: 10_000_000,
    };
    let usage = Usage {
        input_tokens: 10,
        cached_input_tokens: 4,
        output_tokens: 1,
    };
    assert_eq!(price.cost_micros(usage), 15 + 5 + 10);
    let tiny = Usage {
        input_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(
        Price {
            input_per_million: 1,
            ..Price::default()
        }
        .cost_micros(tiny),
        1
    );
}

proptest! {
    #[test]
    fn an_estimate_is_never_zero_and_never_overflows(
        body_bytes: u64, max: Option<u64>, choices: u64, default: u64,
    ) {
        let shape = Shape { body_bytes, max_output_tokens: max, choices };
        let held = estimate(shape, Expected::default(), default);
        prop_assert!(held.input_tokens > 0 && held.output_tokens > 0);
        prop_assert!(held.total_tokens() >= held.input_tokens);
    }

    #[test]
    fn a_dearer_price_never_costs_less(a in 0u64..u64::MAX, b in 0u64..u64::MAX, tokens: u64) {
        let cheap = Price { input_per_million: a.min(b), ..Price::default() };
        let dear = cheap.max(Price { input_per_million: a.max(b), ..Price::default() });
        let usage = Usage { input_tokens: tokens, ..Usage::default() };
        prop_assert!(cheap.cost_micros(usage) <= dear.cost_micros(usage));
    }
}

#[test]
fn a_count_of_the_request_itself_beats_every_ratio() {
    let shape = Shape {
        body_bytes: 4_000,
        ..Shape::default()
    };
    let expected = Expected {
        input_per_mille: Some(300),
        input_tokens: Some(77),
        ..Expected::default()
    };
    assert_eq!(estimate(shape, expected, 1).input_tokens, 77);
}

#[test]
fn holds_no_more_than_the_model_answers() {
    let check = |model: &str, asked: Option<u64>, expect: u64| {
        let shape = Shape {
            max_output_tokens: asked,
            choices: 2,
            ..Shape::default()
        };
        let expected = Expected {
            output_tokens: Some(20_000),
            max_output_tokens: max_output_tokens(model),
            ..Expected::default()
        };
        let held = estimate(shape, expected, 512).output_tokens;
        assert_eq!(held, 2 * expect, "{model}");
    };
    check("gpt-4o-2024-08-06", Some(1_000_000), 16_384);
    check("gpt-4o-2024-08-06", Some(100), 100);
    check("gpt-4o-mini", None, 16_384);
    check("gpt-4o-2024-05-13", None, 4_096);
    check("gpt-5-chat", None, 16_384);
    check("gpt-5.4", Some(1_000_000), 128_000);
    check("o1-mini", Some(1_000_000), 65_536);
    check("o1", Some(1_000_000), 100_000);
    check("gpt-4", Some(1_000_000), 8_192);
    check("text-embedding-3-small", None, 1);
    check("claude-sonnet-4-5", Some(1_000_000), 1_000_000);
}
