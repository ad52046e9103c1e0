use super::{Expected, Price, Shape, estimate};
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
fn prices_cached_input_apart_and_rounds_up() {
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
