use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;
use proxy_core::table::Table;
use serde_json::{Value, json};

use super::replay;
use super::report::{LimitReport, Report, Skipped};
use crate::args::{NamespaceArgs, Output, OutputArgs, SimulateArgs};
use crate::manifests::Folder;

const OBJECTS: &str = "\
apiVersion: tundish.dev/v1alpha1
kind: AIBackend
metadata: {name: sim}
spec:
  type: Foundry
  endpoint: https://sim.example
  auth: {type: APIKey, apiKey: {secretRef: {name: sim}}}
  deployments:
  - {name: gpt-4o, model: gpt-4o, price: {inputPerMillion: 1000000, outputPerMillion: 3000000}}
---
apiVersion: v1
kind: Secret
metadata: {name: sim}
stringData: {api-key: k}
---
apiVersion: v1
kind: Secret
metadata: {name: ada, labels: {keys: chat, attributes.tundish.dev/team: search}}
stringData: {key: key-of-ada}
---
apiVersion: v1
kind: Secret
metadata: {name: bob, labels: {keys: chat}}
stringData: {key: key-of-bob}
---
apiVersion: tundish.dev/v1alpha1
kind: AIRoute
metadata: {name: chat}
spec:
  hostnames: [ai.example]
  authentication: {apiKeys: {secretSelector: {matchLabels: {keys: chat}}}}
  rules:
  - name: all
    matches: [{models: ['gpt-*'], headers: [{name: x-tier, value: gold}]}]
    backendRefs: [{name: sim, deployment: gpt-4o}]
";

/// An AIQuota per consumer with one limit.
fn quota(name: &str, limit: &str, more: &str) -> String {
    format!(
        "---
apiVersion: tundish.dev/v1alpha1
kind: AIQuota
metadata: {{name: {name}}}
spec:
  per: [Consumer]
  {more}
  limits: [{{name: it, {limit}}}]
"
    )
}

fn table(quotas: &str) -> Table {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("all.yaml"), format!("{OBJECTS}{quotas}")).expect("written");
    let mut folder = Folder::new(dir.path(), "tundish-system", Vec::new());
    folder.refresh().expect("a folder");
    let outcome = folder.compile();
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    Table::new(outcome.compiled.contents)
}

/// 2026-03-02T12:00:00Z, a Monday.
const NOON_MS: i64 = 1_772_452_800_000;

/// A line of ada's that begins `at_ms` after noon, lasts `lasts_ms` and uses `tokens`.
fn line(at_ms: i64, lasts_ms: i64, tokens: u64) -> Value {
    let end = Timestamp::from_millisecond(NOON_MS + at_ms + lasts_ms).expect("a time");
    json!({
        "timestamp": format!("{end:.6}"), "level": "INFO", "message": "request",
        "request_id": format!("r{at_ms}"), "operation": "ChatCompletions", "model": "gpt-4o",
        "consumer": "ada", "route": "default/chat", "rule": "all", "backend": "default/sim",
        "deployment": "gpt-4o", "status": 200, "code": "ok", "stream": false,
        "input_tokens": tokens / 2, "cached_input_tokens": 0, "output_tokens": tokens - tokens / 2,
        "estimated": false, "tries": 1, "duration_ms": lasts_ms, "target": "access",
    })
}

fn with(mut line: Value, field: &str, value: impl Into<Value>) -> Value {
    let fields = line.as_object_mut().expect("an object");
    fields.insert(field.to_owned(), value.into());
    line
}

fn refused(line: Value, code: &str) -> Value {
    let line = with(with(line, "code", code), "input_tokens", 0);
    with(line, "output_tokens", 0)
}

fn args(log: &Path) -> SimulateArgs {
    SimulateArgs {
        log: log.to_owned(),
        manifests: PathBuf::new(),
        namespace: NamespaceArgs {
            name: "tundish-system".to_owned(),
            host_grants: Vec::new(),
            backend_hosts: Vec::new(),
        },
        host: None,
        replicas: 1,
        denials: usize::MAX,
        progress: false,
        output: OutputArgs {
            format: Output::Text,
        },
    }
}

fn run_text(quotas: &str, text: &str, change: impl FnOnce(&mut SimulateArgs)) -> Report {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    let mut args = args(file.path());
    change(&mut args);
    replay(&args, &table(quotas)).expect("replayed")
}

fn run(quotas: &str, lines: &[Value]) -> Report {
    let text = lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a text");
        text
    });
    run_text(quotas, &text, |_| {})
}

/// Lines and limits of the denials.
fn denials(report: &Report) -> Vec<(u64, &str)> {
    let all = report.denials.iter();
    all.map(|one| (one.line, one.limit.as_str())).collect()
}

