use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use proptest::prelude::*;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;
use tracing::info;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::{Entry, FULL, Lines, Stamp, line};
use crate::config::AccessLog;

/// 2026-11-26T16:24:57.857486Z
const END: i64 = 1_795_710_297_857_486;

const FULL_ENTRY: Entry<'static> = Entry {
    unix_micros: END,
    request_id: "aacd6a5658fb348a48aec491127b012b",
    operation: Some("ChatCompletions"),
    model: Some("gpt-4o"),
    consumer: Some("ann"),
    route: Some("default/chat"),
    rule: Some("chat"),
    backend: Some("default/sim"),
    deployment: Some("gpt-4o"),
    status: 200,
    code: "ok",
    stream: false,
    input_tokens: 7,
    cached_input_tokens: 0,
    cache_write_tokens: 0,
    output_tokens: 16,
    reasoning_tokens: 0,
    cost_micros: Some(178),
    unpriced: false,
    estimated: false,
    tries: 1,
    first_byte_ms: Some(12),
    duration_ms: 345,
};

/// A request that was refused before anything was known of it.
const BARE_ENTRY: Entry<'static> = Entry {
    operation: None,
    model: None,
    consumer: None,
    route: None,
    rule: None,
    backend: None,
    deployment: None,
    status: 404,
    code: "unknown_path",
    tries: 0,
    first_byte_ms: None,
    ..FULL_ENTRY
};

/// Keeps what it is given.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("text")
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn written(format: Format, entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    line(&mut out, format, &mut Stamp::default(), entry);
    String::from_utf8(out).expect("text")
}

fn check(format: Format, entry: &Entry<'_>, expect: &Expect) {
    expect.assert_eq(&written(format, entry));
}

