use proxy_gateway::standing::{LimitStanding, Standing, SubjectStanding};

use super::{Page, lines};

fn limit(name: &str, amount: u64, used: &[(&str, u64)]) -> LimitStanding {
    LimitStanding {
        limit: name.to_owned(),
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
            .map(|&(subject, used)| SubjectStanding {
                subject: subject.to_owned(),
                used,
                reserved: 0,
                remaining: amount.saturating_sub(used),
                reset_seconds: Some(30),
            })
            .collect(),
    }
}

fn proxy(standing: Standing) -> Page {
    Page {
        standing,
        reporting: None,
    }
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
    let told = lines(&proxy(Standing {
        replicas: 1,
        limits,
    }));
    let starts = [
        "LIMIT",
        "ns/q/small",
        "ns/q/large",
        "ns/q/small",
        "ns/q/unused",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{told:#?}");
    }
    let cells: Vec<&str> = told[1].split_whitespace().collect();
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
fn says_that_it_is_one_part_and_what_was_cut() {
    let mut one = limit("ns/q/l", 10, &[("consumer=ns/a", 1)]);
    one.counters = 5;
    let told = lines(&proxy(Standing {
        replicas: 3,
        limits: vec![one],
    }));
    assert!(
        told.iter().any(|line| line.contains("4 more are not")),
        "{told:#?}"
    );
    assert!(
        told.iter().any(|line| line.contains("one of 3 replicas")),
        "{told:#?}"
    );
    let none = Standing {
        replicas: 1,
        limits: Vec::new(),
    };
    assert_eq!(lines(&proxy(none)), ["no limits"]);
}

#[test]
fn an_operators_page_says_of_how_many_replicas_it_is_the_sum() {
    let page = r#"{"replicas": 3, "reporting": 2, "limits": [{
        "limit": "ns/q/l", "unit": "Tokens", "window": "Day", "mode": "Enforce", "declared": 10, "amount": 10,
        "denials": 0, "shadow_denials": 0, "counters": 0, "subjects": []}]}"#;
    let page: Page = serde_json::from_str(page).expect("the page of an operator");
    let told = lines(&page);
    assert!(
        told.iter()
            .any(|line| line.contains("2 of 3 have told the operator")),
        "{told:#?}"
    );
    let again = serde_json::to_string(&page).expect("it is JSON");
    assert!(again.contains("\"reporting\":2"), "{again}");
}
