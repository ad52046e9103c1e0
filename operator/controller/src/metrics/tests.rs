use prometheus_client::registry::Registry;

use super::{DiagnosticLabels, KindLabel, Metrics, ResultLabel, WriteLabels, WriteResult};

#[test]
fn the_page_of_metrics_is_current() {
    let mut registry = Registry::with_prefix("tundish_operator");
    let metrics = Metrics::register(&mut registry);
    let kind = KindLabel { kind: "AIRoute" };
    let result = WriteResult::Stored;
    metrics.objects.get_or_create(&kind).set(1);
    metrics.watch_synced.get_or_create(&kind).set(1);
    metrics.watch_errors.get_or_create(&kind).inc();
    let labels = DiagnosticLabels {
        severity: "error",
        reason: "Invalid",
    };
    metrics.diagnostics.get_or_create(&labels).set(1);
    metrics
        .status_writes
        .get_or_create(&WriteLabels {
            kind: "AIRoute",
            result,
        })
        .inc();
    metrics
        .event_writes
        .get_or_create(&ResultLabel { result })
        .inc();
    for writes in [&metrics.checkpoint_writes, &metrics.snapshot_writes] {
        writes.get_or_create(&ResultLabel { result }).inc();
    }
    metrics.left_out("team", true);
    metrics.foreign("other", true);
    metrics.reviewed(Ok(()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    let page = tests_support::metrics_page("Metrics of the controller", &text);
    expect_test::expect_file!["../../../../docs/metrics/controller.md"].assert_eq(&page);
}
