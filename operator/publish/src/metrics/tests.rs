use prometheus_client::registry::Registry;
use proxy_wire::v1::AckResult;

use super::Metrics;

#[test]
fn the_page_of_metrics_is_current() {
    let mut registry = Registry::with_prefix("tundish_operator");
    Metrics::register(&mut registry).acked(AckResult::Applied);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    let page = tests_support::metrics_page("Metrics of the operator's side of the channel", &text);
    expect_test::expect_file!["../../../../docs/metrics/publish.md"].assert_eq(&page);
}
