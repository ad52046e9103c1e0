use std::time::Duration;

use expect_test::expect_file;

use super::{Stat, registry};
use crate::clock;

fn page() -> String {
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry()).expect("it encodes");
    page
}

/// The value of a sample.
fn sample(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("{name} is missing: {page}"));
    value.parse().expect("a number")
}

#[test]
fn the_page_of_the_process_is_current() {
    let page = tests_support::metrics_page("Metrics of every process", &page());
    expect_file!["../../../../docs/metrics/process.md"].assert_eq(&page);
}

#[test]
fn a_process_tells_of_itself() {
    let page = page();
    let now = Duration::from_millis(clock::now().unix_ms.unsigned_abs());
    let started = sample(&page, "process_start_time_seconds");
    let age = now.as_secs_f64() - started;
    assert!((-1.0..86_400.0).contains(&age), "started {age} s ago");
    assert!(sample(&page, "process_cpu_seconds_total") >= 0.0);
    assert!(sample(&page, "process_resident_memory_bytes") > 1e6);
    let (open, most) = (
        sample(&page, "process_open_fds"),
        sample(&page, "process_max_fds"),
    );
    assert!(open >= 3.0 && open <= most, "{open} of {most}");
    assert!(page.contains("tundish_build_info{version=\""), "{page}");
}

#[test]
fn the_name_of_a_program_may_hold_anything() {
    let fields = "S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 7 0 1000 4096 3";
    for name in ["(tundish)", "(a b) S 9)", "()"] {
        let text = format!("42 {name} {fields} 0 0\n");
        let expect = Stat {
            cpu_seconds: 4.0,
            threads: 7,
            start_seconds: 10.0,
            virtual_bytes: 4_096,
            resident_bytes: 3 * 4_096,
        };
        assert_eq!(Stat::parse(&text, 100, 4_096), Some(expect), "{name}");
    }
    for broken in ["", "42 (tundish", "42 (tundish) S 1 2", "no number"] {
        assert_eq!(Stat::parse(broken, 100, 4_096), None, "{broken}");
    }
}
