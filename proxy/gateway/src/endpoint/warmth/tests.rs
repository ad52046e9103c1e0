use proptest::prelude::*;
use proxy_core::names::Usage;

use super::{LATE, Warmth};

fn usage(input_tokens: u64, cached_input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        cached_input_tokens,
        ..Usage::default()
    }
}

#[test]
fn nothing_is_known_before_an_answer_with_input() {
    let warmth = Warmth::default();
    assert_eq!((warmth.read(usage(0, 0)), warmth.percent()), (None, None));
    assert_eq!(warmth.read(usage(1_000, 250)), Some(0.25));
    assert_eq!(warmth.percent(), Some(25));
}

#[test]
fn what_is_two_million_tokens_old_hardly_counts() {
    let warmth = Warmth::default();
    for _ in 0..100 {
        warmth.read(usage(LATE / 4, 0));
    }
    assert_eq!(warmth.percent(), Some(0));
    let shares: Vec<f64> = (0..24)
        .filter_map(|_| warmth.read(usage(LATE / 4, LATE / 4)))
        .collect();
    assert!(shares.is_sorted(), "{shares:?}");
    assert!(shares[3] > 0.3 && shares[23] > 0.9, "{shares:?}");
}

proptest! {
    #[test]
    fn a_share_is_a_part_whatever_backends_report(reports in prop::collection::vec(any::<(u64, u64)>(), 1..20)) {
        let warmth = Warmth::default();
        for (input, cached) in reports {
            if let Some(share) = warmth.read(usage(input >> 8, cached)) {
                prop_assert!((0.0..=1.0).contains(&share));
            }
            prop_assert!(warmth.percent().is_none_or(|percent| percent <= 100));
        }
    }
}
