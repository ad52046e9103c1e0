use super::*;

const START: Duration = Duration::from_secs(5);

fn standard(tokens: Option<u64>, requests: Option<u64>) -> Meter {
    Meter::new(Capacity::Standard { tokens, requests }, MINUTE)
}

fn cost(input: u64, output: u64) -> Cost {
    Cost { input, output }
}

#[test]
fn charges_tokens_until_the_minute_is_spent_and_starts_anew() {
    let meter = standard(Some(100), None);
    let first = meter.charge(START, cost(20, 40)).unwrap();
    assert_eq!(
        first.tokens,
        Some(Rate {
            limit: 100,
            remaining: 40,
            reset: MINUTE
        })
    );
    let later = START + Duration::from_secs(10);
    let refusal = meter.charge(later, cost(20, 21)).unwrap_err();
    assert_eq!(refusal.limit, Limit::Tokens);
    assert_eq!(refusal.retry_after, Duration::from_secs(50));
    assert_eq!(
        refusal.standing.tokens.unwrap().remaining,
        40,
        "a refusal takes no tokens"
    );
    assert!(
        meter.charge(later, cost(20, 20)).is_ok(),
        "exactly the rest fits"
    );
    assert!(meter.charge(later, cost(1, 0)).is_err());
    assert!(meter.charge(START + MINUTE, cost(100, 0)).is_ok());
}

#[test]
fn never_gives_tokens_back_on_a_standard_deployment() {
    let meter = standard(Some(100), None);
    meter.charge(START, cost(10, 90)).unwrap();
    meter.settle(START, cost(10, 90), cost(10, 1));
    assert!(meter.charge(START, cost(1, 0)).is_err());
}

#[test]
fn counts_refused_requests_too() {
    let meter = standard(Some(10), Some(3));
    assert_eq!(
        meter.charge(START, cost(11, 0)).unwrap_err().limit,
        Limit::Tokens
    );
    assert_eq!(
        meter
            .charge(START, cost(1, 0))
            .unwrap()
            .requests
            .unwrap()
            .remaining,
        1
    );
    assert!(meter.charge(START, cost(1, 0)).is_ok());
    assert_eq!(
        meter.charge(START, cost(1, 0)).unwrap_err().limit,
        Limit::Requests
    );
}

#[test]
fn judges_requests_over_a_shorter_window_if_told() {
    let window = Duration::from_secs(10);
    let capacity = Capacity::Standard {
        tokens: None,
        requests: Some(12),
    };
    let meter = Meter::new(capacity, window);
    assert!(meter.charge(START, cost(1, 0)).is_ok());
    assert!(meter.charge(START, cost(1, 0)).is_ok());
    let refusal = meter.charge(START, cost(1, 0)).unwrap_err();
    assert_eq!(
        (refusal.limit, refusal.retry_after),
        (Limit::Requests, window)
    );
    assert!(meter.charge(START + window, cost(1, 0)).is_ok());
}

#[test]
fn refuses_a_provisioned_request_only_above_full_and_says_when_it_is_not() {
    let meter = Meter::new(Capacity::Provisioned { units: 1 }, MINUTE);
    // One unit drains 2,500 a minute; an output token weighs 4.
    let first = meter.charge(START, cost(500, 125)).unwrap();
    assert_eq!(first.utilization, Some(400));
    assert_eq!(
        meter.charge(START, cost(2000, 0)).unwrap().utilization,
        Some(1200)
    );
    let refusal = meter.charge(START, cost(1, 0)).unwrap_err();
    assert_eq!(refusal.limit, Limit::Utilization);
    // 500 tokens above full drain in 12 s.
    assert_eq!(refusal.retry_after, Duration::from_millis(12_001));
    assert!(
        meter
            .charge(START + refusal.retry_after, cost(1, 0))
            .is_ok()
    );
}

#[test]
fn corrects_a_provisioned_estimate_when_the_answer_is_done() {
    let meter = Meter::new(Capacity::Provisioned { units: 1 }, MINUTE);
    meter.charge(START, cost(0, 2500)).unwrap();
    assert!(meter.charge(START, cost(1, 0)).is_err());
    meter.settle(START, cost(0, 2500), cost(0, 25));
    assert_eq!(
        meter.charge(START, cost(0, 0)).unwrap().utilization,
        Some(40)
    );
}

#[test]
fn never_refuses_without_a_limit() {
    let meter = Meter::new(Capacity::Unlimited, MINUTE);
    let standing = meter.charge(START, cost(u64::MAX, u64::MAX)).unwrap();
    assert_eq!(standing, Standing::default());
}