fn skipped(report: &Report) -> Vec<(Skipped, &str, u64)> {
    let all = report.skipped.iter();
    all.map(|one| (one.reason, &*one.code, one.count)).collect()
}

fn limit<'a>(report: &'a Report, name: &str) -> &'a LimitReport {
    let mut all = report.limits.iter();
    all.find(|one| one.name == name).expect("a limit")
}

#[test]
fn reports_the_denied_requests_with_time_and_limit() {
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "")
        + &quota("many", "unit: Requests, limit: 3, window: Minute", "");
    let lines = [
        line(0, 10, 60),
        with(line(1_000, 10, 60), "consumer", "bob"),
        line(2_000, 10, 60),
        line(3_000, 10, 20),
        line(4_000, 10, 20),
        line(5_000, 10, 1),
        line(90_000, 10, 60),
    ];
    let report = run(&quotas, &lines);
    assert_eq!(
        denials(&report),
        [(3, "default/tokens/it"), (6, "default/many/it")]
    );
    assert_eq!((report.replayed, report.admitted, report.denied), (7, 5, 2));
    let [first, second] = report.denials.as_slice() else {
        panic!("two denials");
    };
    assert_eq!(first.time, "2026-03-02T12:00:02.000Z");
    assert_eq!((&*first.consumer, &*first.request_id), ("ada", "r2000"));
    assert_eq!(
        (first.code, second.code),
        ("quota_exceeded", "rate_limited")
    );
    // The bucket of the first request leaves the minute within the second after it.
    let wait = first.wait_ms.expect("a wait");
    assert!((58_000..=60_000).contains(&wait), "{wait}");
    let tokens = limit(&report, "default/tokens/it");
    assert_eq!((tokens.denied, tokens.longest_wait_ms), (1, Some(wait)));
    assert_eq!(tokens.first, tokens.last);
    assert_eq!(
        report.log.first.as_deref(),
        Some("2026-03-02T12:00:00.000Z")
    );
    assert_eq!(report.log.last.as_deref(), Some("2026-03-02T12:01:30.010Z"));
}

#[test]
fn a_request_beyond_the_whole_limit_never_fits() {
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "");
    let report = run(&quotas, &[line(0, 10, 101)]);
    assert_eq!(report.denials.first().map(|one| one.wait_ms), Some(None));
    assert_eq!(limit(&report, "default/tokens/it").never_fit, 1);
    assert!(report.to_string().contains("never (1)"), "{report}");
}

#[test]
fn a_shadowed_limit_is_counted_and_denies_nothing() {
    let quotas = quota(
        "soft",
        "unit: Tokens, limit: 100, window: Minute",
        "mode: Shadow",
    );
    let report = run(&quotas, &[line(0, 10, 60), line(1_000, 10, 60)]);
    assert_eq!(
        (report.admitted, report.denied, report.shadow_denied),
        (2, 0, 1)
    );
    let soft = limit(&report, "default/soft/it");
    assert_eq!(
        (soft.mode, soft.denied, soft.longest_wait_ms),
        ("Shadow", 1, None)
    );
    assert_eq!(soft.first.as_deref(), Some("2026-03-02T12:00:01.000Z"));
    assert!(report.denials.is_empty());
}

#[test]
fn concurrency_counts_overlapping_requests_of_a_log_in_the_order_of_ends() {
    let quotas = quota("places", "unit: Concurrency, limit: 2", "");
    // The first line begins last; the last one begins first and runs all the time.
    let lines = [
        line(3_000, 1_000, 1),
        line(2_000, 3_000, 1),
        line(5_000, 500, 1),
        line(1_000, 60_000, 1),
    ];
    let report = run(&quotas, &lines);
    assert_eq!(denials(&report), [(1, "default/places/it")]);
    assert_eq!(
        report.denials.first().map(|one| one.code),
        Some("concurrency_exceeded")
    );
    assert_eq!(report.late, 0);
}

#[test]
fn a_day_ends_at_midnight_of_its_zone() {
    let limit = "unit: Requests, limit: 1, window: Day, timeZone: America/New_York";
    let quotas = quota("day", limit, "");
    // Midnight in New York is 05:00 UTC: 17 hours after noon.
    let hour = 3_600_000;
    let lines = [
        line(0, 1, 1),
        line(12 * hour, 1, 1),
        line(17 * hour - 1, 1, 1),
        line(17 * hour, 1, 1),
    ];
    let report = run(&quotas, &lines);
    assert_eq!(
        denials(&report),
        [(2, "default/day/it"), (3, "default/day/it")]
    );
    let waits: Vec<_> = report.denials.iter().map(|one| one.wait_ms).collect();
    assert_eq!(waits, [Some(5 * 3_600_000), Some(1)]);
}

