use super::*;

fn line(second: u8, consumer: &str, model: &str, deployment: &str, code: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-01T10:00:{second:02}Z","target":"access","v":2,"duration_ms":5,"code":"{code}",
        "operation":"ChatCompletions","model":"{model}","consumer":"{consumer}","backend":"ns/eu",
        "deployment":"{deployment}","input_tokens":10,"output_tokens":5}}"#
    )
    .replace('\n', "")
}

fn log() -> String {
    let lines = [
        line(3, "team/search", "gpt-4o", "old", "ok"),
        line(1, "team/search", "gpt-4o", "older", "ok"),
        line(2, "team/chat", "gpt-4o", "old", "rate_limited"),
        line(4, "team/chat", "gpt-5", "new", "ok"),
        r#"{"timestamp":"2026-11-01T10:00:00Z","target":"other"}"#.to_owned(),
        "no JSON".to_owned(),
    ];
    lines.join("\n")
}

fn of(model: Option<&str>) -> Calls {
    let mut count = Count::default();
    count.read(log().as_bytes(), model).unwrap();
    count.calls()
}

#[test]
fn callers_of_a_model_by_calls_with_share_and_last_call() {
    let calls = of(Some("gpt-4o"));
    assert_eq!((calls.calls, calls.broken_lines), (3, 1));
    assert_eq!(
        lines(&calls),
        [
            "CONSUMER     MODEL   DEPLOYMENT   CALLS  SHARE   TOKENS  FAILED  LAST SEEN",
            "team/chat    gpt-4o  ns/eu/old    1      33.3 %  15      1       2026-11-01T10:00:02Z",
            "team/search  gpt-4o  ns/eu/old    1      33.3 %  15      0       2026-11-01T10:00:03Z",
            "team/search  gpt-4o  ns/eu/older  1      33.3 %  15      0       2026-11-01T10:00:01Z",
        ]
    );
}

#[test]
fn a_deployment_is_a_name_of_its_model_and_without_a_name_all_are_shown() {
    assert_eq!(of(Some("new")).callers.len(), 1);
    assert_eq!(of(Some("older")).calls, 1);
    assert_eq!(of(Some("gpt-4")).calls, 0);
    assert_eq!(of(Some("ns/eu/old")).calls, 2);
    assert_eq!(of(None).callers.len(), 4);
}

#[test]
fn a_newer_log_is_refused() {
    let newer = r#"{"timestamp":"2026-11-01T10:00:00Z","target":"access","v":99,"duration_ms":1,"code":"ok"}"#;
    let error = Count::default().read(newer.as_bytes(), None).unwrap_err();
    assert!(error.to_string().contains("version 99"), "{error}");
}
