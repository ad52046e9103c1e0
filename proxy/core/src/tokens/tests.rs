use super::{
    Expected, LongContext, Price, Rates, Shape, context_window, estimate, is_reasoning,
    max_output_tokens, most, overhead, takes_cache_key,
};
use crate::names::Usage;
use proptest::prelude::*;

#[test]
fn holds_the_clients_bound_for_every_choice() {
    let shape = Shape {
        body_bytes: 400,
        overhead: overhead(false),
        max_output_tokens: Some(50),
        choices: 3,
        ..Shape::default()
    };
    let held = estimate(shape, Expected::default(), 1000);
    assert_eq!((held.input_tokens, held.output_tokens), (106, 150));
}

#[test]
fn what_an_api_adds_counts_beside_the_text() {
    let check = |expected: Expected, expect: (u64, u64)| {
        let shape = Shape {
            body_bytes: 400,
            overhead: overhead(true),
            ..Shape::default()
        };
        let held = estimate(shape, expected, 1);
        let most = most(shape, expected, held);
        assert_eq!((held.input_tokens, most.input_tokens), expect);
    };
    let usual = Expected {
        usual_per_mille: Some(300),
        ..Expected::default()
    };
    check(Expected::default(), (100 + 352, 400 + 352));
    check(usual, (120 + 352, 400 + 352));
    let observed = Expected {
        input_per_mille: Some(500),
        ..usual
    };
    check(observed, (200 + 352, 400 + 352));
    let counted = Expected {
        input_tokens: Some(7),
        ..usual
    };
    check(counted, (7, 7));
}

#[test]
fn holds_the_default_without_a_bound() {
    let held = estimate(Shape::default(), Expected::default(), 700);
    assert_eq!(held.output_tokens, 700);
}