#[test]
fn a_line_has_the_fields_of_its_request() {
    check(
        Format::Json,
        &FULL_ENTRY,
        &expect![[r#"
            {"timestamp":"2026-11-26T16:24:57.857486Z","level":"INFO","message":"request","request_id":"aacd6a5658fb348a48aec491127b012b","operation":"ChatCompletions","model":"gpt-4o","consumer":"ann","route":"default/chat","rule":"chat","backend":"default/sim","deployment":"gpt-4o","status":200,"code":"ok","stream":false,"input_tokens":7,"cached_input_tokens":0,"output_tokens":16,"cost_micros":178,"estimated":false,"tries":1,"first_byte_ms":12,"duration_ms":345,"target":"access"}
        "#]],
    );
    check(
        Format::Json,
        &BARE_ENTRY,
        &expect![[r#"
            {"timestamp":"2026-11-26T16:24:57.857486Z","level":"INFO","message":"request","request_id":"aacd6a5658fb348a48aec491127b012b","status":404,"code":"unknown_path","stream":false,"input_tokens":7,"cached_input_tokens":0,"output_tokens":16,"cost_micros":178,"estimated":false,"tries":0,"duration_ms":345,"target":"access"}
        "#]],
    );
    check(
        Format::Text,
        &FULL_ENTRY,
        &expect![[r#"
            2026-11-26T16:24:57.857486Z  INFO access: request request_id="aacd6a5658fb348a48aec491127b012b" operation="ChatCompletions" model="gpt-4o" consumer="ann" route="default/chat" rule="chat" backend="default/sim" deployment="gpt-4o" status=200 code="ok" stream=false input_tokens=7 cached_input_tokens=0 output_tokens=16 cost_micros=178 estimated=false tries=1 first_byte_ms=12 duration_ms=345
        "#]],
    );
    check(
        Format::Text,
        &BARE_ENTRY,
        &expect![[r#"
            2026-11-26T16:24:57.857486Z  INFO access: request request_id="aacd6a5658fb348a48aec491127b012b" status=404 code="unknown_path" stream=false input_tokens=7 cached_input_tokens=0 output_tokens=16 cost_micros=178 estimated=false tries=0 duration_ms=345
        "#]],
    );
}

#[test]
fn the_time_of_each_line_is_its_own() {
    let mut stamp = Stamp::default();
    for (unix_micros, expect) in [
        (END, "2026-11-26T16:24:57.857486Z"),
        (END + 1, "2026-11-26T16:24:57.857487Z"),
        (END + 142_514, "2026-11-26T16:24:58.000000Z"),
        // A clock that was set back.
        (END, "2026-11-26T16:24:57.857486Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (951_825_599_000_009, "2000-02-29T11:59:59.000009Z"),
    ] {
        let mut out = Vec::new();
        let entry = Entry {
            unix_micros,
            ..FULL_ENTRY
        };
        line(&mut out, Format::Text, &mut stamp, &entry);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.split(' ').next(), Some(expect));
    }
}

/// The time of every line of the oracle.
struct Fixed;

impl FormatTime for Fixed {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str("2026-11-26T16:24:57.857486Z")
    }
}

/// The line that `tracing`'s own layer writes.
fn traced(format: Format, entry: &Entry<'_>) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let builder = tracing_subscriber::fmt()
        .with_timer(Fixed)
        .with_writer(move || writer.clone());
    let some = |tokens: u64| (tokens > 0).then_some(tokens);
    let event = || {
        info!(
            target: "access",
            request_id = entry.request_id,
            operation = entry.operation,
            model = entry.model,
            consumer = entry.consumer,
            route = entry.route,
            rule = entry.rule,
            backend = entry.backend,
            deployment = entry.deployment,
            status = entry.status,
            code = entry.code,
            stream = entry.stream,
            input_tokens = entry.input_tokens,
            cached_input_tokens = entry.cached_input_tokens,
            cache_write_tokens = some(entry.cache_write_tokens),
            output_tokens = entry.output_tokens,
            reasoning_tokens = some(entry.reasoning_tokens),
            cost_micros = entry.cost_micros,
            cost = entry.unpriced.then_some("unknown"),
            estimated = entry.estimated,
            tries = entry.tries,
            first_byte_ms = entry.first_byte_ms,
            duration_ms = entry.duration_ms,
            "request"
        );
    };
    match format {
        Format::Json => {
            let json = builder.json().flatten_event(true).with_current_span(false);
            tracing::subscriber::with_default(json.finish(), event);
        }
        Format::Text => {
            tracing::subscriber::with_default(builder.with_ansi(false).finish(), event);
        }
    }
    kept.text()
}

proptest! {
    #[test]
    fn a_line_is_what_tracing_would_write(
        // What one of the formats escapes, and what none does.
        texts in proptest::collection::vec(
            proptest::option::of("[\"\\\\\\x00-\\x1f\\x7f-\\u{9f}'é\u{301}\u{200b}\u{2028}😀a-z /]{0,12}"),
            6,
        ),
        request_id in "[a-zA-Z0-9._-]{0,40}",
        numbers in any::<[u64; 4]>(),
        (status, tries, first_byte_ms) in any::<(u16, u8, Option<u64>)>(),
        (stream, estimated) in any::<(bool, bool)>(),
    ) {
        let text = |index: usize| texts[index].as_deref();
        let entry = Entry {
            unix_micros: END,
            request_id: &request_id,
            operation: FULL_ENTRY.operation.filter(|_| estimated),
            model: text(0),
            consumer: text(1),
            route: text(2),
            rule: text(3),
            backend: text(4),
            deployment: text(5),
            status,
            code: "ok",
            stream,
            input_tokens: numbers[0],
            cached_input_tokens: numbers[1],
            cache_write_tokens: numbers[3] % 2,
            output_tokens: numbers[2],
            reasoning_tokens: numbers[2] % 3,
            cost_micros: first_byte_ms.filter(|_| !stream),
            unpriced: stream,
            estimated,
            tries,
            first_byte_ms,
            duration_ms: numbers[3],
        };
        let json = written(Format::Json, &entry);
        prop_assert_eq!(&json, &traced(Format::Json, &entry));
        prop_assert_eq!(written(Format::Text, &entry), traced(Format::Text, &entry));
        let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(read.get("model").and_then(|model| model.as_str()), entry.model);
    }
}

fn lines(output: &Output, dropped: &Counter) -> Lines {
    let log = AccessLog {
        format: Format::Json,
        output: output.clone(),
    };
    Lines::new(&log, dropped.clone())
}

#[test]
fn lines_wait_until_the_buffer_is_full_is_flushed_or_ends() {
    let (kept, dropped) = (Kept::default(), Counter::default());
    let output = Output::new(kept.clone(), 1 << 20).expect("a thread");
    let lines = lines(&output, &dropped);
    let one = written(Format::Json, &FULL_ENTRY);
    let check = |count: usize| {
        assert!(output.flush(Duration::from_secs(20)));
        assert_eq!(kept.text(), one.repeat(count));
    };
    let fill = FULL.div_ceil(one.len());
    for _ in 1..fill {
        lines.write(&FULL_ENTRY);
    }
    check(0);
    lines.write(&FULL_ENTRY);
    check(fill);
    lines.write(&FULL_ENTRY);
    check(fill);
    lines.flush();
    check(fill + 1);
    lines.write(&FULL_ENTRY);
    drop(lines);
    check(fill + 2);
    assert_eq!(dropped.get(), 0);
}

#[test]
fn lines_that_the_output_does_not_take_are_counted() {
    let (kept, dropped) = (Kept::default(), Counter::default());
    let one = written(Format::Json, &FULL_ENTRY);
    let output = Output::new(kept.clone(), 2 * one.len()).expect("a thread");
    let lines = lines(&output, &dropped);
    for count in [3, 1] {
        for _ in 0..count {
            lines.write(&FULL_ENTRY);
        }
        lines.flush();
    }
    assert!(output.flush(Duration::from_secs(20)));
    assert_eq!(dropped.get(), 3);
    assert_eq!(kept.text(), one);
}
