use proptest::prelude::*;
use proxy_admin::clock;

use super::*;

fn at(began: Instant, millis: u64) -> Instant {
    began + Duration::from_millis(millis)
}

#[test]
fn what_came_early_is_no_credit_for_later() {
    let began = clock::instant();
    let mut pace = Pace::new(began);
    assert!(!pace.is_broken(30 << 20, at(began, 5)));
    assert!(
        !pace.is_lost(at(began, 10_000)),
        "the first interval was good"
    );
    assert!(!pace.is_broken(1, at(began, 18_000)));
    assert!(pace.is_lost(at(began, 20_000)), "the second was not");
}

#[test]
fn a_piece_after_a_lost_interval_does_not_save_it() {
    let began = clock::instant();
    let mut pace = Pace::new(began);
    assert!(pace.is_broken(30 << 20, at(began, 10_001)));
}

#[test]
fn a_backend_that_takes_nothing_makes_no_client_slow() {
    let began = clock::instant();
    let mut pace = Pace::new(began);
    assert!(!pace.is_broken(5_000, at(began, 1_000)));
    pace.pause(Duration::from_secs(60));
    assert!(!pace.is_lost(at(began, 69_000)));
    assert!(
        pace.is_lost(at(began, 70_000)),
        "nothing came in nine seconds"
    );
}

proptest! {
    #[test]
    fn a_steady_body_is_judged_by_its_rate(per_second in 1usize..4_000, seconds in 21u64..120) {
        let began = clock::instant();
        let mut pace = Pace::new(began);
        let broken = (1..=seconds).any(|second| {
            pace.is_broken(per_second, at(began, second * 1_000 - 500))
                || pace.is_lost(at(began, second * 1_000))
        });
        prop_assert_eq!(broken, per_second < 1_000);
    }
}