#[test]
fn prices_cached_input_separately_and_rounds_up() {
    let price = Price {
        rates: Rates {
            cached_input: 1_250_000,
            ..Rates::of_text(2_500_000, 10_000_000)
        },
        ..Price::default()
    };
    let usage = Usage {
        input_tokens: 10,
        cached_input_tokens: 4,
        output_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(price.cost_micros(usage, None), 15 + 5 + 10);
    let tiny = Usage {
        input_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(text(1).cost_micros(tiny, None), 1);
}

fn text(input: u64) -> Price {
    Price {
        rates: Rates::of_text(input, 0),
        ..Price::default()
    }
}

proptest! {
    #[test]
    fn an_estimate_is_never_zero_and_never_overflows(
        body_bytes: u64, max: Option<u64>, choices: u64, default: u64,
    ) {
        let shape = Shape { body_bytes, max_output_tokens: max, choices, ..Shape::default() };
        let held = estimate(shape, Expected::default(), default);
        prop_assert!(held.input_tokens > 0 && held.output_tokens > 0);
        prop_assert!(held.total_tokens() >= held.input_tokens);
    }

    #[test]
    fn a_dearer_price_never_costs_less(a in 0u64..u64::MAX, b in 0u64..u64::MAX, tokens: u64) {
        let cheap = text(a.min(b));
        let dear = cheap.max(&text(a.max(b)));
        let usage = Usage { input_tokens: tokens, ..Usage::default() };
        prop_assert!(cheap.cost_micros(usage, None) <= dear.cost_micros(usage, None));
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

#[test]
fn what_continues_something_may_read_as_much_as_its_model() {
    let check = |window: Option<u64>, expect: u64| {
        let shape = Shape {
            body_bytes: 400,
            continues: true,
            ..Shape::default()
        };
        let expected = Expected {
            max_input_tokens: window,
            ..Expected::default()
        };
        let held = estimate(shape, expected, 512);
        assert_eq!(held.input_tokens, 100);
        assert_eq!(most(shape, expected, held).input_tokens, expect);
    };
    check(Some(400_000), 400_000);
    check(None, u64::MAX);
}

#[test]
fn the_most_is_what_is_held_where_that_is_a_bound() {
    let check = |max: Option<u64>, expected: Expected, choices: u64, expect: (u64, u64)| {
        let shape = Shape {
            body_bytes: 400,
            max_output_tokens: max,
            choices,
            ..Shape::default()
        };
        let held = estimate(shape, expected, 512);
        let most = most(shape, expected, held);
        assert_eq!((most.input_tokens, most.output_tokens), expect);
    };
    let counted = Expected {
        input_tokens: Some(90),
        ..Expected::default()
    };
    check(Some(50), counted, 3, (90, 150));
    check(Some(50), Expected::default(), 1, (400, 50));
    check(None, counted, 2, (90, 8_192));
    let long = Expected {
        longest_output: Some(30_000),
        ..counted
    };
    check(None, long, 2, (90, 60_000));
    let capped = Expected {
        max_output_tokens: Some(16_384),
        ..long
    };
    check(None, capped, 1, (90, 16_384));
    let small = Expected {
        max_output_tokens: Some(1_024),
        ..counted
    };
    check(None, small, 1, (90, 1_024));
    let embedding = Expected {
        max_output_tokens: Some(0),
        ..counted
    };
    check(None, embedding, 1, (90, 1));
    // A count may exceed the bytes: images behind a URL.
    let images = Expected {
        input_tokens: Some(9_000),
        ..Expected::default()
    };
    check(Some(1), images, 1, (9_000, 1));
}

/// 1 to 8 micros per token, so that every class shows in a sum; 9 per second.
fn rates() -> Rates {
    Rates {
        input: 1_000_000,
        cached_input: 2_000_000,
        cache_write: 3_000_000,
        audio_input: 4_000_000,
        image_input: 5_000_000,
        output: 6_000_000,
        audio_output: 7_000_000,
        image_output: 8_000_000,
        second: 9,
    }
}

fn of(rates: Rates) -> Price {
    Price {
        rates,
        ..Price::default()
    }
}

#[test]
fn every_class_has_its_own_rate() {
    let usage = Usage {
        input_tokens: 100,
        cached_input_tokens: 10,
        cache_write_tokens: 20,
        audio_input_tokens: 30,
        image_input_tokens: 15,
        output_tokens: 50,
        reasoning_tokens: 40,
        audio_output_tokens: 5,
        image_output_tokens: 6,
        sound_ms: 2_500,
    };
    let input = 25 + 10 * 2 + 20 * 3 + 30 * 4 + 15 * 5;
    let output = 39 * 6 + 5 * 7 + 6 * 8;
    assert_eq!(of(rates()).cost_micros(usage, None), input + output);
    // Where its length is dearer, that counts instead: 322.5 micros are rounded up.
    let long = Usage {
        sound_ms: 2_500 + 33_334,
        ..usage
    };
    assert_eq!(of(rates()).cost_micros(long, None), 323 + output);
}

#[test]
fn classes_that_contradict_their_total_are_never_charged_beyond_it() {
    let usage = Usage {
        input_tokens: 10,
        cached_input_tokens: 6,
        audio_input_tokens: 90,
        ..Usage::default()
    };
    assert_eq!(of(rates()).cost_micros(usage, None), 6 * 2 + 4 * 4);
}

#[test]
fn a_long_input_reprices_the_whole_request() {
    let price = Price {
        long_context: Some(LongContext {
            above_input_tokens: 272_000,
            rates: Rates::of_text(5_000_000, 22_500_000),
        }),
        ..of(Rates::of_text(2_500_000, 15_000_000))
    };
    let usage = |input_tokens| Usage {
        input_tokens,
        output_tokens: 10,
        ..Usage::default()
    };
    assert_eq!(price.cost_micros(usage(272_000), None), 680_000 + 150);
    assert_eq!(price.cost_micros(usage(272_001), None), 1_360_005 + 225);
    assert_eq!(price.hold_micros(usage(272_000)), 680_000 + 150);
    assert_eq!(price.hold_micros(usage(272_001)), 1_360_005 + 225);
}

#[test]
fn a_router_costs_what_the_model_of_its_answer_costs() {
    let price = Price {
        routed: [
            ("gpt-5", 3_000_000),
            ("gpt-5-mini", 1_000_000),
            ("gpt-4-0613", 7_000_000),
        ]
        .map(|(model, rate)| (model.into(), Rates::of_text(rate, rate)))
        .into(),
        ..text(2_000_000)
    };
    let usage = Usage {
        input_tokens: 1,
        ..Usage::default()
    };
    let check = |model: Option<&str>, expect| {
        assert_eq!(price.cost_micros(usage, model), expect, "{model:?}");
    };
    check(Some("gpt-5-mini"), 1);
    check(Some("gpt-5-mini-2025-08-07"), 1);
    check(Some("gpt-5-2025-08-07"), 3);
    check(Some("gpt-4-0613"), 7);
    // Another model is not a version of one that is listed.
    check(Some("gpt-5-nano"), 2);
    check(Some("gpt-5-7"), 2);
    check(Some("gpt-5-mini-"), 2);
    check(None, 2);
    assert_eq!(price.hold_micros(usage), 7);
}

fn any_rates() -> impl Strategy<Value = Rates> {
    prop::array::uniform9(0u64..100_000_000).prop_map(|[a, b, c, d, e, f, g, h, i]| Rates {
        input: a,
        cached_input: b,
        cache_write: c,
        audio_input: d,
        image_input: e,
        output: f,
        audio_output: g,
        image_output: h,
        second: i,
    })
}

fn any_price() -> impl Strategy<Value = Price> {
    let long = prop::option::of((1u64..3_000, any_rates()));
    let routed = prop::collection::vec(any_rates(), 0..3);
    (any_rates(), long, routed).prop_map(|(rates, long, routed)| Price {
        rates,
        long_context: long.map(|(above_input_tokens, rates)| LongContext {
            above_input_tokens,
            rates,
        }),
        routed: routed
            .into_iter()
            .enumerate()
            .map(|(index, rates)| (index.to_string().into(), rates))
            .collect(),
    })
}

prop_compose! {
    /// What was estimated, and what was used: the same totals, and of sound and images at most as
    /// much as estimated. More of these than estimated is what the estimate cannot know.
    fn any_estimate_and_use()(
        text in 0u64..3_000, audio in 0u64..1_000, image in 0u64..1_000,
        output in 0u64..3_000, audio_output in 0u64..1_000, image_output in 0u64..1_000,
        sound_ms in 0u64..100_000,
        parts in prop::array::uniform8(0u64..=100),
    ) -> (Usage, Usage) {
        let of = |whole: u64, part: u64| whole * part / 100;
        let estimate = Usage {
            input_tokens: text + audio + image,
            audio_input_tokens: audio,
            image_input_tokens: image,
            output_tokens: output + audio_output + image_output,
            audio_output_tokens: audio_output,
            image_output_tokens: image_output,
            sound_ms,
            ..Usage::default()
        };
        let [a, b, c, d, e, f, g, h] = parts;
        let used = Usage {
            cached_input_tokens: of(estimate.input_tokens, a),
            cache_write_tokens: of(estimate.input_tokens, b),
            audio_input_tokens: of(audio, c),
            image_input_tokens: of(image, d),
            reasoning_tokens: of(estimate.output_tokens, e),
            audio_output_tokens: of(audio_output, f),
            image_output_tokens: of(image_output, g),
            sound_ms: of(sound_ms, h),
            ..estimate
        };
        (estimate, used)
    }
}

proptest! {
    #[test]
    fn a_hold_covers_every_mix_of_classes_with_its_totals(
        price in any_price(), (estimate, used) in any_estimate_and_use(),
    ) {
        let held = price.hold_micros(estimate);
        for model in [None, Some("0"), Some("1"), Some("elsewhere")] {
            prop_assert!(price.cost_micros(used, model) <= held);
        }
    }

    #[test]
    fn the_dearest_price_of_a_rule_holds_for_each_of_its_deployments(
        one in any_price(), other in any_price(), (estimate, _) in any_estimate_and_use(),
    ) {
        let either = one.max(&other).hold_micros(estimate);
        prop_assert!(either >= one.hold_micros(estimate));
        prop_assert!(either >= other.hold_micros(estimate));
    }

    #[test]
    fn no_price_overflows_and_nothing_that_costs_is_free(
        rate in 1u64.., tokens in prop::array::uniform8(1u64..), sound_ms: u64,
    ) {
        let rates = Rates { second: rate, ..Rates::of_text(rate, rate) };
        let [input, a, b, c, d, output, e, f] = tokens;
        let usage = Usage {
            input_tokens: input,
            cached_input_tokens: a,
            cache_write_tokens: b,
            audio_input_tokens: c,
            image_input_tokens: d,
            output_tokens: output,
            reasoning_tokens: output,
            audio_output_tokens: e,
            image_output_tokens: f,
            sound_ms,
        };
        let price = of(rates);
        prop_assert!(price.cost_micros(usage, None) >= 1);
        prop_assert!(price.hold_micros(usage) >= price.cost_micros(usage, None));
    }
}

#[test]
fn context_windows_are_those_of_the_publisher() {
    let check = |model: &str, expect| assert_eq!(context_window(model), expect, "{model}");
    check("gpt-4o-2024-08-06", Some(128_000));
    check("gpt-4.1-mini", Some(1_047_576));
    check("gpt-5-mini", Some(400_000));
    check("gpt-5.4", Some(1_050_000));
    check("gpt-5.4-nano-2026-03-17", Some(400_000));
    check("gpt-6-sol", Some(1_050_000));
    check("o3-mini", Some(200_000));
    check("gpt-4", Some(8_192));
    check("text-embedding-3-large", Some(8_192));
    check("claude-sonnet-4-5", None);
}

#[test]
fn reasoning_models_are_known_by_their_names() {
    for model in [
        "o1",
        "o3-mini",
        "o4-mini-2025-04-16",
        "gpt-5",
        "gpt-5.1-codex-max",
        "gpt-6.1-sol",
        "codex-mini",
        "gpt-oss-120b",
        "DeepSeek-R1-0528",
        "MAI-DS-R1",
        "grok-4-fast-reasoning",
        "Phi-4-reasoning",
    ] {
        assert!(is_reasoning(model), "{model}");
    }
    for model in [
        "gpt-4o",
        "gpt-5-chat",
        "grok-4-fast-non-reasoning",
        "o1nline",
        "DeepSeek-V3",
        "olmo",
    ] {
        assert!(!is_reasoning(model), "{model}");
    }
}

#[test]
fn only_models_of_others_refuse_a_cache_key() {
    for model in [
        "DeepSeek-V4",
        "grok-4",
        "Llama-4-Maverick",
        "claude-opus-4-8",
    ] {
        assert!(!takes_cache_key(model), "{model}");
    }
    for model in ["gpt-5.6-sol", "o1", "model-router", "our-own", ""] {
        assert!(takes_cache_key(model), "{model}");
    }
}
