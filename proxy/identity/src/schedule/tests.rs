use std::time::Duration;

use proptest::prelude::*;

use super::{late, refresh, retry, shown};

#[test]
fn a_token_of_an_hour_is_fetched_again_about_its_half() {
    let hour = Duration::from_secs(3600);
    assert_eq!(refresh(hour, 0.5), Duration::from_secs(1800));
    assert_eq!(refresh(hour, 0.0), Duration::from_secs(1620));
    assert_eq!(shown(hour), Duration::from_secs(3590));
    assert_eq!(shown(Duration::from_secs(2)), Duration::from_millis(1800));
}

#[test]
fn waits_after_failures_double_up_to_half_a_minute() {
    let waits: Vec<u64> = (1..=8).map(|n| retry(n, 0.5).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(late(0.5), Duration::from_secs(30));
}

proptest! {
    #[test]
    fn a_successor_comes_while_the_token_is_shown(
        seconds in 2_u64..1_000_000, chance in 0.0..1.0_f64,
    ) {
        let lives = Duration::from_secs(seconds);
        let wait = refresh(lives, chance);
        prop_assert!(wait < shown(lives));
        prop_assert!(wait >= lives.mul_f64(0.44) || wait >= Duration::from_millis(500));
        prop_assert!(shown(lives) <= lives);
    }

    #[test]
    fn a_wait_is_never_none_and_never_long(failures in 0_u32.., chance in -1.0..2.0_f64) {
        let wait = retry(failures, chance);
        prop_assert!(wait >= Duration::from_millis(800));
        prop_assert!(wait <= Duration::from_secs(36));
    }
}