#[test]
fn requests_that_a_limit_refused_are_replayed_as_the_median_of_the_others() {
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "");
    let lines = [
        line(0, 10, 10),
        line(1_000, 10, 50),
        line(2_000, 10, 30),
        refused(line(3_000, 0, 0), "rate_limited"),
        refused(line(4_000, 0, 0), "quota_exceeded"),
        refused(with(line(5_000, 0, 0), "model", "gpt-5"), "rate_limited"),
    ];
    let report = run(&quotas, &lines);
    // 90 are used; 30 more do not fit.
    assert_eq!((report.replayed, report.denied), (5, 2));
    assert_eq!(
        skipped(&report),
        [(Skipped::NoUsageKnown, "rate_limited", 1)]
    );
    let wide = run("", &lines);
    assert_eq!((wide.admitted, wide.denied), (5, 0));
}

#[test]
fn other_refusals_are_skipped_and_counted() {
    let null = |line, field| with(line, field, Value::Null);
    let lines = [
        refused(null(line(0, 1, 0), "consumer"), "invalid_credential"),
        refused(line(1, 1, 0), "upstream_unreachable"),
        refused(null(line(2, 1, 0), "rule"), "client_aborted"),
        with(line(3, 1, 0), "operation", "Models"),
        // It was billed, so it counts.
        with(line(4, 1, 7), "code", "upstream_timeout"),
    ];
    let report = run("", &lines);
    assert_eq!(report.replayed, 1);
    assert_eq!(
        skipped(&report),
        [
            (Skipped::AnsweredByGateway, "ok", 1),
            (Skipped::RefusedInLog, "invalid_credential", 1),
            (Skipped::RefusedInLog, "upstream_unreachable", 1),
            (Skipped::NotAdmitted, "client_aborted", 1),
        ]
    );
}

#[test]
fn a_released_reservation_counts_only_while_its_request_runs() {
    let quotas = quota("many", "unit: Requests, limit: 1, window: Minute", "");
    let failed = refused(line(0, 1_000, 0), "upstream_error");
    let lines = [line(500, 10, 1), failed, line(2_000, 10, 1)];
    assert_eq!(denials(&run(&quotas, &lines)), [(1, "default/many/it")]);
}

#[test]
fn callers_without_an_object_are_reported() {
    let lines = [
        with(line(0, 1, 1), "consumer", "eve"),
        with(line(1, 1, 1), "consumer", "key-0badcafe0badcafe"),
        with(line(2, 1, 1), "consumer", "anonymous"),
        with(line(3, 1, 1), "model", "phi-4"),
    ];
    let report = run("", &lines);
    let shown: Vec<_> = report
        .refused
        .iter()
        .map(|one| (one.code, one.count))
        .collect();
    assert_eq!(
        shown,
        [
            ("invalid_credential", 1),
            ("missing_credential", 1),
            ("model_not_found", 1),
            ("no_such_consumer", 1),
        ]
    );
    assert_eq!((report.replayed, report.admitted), (4, 0));
    assert!(
        report.to_string().contains("no_such_consumer: eve 1"),
        "{report}"
    );
}

#[test]
fn a_fingerprint_whose_key_has_a_secret_now_is_that_consumer() {
    let name = proxy_core::auth::KeyDigest::of("key-of-bob").fingerprint();
    let report = run("", &[with(line(0, 1, 1), "consumer", name)]);
    assert_eq!(report.admitted, 1);
}

#[test]
fn the_host_can_be_given() {
    let text = line(0, 1, 1).to_string();
    let report = run_text("", &text, |args| {
        args.host = Some("other.example".to_owned())
    });
    let shown: Vec<_> = report.refused.iter().map(|one| one.code).collect();
    assert_eq!(shown, ["route_not_found"]);
}

#[test]
fn replicas_divide_the_limits() {
    let quotas = quota("many", "unit: Requests, limit: 5, window: Minute", "");
    let text = format!("{}\n{}\n{}\n", line(0, 1, 1), line(1, 1, 1), line(2, 1, 1));
    let report = run_text(&quotas, &text, |args| args.replicas = 2);
    assert_eq!(limit(&report, "default/many/it").amount, 2);
    assert_eq!(report.denied, 1);
}

