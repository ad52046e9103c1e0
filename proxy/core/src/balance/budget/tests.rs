use super::RetryBudget;
use crate::names::Moment;

fn at(ms: u64) -> Moment {
    Moment {
        monotonic_ms: ms,
        unix_ms: 0,
    }
}

fn taken(budget: &RetryBudget, now: u64, most: usize) -> usize {
    (0..most).filter(|_| budget.take(at(now))).count()
}

#[test]
fn a_first_wave_needs_no_requests_before() {
    let budget = RetryBudget::default();
    assert_eq!(taken(&budget, 5, 1_000), 100);
    assert_eq!(taken(&budget, 9_999, 1_000), 0);
    assert_eq!(taken(&budget, 10_000, 1_000), 100);
}

#[test]
fn a_fifth_of_the_requests_of_ten_seconds_is_retried() {
    let budget = RetryBudget::default();
    for request in 0..3_000 {
        budget.request(at(request * 3));
    }
    assert_eq!(taken(&budget, 9_000, 10_000), 600);
    // An hour later they have gone.
    assert_eq!(taken(&budget, 3_600_000, 10_000), 100);
}

#[test]
fn what_clients_retry_themselves_is_no_longer_in_the_budget() {
    let budget = RetryBudget::default();
    for _ in 0..70 {
        budget.retried(at(0));
    }
    assert_eq!(taken(&budget, 0, 1_000), 30);
}
