#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may overflow: it fails"
)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::{QUIET_MS, WarnAt, Warned, percent_used};
use crate::names::Moment;

fn at(monotonic_ms: u64) -> Moment {
    Moment {
        monotonic_ms,
        unix_ms: 0,
    }
}

#[test]
fn a_level_is_reached_at_its_percentage_and_none_below() {
    let warn_at = WarnAt::new([95, 80, 80, 0, 100, 255]);
    assert_eq!(warn_at.levels(), [80, 95]);
    let reached = |used, amount| warn_at.reached(percent_used(used, amount));
    assert_eq!(reached(79_999, 100_000), None);
    assert_eq!(reached(80_000, 100_000), Some(80));
    assert_eq!(reached(95, 100), Some(95));
    assert_eq!(reached(500, 100), Some(95));
    assert_eq!(reached(0, 0), Some(95));
    assert_eq!(reached(u64::MAX, 1), Some(95));
    assert_eq!(WarnAt::default().reached(100), None);
}

#[test]
fn each_level_is_new_once_in_a_calendar_period() {
    let mut warned = Warned::default();
    assert!(warned.is_first(80, Some(0), at(1)));
    assert!(!warned.is_first(80, Some(0), at(QUIET_MS * 9)));
    assert!(warned.is_first(95, Some(0), at(QUIET_MS * 9)));
    assert!(!warned.is_first(80, Some(0), at(QUIET_MS * 9)));
    assert!(warned.is_first(80, Some(7), at(QUIET_MS * 9)));
}

#[test]
fn without_a_period_a_level_is_new_once_in_a_minute() {
    let mut warned = Warned::default();
    assert!(warned.is_first(80, None, at(5)));
    assert!(!warned.is_first(80, None, at(QUIET_MS + 4)));
    assert!(warned.is_first(80, None, at(QUIET_MS + 5)));
    assert!(warned.is_first(95, None, at(QUIET_MS + 6)));
}

proptest! {
    #[test]
    fn a_percentage_is_rounded_down(used in any::<u64>(), amount in 1..u64::MAX) {
        let percent = u128::from(percent_used(used, amount));
        let exact = u128::from(used) * 100 / u128::from(amount);
        prop_assert_eq!(percent, exact.min(u128::from(u64::MAX)));
    }

    #[test]
    fn the_highest_level_that_is_reached_counts(levels in vec(0..=255u8, 0..8), percent in 0..300u64) {
        let warn_at = WarnAt::new(levels.clone());
        let reached = levels.into_iter().filter(|level| (1..=99).contains(level));
        let reached = reached.filter(|level| u64::from(*level) <= percent);
        prop_assert_eq!(warn_at.reached(percent), reached.max());
    }

    /// Whatever order levels are reached in.
    #[test]
    fn a_window_has_at_most_one_warning_for_each_level(
        levels in vec(1..100u8, 0..200), calendar in any::<bool>(), step_ms in 0..300u64,
    ) {
        let mut warned = Warned::default();
        let mut first = Vec::new();
        for (level, turn) in levels.into_iter().zip(0..) {
            if warned.is_first(level, calendar.then_some(7), at(step_ms * turn)) {
                first.push(level);
            }
        }
        // 200 steps of less than 300 ms are one window.
        prop_assert!(first.is_sorted_by(|a, b| a < b), "{first:?}");
    }
}
