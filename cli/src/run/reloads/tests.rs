use std::time::Duration;

use expect_test::expect_file;
use operator_compile::Severity;
use prometheus_client::registry::Registry;
use proxy_admin::clock;

use super::Reloads;
use crate::manifests::Finding;

fn registered() -> (Registry, Reloads) {
    let mut registry = Registry::with_prefix("tundish");
    let reloads = Reloads::register(&mut registry);
    (registry, reloads)
}

fn finding(severity: Severity) -> Finding {
    Finding {
        file: "a.yaml".into(),
        line: 1,
        severity,
        message: "wrong".to_owned(),
    }
}

fn page(registry: &Registry) -> String {
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, registry).expect("it encodes");
    page
}

#[test]
fn the_page_of_the_folder_is_current() {
    let (registry, reloads) = registered();
    reloads.compiled(true, clock::instant());
    reloads.found(&[finding(Severity::Error)]);
    let page = tests_support::metrics_page("Metrics of the followed folder", &page(&registry));
    expect_file!["../../../../docs/metrics/manifests.md"].assert_eq(&page);
}

#[test]
fn a_failure_counts_once_until_the_folder_is_back() {
    let (registry, mut reloads) = registered();
    let now = clock::instant();
    for applied in [true, false] {
        reloads.compiled(applied, now);
        reloads.looked(true);
    }
    for usable in [false, false, false, true, false] {
        reloads.looked(usable);
    }
    reloads.found(&[Severity::Error, Severity::Warning, Severity::Error].map(finding));
    let page = page(&registry);
    for line in [
        "tundish_manifests_reloads_total{result=\"applied\"} 1",
        "tundish_manifests_reloads_total{result=\"unchanged\"} 1",
        "tundish_manifests_reloads_total{result=\"failed\"} 2",
        "tundish_manifests_last_reload_successful 0",
        "tundish_manifests_findings{severity=\"error\"} 2",
        "tundish_manifests_findings{severity=\"warning\"} 1",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    // A later look that finds nothing new is no change.
    let told = reloads.last_success.get();
    reloads.looked(true);
    assert!((reloads.last_success.get() - told).abs() < f64::EPSILON);
    reloads.compiled(false, now + Duration::from_secs(7));
    assert!(reloads.last_success.get() > told);
}
