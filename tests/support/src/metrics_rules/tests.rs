use super::metrics_problems;

const GOOD: &str = "# HELP x_things_total Things.\n# TYPE x_things_total counter\n\
                    x_things_total{kind=\"a,b=\\\"c\"} 3\nx_things_total{kind=\"b\"} 1\n\
                    # HELP x_wait_seconds How long.\n# TYPE x_wait_seconds histogram\n\
                    x_wait_seconds_sum 0.5\nx_wait_seconds_count 1\n\
                    x_wait_seconds_bucket{le=\"+Inf\"} 1\n";

fn check(from: &str, to: &str, expect: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(metrics_problems(&GOOD.replace(from, to)), expect, "{to}");
}

#[test]
fn a_good_page_has_no_problem() {
    check("Things.", "Things.", &[]);
}

#[test]
fn each_rule_is_looked_at() {
    check(" Things.", " ", &["x_things_total: no help text"]);
    check(
        "total counter",
        "total gauge",
        &["x_things_total: counters end in _total, and nothing else does"],
    );
    check(
        "x_things_total",
        "x_things",
        &["x_things: counters end in _total, and nothing else does"],
    );
    check(
        "x_things_total",
        "x_gone_days_total",
        &["x_gone_days_total: its unit is no base unit"],
    );
    check(
        "x_things_total",
        "x_ms_total",
        &["x_ms_total: its unit is abbreviated"],
    );
    check(
        "x_things_total",
        "x_counter_total",
        &["x_counter_total: its type is in its name"],
    );
    check(
        "x_things_total",
        "x_Things_total",
        &["x_Things_total: names are in snake case"],
    );
    check(
        "{kind=\"b\"}",
        "{le=\"b\"}",
        &["x_things_total: its label is one of histograms"],
    );
    check(
        "x_things_total{kind=\"b\"} 1",
        "x_others 1",
        &["x_others: a sample without a family"],
    );
    check(
        "{kind=\"b\"} 1",
        "{kind=\"b\"} one",
        &["x_things_total{kind=\"b\"} one: not a number"],
    );
    check(
        "x_wait_seconds_count 1",
        "x_wait_seconds_sum 1",
        &["x_wait_seconds_sum: twice"],
    );
    check(
        "# TYPE x_wait",
        "# UNIT x_wait_seconds seconds\n# TYPE x_wait",
        &["# UNIT x_wait_seconds seconds: not of the text format"],
    );
}
