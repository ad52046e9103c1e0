use expect_test::expect;
use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Exposition;

#[test]
fn openmetrics_is_for_scrapers_that_name_it() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.2,\
                      */*;q=0.1";
    for (accept, expect) in [
        (None, Exposition::Text),
        (Some("*/*"), Exposition::Text),
        (Some("text/plain;version=0.0.4"), Exposition::Text),
        (
            Some("application/openmetrics-text;q=0, text/plain"),
            Exposition::Text,
        ),
        (
            Some("application/openmetrics-text"),
            Exposition::OpenMetrics,
        ),
        (Some(prometheus), Exposition::OpenMetrics),
    ] {
        let header = accept.map(HeaderValue::from_static);
        assert_eq!(Exposition::asked(header.as_ref()), expect, "{accept:?}");
    }
}

fn registry() -> Registry {
    let mut registry = Registry::with_prefix("t");
    let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
    counter.inc_by(3);
    gauge.set(-2);
    let histogram = Histogram::new([1.0]);
    histogram.observe(0.5);
    registry.register("things", "Things that were seen", counter);
    registry.register_with_unit("size", "How large", Unit::Bytes, gauge);
    registry.register_with_unit("wait", "How long", Unit::Seconds, histogram);
    registry.register(
        "build",
        "Which build",
        Info::new([("version", "1")].to_vec()),
    );
    registry
}

#[test]
fn both_forms_have_the_same_samples() {
    let (registry, none) = (registry(), Registry::default());
    let page = |form: Exposition| form.page([&registry, &none]).expect("it encodes");
    let samples = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let (text, open) = (page(Exposition::Text), page(Exposition::OpenMetrics));
    assert_eq!(samples(&text), samples(&open));
    assert!(open.ends_with("# EOF\n"), "{open}");
    expect![[r##"
        # HELP t_things_total Things that were seen.
        # TYPE t_things_total counter
        t_things_total 3
        # HELP t_size_bytes How large.
        # TYPE t_size_bytes gauge
        t_size_bytes -2
        # HELP t_wait_seconds How long.
        # TYPE t_wait_seconds histogram
        t_wait_seconds_sum 0.5
        t_wait_seconds_count 1
        t_wait_seconds_bucket{le="1.0"} 1
        t_wait_seconds_bucket{le="+Inf"} 1
        # HELP t_build_info Which build.
        # TYPE t_build_info gauge
        t_build_info{version="1"} 1
    "##]]
    .assert_eq(&text);
}
