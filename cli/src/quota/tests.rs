use proxy_admin::pages::usage::{LimitUsage, SubjectUsage, UsagePage};
use proxy_core::quota::LimitName;

use super::lines;

fn limit(name: &str, amount: u64, used: &[(&str, u64)]) -> LimitUsage {
    LimitUsage {
        limit: LimitName::parse(name).expect("a limit's name"),
        unit: "Tokens".to_owned(),
        window: "Minute".to_owned(),
        mode: "Enforce".to_owned(),
        declared: amount,
        amount,
        denials: 0,
        shadow_denials: 0,
        counters: u64::try_from(used.len()).expect("few"),
        subjects: used
            .iter()
            .map(|&(subject, used)| SubjectUsage {
                subject: subject.to_owned(),
                used,
                reserved: 0,
                amount: None,
                remaining: amount.saturating_sub(used),
                reset_seconds: Some(30),
            })
            .collect(),
    }
}

fn page(replicas: u64, limits: Vec<LimitUsage>) -> UsagePage {
    UsagePage {
        replicas,
        reporting: None,
        limits,
    }
}

#[test]
fn a_subject_with_an_override_has_its_own_amount() {
    let mut shared = limit("ns/q/l", 10, &[("consumer=ns/a", 8), ("consumer=ns/b", 30)]);
    shared.subjects[1].amount = Some(40);
    let shown = lines(&page(1, vec![shared]));
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split_whitespace().skip(3);
        cells.take(5).map(str::to_owned).collect()
    };
    // 8 of 10 is a larger share than 30 of 40.
    assert_eq!(cells(&shown[1]), ["consumer=ns/a", "8", "0", "10", "2"]);
    assert_eq!(cells(&shown[2]), ["consumer=ns/b", "30", "0", "40", "10"]);
}

#[test]
fn the_largest_share_comes_first_and_unused_limits_are_shown() {
    let limits = vec![
        limit("ns/q/large", 1_000, &[("consumer=ns/a", 500)]),
        limit(
            "ns/q/small",
            10,
            &[("consumer=ns/b", 9), ("consumer=ns/c", 1)],
        ),
        limit("ns/q/unused", 10, &[]),
    ];
    let shown = lines(&page(1, limits));
    let starts = [
        "LIMIT",
        "ns/q/small",
        "ns/q/large",
        "ns/q/small",
        "ns/q/unused",
    ];
    assert_eq!(shown.len(), starts.len(), "{shown:#?}");
    for (line, start) in shown.iter().zip(starts) {
        assert!(line.starts_with(start), "{shown:#?}");
    }
    let cells: Vec<&str> = shown[1].split_whitespace().collect();
    assert_eq!(
        cells,
        [
            "ns/q/small",
            "Tokens",
            "Minute",
            "consumer=ns/b",
            "9",
            "0",
            "10",
            "1",
            "30s",
            "0"
        ]
    );
}

#[test]
fn a_proxys_page_says_that_it_is_a_share_and_what_it_leaves_out() {
    let mut one = limit("ns/q/l", 10, &[("consumer=ns/a", 1)]);
    one.counters = 5;
    let shown = lines(&page(3, vec![one]));
    assert!(
        shown.iter().any(|line| line.contains("4 more are not")),
        "{shown:#?}"
    );
    assert!(
        shown.iter().any(|line| line.contains("one of 3 replicas")),
        "{shown:#?}"
    );
    assert_eq!(lines(&page(1, Vec::new())), ["no limits"]);
}

#[test]
fn an_operators_page_says_how_many_replicas_it_covers() {
    let page = r#"{"replicas": 3, "reporting": 2, "limits": [{
        "limit": "ns/q/l", "unit": "Tokens", "window": "Day", "mode": "Enforce", "declared": 10, "amount": 10,
        "denials": 0, "shadow_denials": 0, "counters": 0, "subjects": []}]}"#;
    let page: UsagePage = serde_json::from_str(page).expect("the page of an operator");
    let shown = lines(&page);
    assert!(
        shown
            .iter()
            .any(|line| line.contains("2 of 3 have reported to the operator")),
        "{shown:#?}"
    );
}