/// The same request as the gateway writes it since version 2.
fn of_version_2(line: Value) -> Value {
    let line = with(with(line, "v", 2), "client", "203.0.113.9");
    let line = with(
        line,
        "attempts",
        json!([{"backend": "default/sim", "status": 429}]),
    );
    with(
        with(line, "held_input_tokens", 9),
        "shadow_limits",
        json!(["a/b/c"]),
    )
}

#[test]
fn lines_of_both_versions_replay_alike() {
    let quotas = quota("few", "unit: Requests, limit: 1, window: Minute", "");
    let [first, second, third] = [0, 20, 40].map(|at| line(at, 10, 100));
    let old = run(&quotas, &[first.clone(), second.clone(), third.clone()]);
    assert_eq!(old.denied, 2);
    let mixed = [first, of_version_2(second), of_version_2(third)];
    assert_eq!(run(&quotas, &mixed).to_string(), old.to_string());
}

#[test]
fn a_request_asks_for_what_was_held_for_it() {
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "");
    let held = |at, lasts| {
        let line = with(line(at, lasts, 10), "held_input_tokens", 20);
        with(with(line, "held_output_tokens", 40), "v", 2)
    };
    // The second one comes while the first one holds 60 of 100, the third one after it has used 10.
    let lines = [held(0, 5_000), held(1_000, 10), held(9_000, 10)];
    assert_eq!(denials(&run(&quotas, &lines)), [(2, "default/tokens/it")]);
    let old = [line(0, 5_000, 10), line(1_000, 10, 10), line(9_000, 10, 10)];
    assert!(denials(&run(&quotas, &old)).is_empty(), "it is not known");
    // One that was refused asks for what its consumer's others held.
    let refused = refused(held(1_000, 10), "rate_limited");
    let lines = [held(0, 5_000), refused, held(9_000, 10)];
    assert_eq!(denials(&run(&quotas, &lines)), [(2, "default/tokens/it")]);
}

#[test]
fn a_newer_version_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let newer = json!({"target": "access", "v": 3, "something": "else"});
    let text = format!("{}\n{newer}\n", line(0, 10, 100));
    fs::write(file.path(), text).expect("written");
    let error = replay(&args(file.path()), &table("")).expect_err("a newer version");
    let error = format!("{error:#}");
    assert!(
        error.contains("line 2: the fields of the access log have version 3"),
        "{error}"
    );
    assert!(error.contains("reads versions 1 to 2"), "{error}");
}

#[test]
fn broken_lines_are_reported_by_number_and_stop_nothing() {
    let good = line(0, 1, 1);
    let other = json!({"timestamp": "x", "message": "stopped", "target": "proxy::app"});
    let no_time = with(line(0, 1, 1), "timestamp", "yesterday");
    let long = with(line(0, 1, 1), "model", "x".repeat(2 << 20));
    let text = format!("{good}\n\n{other}\nhello\n{no_time}\n{long}\n{good}\n{{\n{{\n{{\n{{");
    let report = run_text("", &text, |_| {});
    let log = &report.log;
    assert_eq!((log.lines, log.requests, log.other_lines), (11, 2, 1));
    assert_eq!(log.broken_lines, 7);
    let lines: Vec<_> = log.broken.iter().map(|one| one.line).collect();
    assert_eq!(lines, [4, 5, 6, 8, 9]);
    let shown = report.to_string();
    assert!(
        shown.contains("line 4: expected value (column 1)"),
        "{shown}"
    );
    assert!(shown.contains("line 6: longer than 1 MiB"), "{shown}");
    assert_eq!(report.admitted, 2);
}

#[test]
fn a_request_longer_than_the_window_is_replayed_late_and_reported() {
    let minute = 60_000;
    let lines = [
        line(0, 1, 1),
        line(30 * minute, 1, 1),
        line(15 * minute, 16 * minute, 1),
    ];
    assert_eq!(
        run("", &lines).late,
        0,
        "nothing was replayed beyond it yet"
    );
    let lines = [
        line(0, 1, 1),
        line(30 * minute, 1, 1),
        line(41 * minute, 1, 1),
        line(15 * minute, 27 * minute, 1),
    ];
    let report = run("", &lines);
    assert_eq!((report.late, report.admitted), (1, 4));
}

