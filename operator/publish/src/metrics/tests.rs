use prometheus_client::registry::Registry;
use proxy_wire::v1::AckResult;

use super::Metrics;
use crate::fleet::{Fleet, Replica};

#[test]
fn the_page_of_metrics_is_current() {
    let mut registry = Registry::with_prefix("tundish_operator");
    let metrics = Metrics::register(&mut registry);
    metrics.acked(AckResult::Applied);
    let silent = Replica {
        silent_since_ms: Some(1),
        ..Replica::default()
    };
    let fleet = Fleet {
        replicas: vec![silent, Replica::default()],
    };
    metrics.count(&fleet, 1);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    let page = tests_support::metrics_page("Metrics of the operator's side of the channel", &text);
    expect_test::expect_file!["../../../../docs/metrics/publish.md"].assert_eq(&page);
}
