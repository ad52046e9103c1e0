use proxy_core::names::ObjectName;
use proxy_core::quota::{CounterReading, LimitName, Reached, StoreState, SubjectKey};
use serde_json::json;

use super::*;
use crate::v1::{DecodeError, Line};

fn limit() -> LimitName {
    LimitName {
        quota: ObjectName::new("team", "spend"),
        limit: "day".into(),
    }
}

fn reading() -> CounterReading {
    CounterReading {
        limit: limit(),
        key: SubjectKey([0xab; 16]),
        subject: "consumer=team/ann".into(),
        period_start_ms: Some(86_400_000),
        used: 12,
        reserved: 5,
        amount: 50,
        overridden: None,
        warned: None,
    }
}

fn report() -> Report {
    let denials = Denials {
        limit: limit(),
        denials: 3,
        shadow_denials: 0,
    };
    let counted = Counted {
        store: StoreState::None,
        counters: vec![reading()],
        limits: vec![denials],
        tokenless: vec![no_token()],
        deployments: vec![left_out()],
    };
    Report::new(("p1".to_owned(), "4f".to_owned()), counted)
}

fn left_out() -> DeploymentReport {
    DeploymentReport {
        backend: "team/foundry".to_owned(),
        deployment: "gpt-4o".to_owned(),
        state: "Out".to_owned(),
        reason: "NotThere".to_owned(),
        cause: "DeploymentNotFound".to_owned(),
        out_ms: Some(31_000),
        retry_in_ms: Some(0),
        in_flight: 1,
        failures_in_a_row: 2,
        first_byte_ms: None,
        utilisation_percent: Some(83),
        cached_input_percent: Some(61),
    }
}

fn no_token() -> NoToken {
    NoToken {
        backend: ObjectName::new("team", "foundry"),
        reason: "AADSTS700016; check clientID".to_owned(),
    }
}

#[test]
fn a_report_has_the_agreed_form_and_is_read_back() {
    let written = serde_json::to_value(report()).unwrap();
    let agreed = json!({
        "replica": "p1",
        "instance": "4f",
        "store": "none",
        "counters": [{
            "limit": "team/spend/day",
            "key": "abababababababababababababababab",
            "subject": "consumer=team/ann",
            "period_start_ms": 86_400_000,
            "used": 12,
            "reserved": 5,
            "amount": 50,
        }],
        "limits": [{"limit": "team/spend/day", "denials": 3, "shadow_denials": 0}],
        "tokenless": [{"backend": "team/foundry", "reason": "AADSTS700016; check clientID"}],
        "deployments": [{
            "backend": "team/foundry",
            "deployment": "gpt-4o",
            "state": "Out",
            "reason": "NotThere",
            "cause": "DeploymentNotFound",
            "out_ms": 31_000,
            "retry_in_ms": 0,
            "in_flight": 1,
            "failures_in_a_row": 2,
            "utilisation_percent": 83,
            "cached_input_percent": 61,
        }],
    });
    assert_eq!(written, agreed);
    let read: Report = serde_json::from_value(agreed).unwrap();
    assert_eq!(read, report());
    let counted = read.into_counted();
    assert_eq!(counted.counters, [reading()]);
    assert_eq!(counted.tokenless, [no_token()]);
    assert_eq!(counted.deployments, [left_out()]);
}

#[test]
fn deployments_are_read_from_older_and_newer_proxies() {
    let mut older = serde_json::to_value(report()).unwrap();
    older.as_object_mut().unwrap().remove("deployments");
    let read: Report = serde_json::from_value(older).unwrap();
    assert_eq!(read.into_counted().deployments, []);
    let newer = json!({
        "replica": "p1", "instance": "4f", "store": "ok",
        "deployments": [{"backend": "a/b", "deployment": "c", "state": "Haunted", "mood": "odd"}],
    });
    let read: Report = serde_json::from_value(newer).unwrap();
    let [one] = &read.into_counted().deployments[..] else {
        panic!("one deployment");
    };
    assert_eq!((one.state.as_str(), one.is_out()), ("Haunted", false));
}