#[test]
fn the_report_reads_well() {
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "");
    let report = run(&quotas, &[line(0, 10, 60), line(500, 10, 60)]);
    let shown = report.to_string();
    let lines: Vec<_> = shown.lines().collect();
    let expected = [
        "2 requests from 2026-03-02T12:00:00.000Z to 2026-03-02T12:00:00.510Z",
        "  replayed               2",
        "  admitted               1",
        "  denied                 1  by a limit",
        "  shadow-denied          0  admitted; a limit in Shadow would have refused",
        "",
        "LIMIT              MODE     DENIED  CONSUMERS  FIRST                     LAST                      \
         LONGEST WAIT",
        "default/tokens/it  Enforce  1       ada 1      2026-03-02T12:00:00.500Z  2026-03-02T12:00:00.500Z  \
         60.5 s",
        "",
        "the denials",
        "TIME                      LINE  CONSUMER  MODEL   LIMIT              WAIT",
        "2026-03-02T12:00:00.500Z  2     ada       gpt-4o  default/tokens/it  60.5 s",
    ];
    assert_eq!(lines, expected);
    let value = serde_json::to_value(&report).expect("JSON");
    assert_eq!(
        value.pointer("/limits/0/consumers/0/name"),
        Some(&json!("ada"))
    );
    assert_eq!(
        value.pointer("/denials/0/limit"),
        Some(&json!("default/tokens/it"))
    );
}

#[test]
fn a_limit_on_cost_is_replayed_by_the_prices_of_the_folder() {
    let quotas = quota("money", "unit: CostMicros, limit: 300, window: Minute", "");
    // 30 input and 30 output tokens each: 120 micros.
    let lines = [line(0, 10, 60), line(500, 10, 60), line(900, 10, 60)];
    let report = run(&quotas, &lines);
    assert_eq!((report.admitted, report.denied, report.unpriced), (2, 1, 0));
}

#[test]
fn the_median_of_many_is_that_of_an_even_sample() {
    let mut lines: Vec<_> = (0..3_001)
        .map(|n| line(n, 1, u64::try_from(n).expect("few")))
        .collect();
    lines.push(refused(line(4_500, 0, 0), "rate_limited"));
    // 1,500 is the median; the nearest of a sample of one in eight is at most eight away.
    for (amount, denied) in [(1_490, true), (1_510, false)] {
        let limit = format!("unit: Tokens, limit: {amount}, window: Second");
        let report = run(&quota("t", &limit, ""), &lines);
        let last = report.denials.last().map(|one| one.line);
        assert_eq!(last == Some(3_002), denied, "{amount}");
    }
}

#[test]
fn text_of_callers_cannot_steer_the_terminal() {
    let model = format!("gpt-\u{1b}[2J{}", "x".repeat(500));
    let quotas = quota("tokens", "unit: Tokens, limit: 100, window: Minute", "");
    let report = run(&quotas, &[with(line(0, 10, 101), "model", model.clone())]);
    let shown = report.to_string();
    assert!(
        shown.contains("gpt-?[2Jxxx") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.len() < 300), "{shown}");
    let kept = report.denials.first().and_then(|one| one.model.clone());
    assert_eq!(kept, Some(model), "the JSON has it whole");
}

#[derive(Clone, Debug)]
struct Step {
    at_ms: i64,
    lasts_ms: i64,
    tokens: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0i64..240_000, 0i64..30_000, 0u64..60).prop_map(|(at_ms, lasts_ms, tokens)| Step {
        at_ms,
        lasts_ms,
        tokens,
    });
    prop::collection::vec(step, 1..60).prop_map(|mut all| {
        all.sort_by_key(|step| step.at_ms + step.lasts_ms);
        all
    })
}

fn logged(steps: &[Step]) -> Vec<Value> {
    let each = steps.iter();
    each.map(|step| line(step.at_ms, step.lasts_ms, step.tokens))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_limits_nothing_is_denied(all in steps()) {
        let report = run("", &logged(&all));
        prop_assert_eq!(report.admitted, u64::try_from(all.len()).expect("few"));
        prop_assert_eq!((report.denied, report.late), (0, 0));
    }

    #[test]
    fn no_minute_admits_more_than_the_limit(all in steps()) {
        let report = run(&quota("t", "unit: Tokens, limit: 100, window: Minute", ""), &logged(&all));
        let denied: Vec<u64> = report.denials.iter().map(|one| one.line).collect();
        prop_assert_eq!(report.admitted + report.denied, u64::try_from(all.len()).expect("few"));
        let admitted: Vec<&Step> = (1u64..)
            .zip(&all)
            .filter(|(line, _)| !denied.contains(line))
            .map(|(_, step)| step)
            .collect();
        for first in &admitted {
            let minute = first.at_ms..first.at_ms + 60_000;
            let within = admitted.iter().filter(|step| minute.contains(&step.at_ms));
            let sum: u64 = within.map(|step| step.tokens).sum();
            prop_assert!(sum <= 100, "{} in the minute from {}", sum, first.at_ms);
        }
    }
}
