use http::{HeaderMap, HeaderName, HeaderValue};

use super::free;

fn of(headers: &[(&'static str, &'static str)]) -> Option<i32> {
    let pairs = headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_static(value);
        (HeaderName::from_static(name), value)
    });
    free(&pairs.collect::<HeaderMap>())
}

fn utilization(value: &'static str) -> Option<i32> {
    of(&[("azure-openai-deployment-utilization", value)])
}

#[test]
fn a_provisioned_deployment_says_how_much_of_it_is_used() {
    assert_eq!(utilization("37.5%"), Some(625));
    assert_eq!(utilization("90%"), Some(100));
    assert_eq!(utilization("95%"), Some(50));
    assert_eq!(utilization("95.5"), Some(45));
    assert_eq!(utilization("100%"), Some(0));
    assert_eq!(utilization("140.0%"), Some(-400));
    for untold in ["", "%", "full", "-3%", "nan%", "1e3%", "9999999999%"] {
        assert_eq!(utilization(untold), None, "{untold:?}");
    }
}

#[test]
fn the_scarcer_limit_counts_and_unknown_ones_do_not() {
    let limits = |requests, tokens| {
        of(&[
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", requests),
            ("x-ratelimit-limit-tokens", "100000"),
            ("x-ratelimit-remaining-tokens", tokens),
        ])
    };
    assert_eq!(limits("80", "90000"), Some(800));
    assert_eq!(limits("5", "90000"), Some(50));
    assert_eq!(limits("80", "0"), Some(0));
    assert_eq!(limits("-1", "-1"), None);
    assert_eq!(limits("-1", "5000"), Some(50));
    // Some answers have 0 of 0.
    let nothing = of(&[
        ("x-ratelimit-limit-tokens", "0"),
        ("x-ratelimit-remaining-tokens", "0"),
    ]);
    assert_eq!(nothing, None);
}