#[test]
fn an_operator_that_does_not_know_deployments_reads_the_rest() {
    #[derive(Deserialize)]
    struct Older {
        replica: String,
        counters: Vec<Counter>,
    }
    let written = serde_json::to_vec(&report()).unwrap();
    let older: Older = serde_json::from_slice(&written).unwrap();
    assert_eq!((older.replica.as_str(), older.counters.len()), ("p1", 1));
}

#[test]
fn a_deployment_at_rest_has_no_number_that_moves() {
    let later = DeploymentReport {
        out_ms: Some(99_000),
        retry_in_ms: None,
        in_flight: 7,
        failures_in_a_row: 9,
        first_byte_ms: Some(3),
        utilisation_percent: None,
        cached_input_percent: None,
        ..left_out()
    };
    assert_eq!(later.at_rest(), left_out().at_rest());
    let other = DeploymentReport {
        reason: "Failing".to_owned(),
        ..left_out()
    };
    assert_ne!(other.at_rest(), left_out().at_rest());
}

#[test]
fn a_warning_stands_with_its_counter() {
    let warned = CounterReading {
        warned: Some(Reached {
            level: 80,
            used: 41,
            at_ms: 1_700_000_000_000,
        }),
        ..reading()
    };
    let id = ("p1".to_owned(), "4f".to_owned());
    let counted = Counted {
        counters: vec![warned.clone()],
        ..Counted::new(StoreState::Ok)
    };
    let report = Report::new(id, counted);
    let written = serde_json::to_value(&report).unwrap();
    let agreed = json!({"level": 80, "used": 41, "at_ms": 1_700_000_000_000_u64});
    assert_eq!(written["counters"][0]["warned"], agreed);
    let read: Report = serde_json::from_value(written).unwrap();
    assert_eq!(read.into_counted().counters, [warned]);
}

#[test]
fn a_report_of_a_newer_proxy_is_read_but_an_unknown_store_state_is_refused() {
    let newer = json!({
        "replica": "p1", "instance": "4f", "store": "ok", "mood": "good",
        "counters": [{"limit": "a/b/c", "key": "00".repeat(16), "used": 1, "colour": "red"}],
    });
    let read: Report = serde_json::from_value(newer.clone()).unwrap();
    let counted = read.into_counted();
    assert_eq!(counted.store, StoreState::Ok);
    assert!(counted.tokenless.is_empty());
    assert_eq!(counted.counters[0].period_start_ms, None);
    assert!(counted.limits.is_empty());
    for (field, odd) in [
        ("store", json!("haunted")),
        ("counters", json!([{"limit": "a/b"}])),
    ] {
        let mut report = newer.clone();
        report[field] = odd;
        assert!(serde_json::from_value::<Report>(report).is_err(), "{field}");
    }
}

#[test]
fn a_carried_line_has_the_agreed_form_and_is_read_back() {
    let carried = quota::Carried {
        limit: limit(),
        key: SubjectKey([1; 16]),
        period_start_ms: 7,
        amount: 9,
    };
    let line = Line::Carried(Carried {
        replicas: 2,
        entries: vec![carried.clone().into()],
    });
    let bytes = line.to_bytes().unwrap();
    let agreed = concat!(
        r#"{"type":"carried","replicas":2,"entries":[{"limit":"team/spend/day","#,
        r#""key":"01010101010101010101010101010101","period_start_ms":7,"amount":9}]}"#,
        "\n"
    );
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), agreed);
    let Line::Carried(read) = Line::parse(&bytes).unwrap() else {
        panic!("a carried line");
    };
    assert_eq!(quota::Carried::from(read.entries[0].clone()), carried);
}

#[test]
fn an_unknown_kind_of_line_differs_from_a_broken_line() {
    let novel = br#"{"type":"poem","text":"the tundish is full"}"#;
    assert!(matches!(Line::parse(novel), Err(DecodeError::Kind(kind)) if kind == "poem"));
    for broken in [&b"{}"[..], b"{\"type\":7}", b"{\"type\":\"carried\"}"] {
        assert!(matches!(Line::parse(broken), Err(DecodeError::Line(_))));
    }
}
