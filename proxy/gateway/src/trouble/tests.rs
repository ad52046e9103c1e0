use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proxy_core::names::Moment;

use super::named_wait;

/// Fri, 27 Nov 2026 12:00:00 GMT.
const NOON: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 1_795_780_800_000,
};

fn wait(headers: &[(&'static str, &'static str)]) -> Option<u128> {
    let pairs = headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_static(value);
        (HeaderName::from_static(name), value)
    });
    let headers: HeaderMap = pairs.collect();
    named_wait(&headers, NOON).map(|wait| wait.as_millis())
}

#[test]
fn a_wait_is_read_in_every_form() {
    let of = |name, value| wait(&[(name, value)]);
    assert_eq!(of("retry-after-ms", "2500"), Some(2_500));
    assert_eq!(of("x-ms-retry-after-ms", " 40 "), Some(40));
    assert_eq!(of("retry-after", "5"), Some(5_000));
    assert_eq!(of("retry-after", "0.25"), Some(250));
    let date = of("retry-after", "Fri, 27 Nov 2026 12:00:07 GMT");
    assert_eq!(date, Some(7_000));
    for broken in [
        "Fri, 27 Nov 2026 11:00:00 GMT",
        "0",
        "soon",
        "-1",
        "nan",
        "inf",
        "",
    ] {
        assert_eq!(of("retry-after", broken), None, "{broken:?}");
    }
    assert_eq!(of("retry-after", "1e300"), None);
    assert_eq!(of("retry-after", "999999999"), Some(86_400_000));
}

#[test]
fn the_exact_form_wins() {
    let both = [("retry-after", "3"), ("retry-after-ms", "2100")];
    assert_eq!(wait(&both), Some(2_100));
    let broken = [("retry-after", "3"), ("retry-after-ms", "x")];
    assert_eq!(wait(&broken), Some(3_000));
}

#[test]
fn the_reset_of_what_is_used_up_is_a_wait() {
    let tokens = |left, reset| {
        wait(&[
            ("x-ratelimit-remaining-requests", "10"),
            ("x-ratelimit-reset-requests", "59"),
            ("x-ratelimit-remaining-tokens", left),
            ("x-ratelimit-reset-tokens", reset),
        ])
    };
    assert_eq!(tokens("0", "12"), Some(12_000));
    assert_eq!(tokens("0", "6m0s"), Some(360_000));
    assert_eq!(tokens("0", "1m30.5s"), Some(90_500));
    assert_eq!(tokens("0", "17ms"), Some(17));
    assert_eq!(tokens("0", "17parsecs"), None);
    assert_eq!(tokens("5", "12"), None);
}

proptest! {
    #[test]
    fn no_text_is_a_wait_of_more_than_a_day(
        name in prop_oneof![
            Just("retry-after"), Just("retry-after-ms"), Just("x-ratelimit-reset-tokens"),
        ],
        text in "[ -~]{0,40}|[0-9.]{1,9}(ms|s|m|h|d)([0-9]{1,9}(ms|s))?",
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("0"));
        headers.insert(name, HeaderValue::from_str(&text).expect("printable"));
        let wait = named_wait(&headers, NOON).unwrap_or(Duration::from_millis(1));
        prop_assert!((1..=86_400_000).contains(&wait.as_millis()));
    }
}
