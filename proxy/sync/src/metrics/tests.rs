use prometheus_client::encoding::text::encode;

use super::*;

#[test]
fn the_age_of_the_last_contact_is_calculated_at_scrape() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.heard();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("channel_contact_age_seconds "));
    let age: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((0.0..60.0).contains(&age), "{text}");
}

#[test]
fn the_page_of_metrics_is_current() {
    let mut registry = Registry::with_prefix("tundish");
    drop(Metrics::register(&mut registry));
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    let page = tests_support::metrics_page("Metrics of the proxy's side of the channel", &text);
    expect_test::expect_file!["../../../../docs/metrics/sync.md"].assert_eq(&page);
}
