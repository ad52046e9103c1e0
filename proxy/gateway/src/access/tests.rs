use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use proptest::prelude::*;
use proxy_admin::output::Output;
use proxy_admin::telemetry::Format;
use proxy_core::names::Class;
use proxy_core::quota::LimitName;
use tracing::info;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::{Attempt, Entry, FULL, Lines, Stamp, line};
use crate::config::AccessLog;
use crate::detail::Detail;
use crate::fields::Fields;

mod fields;

/// 2026-11-26T16:24:57.857486Z
const END: i64 = 1_795_710_297_857_486;

const FULL_ENTRY: Entry<'static> = Entry {
    unix_micros: END,
    request_id: "aacd6a5658fb348a48aec491127b012b",
    head: b"",
    dialect: Some("OpenAI"),
    operation: Some("ChatCompletions"),
    model: Some("gpt-4o"),
    consumer: Some("ann"),
    route: Some("default/chat"),
    rule: Some("chat"),
    class: Class::Standard,
    backend: Some("default/sim"),
    deployment: Some("gpt-4o"),
    status: 200,
    code: "ok",
    limit: None,
    shadow_limits: &[],
    stream: false,
    held_tokens: Some([9, 100]),
    input_tokens: 7,
    cached_input_tokens: 0,
    cache_write_tokens: 0,
    output_tokens: 16,
    reasoning_tokens: 0,
    cost_micros: Some(178),
    unpriced: false,
    estimated: false,
    bytes_in: 120,
    bytes_out: 640,
    tries: 1,
    attempts: &[],
    upstream_id: b"",
    upstream_ms: Some(11),
    first_byte_ms: Some(12),
    duration_ms: 345,
};

/// A request that was refused before anything was known of it.
const BARE_ENTRY: Entry<'static> = Entry {
    dialect: None,
    operation: None,
    model: None,
    consumer: None,
    route: None,
    rule: None,
    backend: None,
    deployment: None,
    status: 404,
    code: "unknown_path",
    held_tokens: None,
    bytes_in: 0,
    tries: 0,
    upstream_ms: None,
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
            {"timestamp":"2026-11-26T16:24:57.857486Z","level":"INFO","message":"request","v":2,"request_id":"aacd6a5658fb348a48aec491127b012b","dialect":"OpenAI","operation":"ChatCompletions","model":"gpt-4o","consumer":"ann","route":"default/chat","rule":"chat","backend":"default/sim","deployment":"gpt-4o","status":200,"code":"ok","stream":false,"held_input_tokens":9,"held_output_tokens":100,"input_tokens":7,"cached_input_tokens":0,"output_tokens":16,"cost_micros":178,"estimated":false,"bytes_in":120,"bytes_out":640,"tries":1,"upstream_ms":11,"first_byte_ms":12,"duration_ms":345,"target":"access"}
        "#]],
    );
    check(
        Format::Json,
        &BARE_ENTRY,
        &expect![[r#"
            {"timestamp":"2026-11-26T16:24:57.857486Z","level":"INFO","message":"request","v":2,"request_id":"aacd6a5658fb348a48aec491127b012b","status":404,"code":"unknown_path","stream":false,"input_tokens":7,"cached_input_tokens":0,"output_tokens":16,"cost_micros":178,"estimated":false,"bytes_in":0,"bytes_out":640,"tries":0,"duration_ms":345,"target":"access"}
        "#]],
    );
    check(
        Format::Text,
        &FULL_ENTRY,
        &expect![[r#"
            2026-11-26T16:24:57.857486Z  INFO access: request v=2 request_id="aacd6a5658fb348a48aec491127b012b" dialect="OpenAI" operation="ChatCompletions" model="gpt-4o" consumer="ann" route="default/chat" rule="chat" backend="default/sim" deployment="gpt-4o" status=200 code="ok" stream=false held_input_tokens=9 held_output_tokens=100 input_tokens=7 cached_input_tokens=0 output_tokens=16 cost_micros=178 estimated=false bytes_in=120 bytes_out=640 tries=1 upstream_ms=11 first_byte_ms=12 duration_ms=345
        "#]],
    );
    check(
        Format::Text,
        &BARE_ENTRY,
        &expect![[r#"
            2026-11-26T16:24:57.857486Z  INFO access: request v=2 request_id="aacd6a5658fb348a48aec491127b012b" status=404 code="unknown_path" stream=false input_tokens=7 cached_input_tokens=0 output_tokens=16 cost_micros=178 estimated=false bytes_in=0 bytes_out=640 tries=0 duration_ms=345
        "#]],
    );
}

/// A request that failed once, from a client that sends what needs escapes.
fn retried(format: Format) -> (Detail, Vec<Attempt>) {
    let request = http::Request::post("/v1/chat/completions?api-key=secret")
        .header("host", "ai.example.com")
        .header("user-agent", "a \"b\"\\c");
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let mut detail = Detail::of(
        &parts,
        &Fields::of(&parts.headers),
        "203.0.113.9".parse().expect("an address"),
        format,
    );
    let own = http::HeaderValue::from_static("req-1");
    detail.answered(&http::HeaderMap::new(), Some(&own));
    let failed = Attempt {
        backend: "default/west".into(),
        deployment: "gpt-4o".into(),
        status: None,
        cause: Some("upstream_unreachable"),
        error: Some(Attempt::bounded("connect: \"refused\"")),
        millis: 3,
    };
    let answered = Attempt {
        backend: "default/sim".into(),
        status: Some(200),
        cause: None,
        error: None,
        millis: 11,
        ..failed.clone()
    };
    (detail, vec![failed, answered])
}

fn limits() -> Vec<LimitName> {
    let name = |text| LimitName::parse(text).expect("a name");
    ["ns/q/day", "ns/q/hour"].map(name).to_vec()
}

#[test]
fn a_line_has_the_head_the_limits_and_the_tries() {
    let limits = limits();
    let check = |format, expect| {
        let (detail, attempts) = retried(format);
        let entry = Entry {
            head: detail.head(),
            upstream_id: detail.upstream_id(),
            limit: limits.first(),
            shadow_limits: &limits,
            attempts: &attempts,
            class: Class::Batch,
            tries: 2,
            ..FULL_ENTRY
        };
        check(format, &entry, expect);
    };
    check(
        Format::Json,
        &expect![[r#"
            {"timestamp":"2026-11-26T16:24:57.857486Z","level":"INFO","message":"request","v":2,"request_id":"aacd6a5658fb348a48aec491127b012b","client":"203.0.113.9","protocol":"HTTP/1.1","method":"POST","host":"ai.example.com","path":"/v1/chat/completions","user_agent":"a \"b\"\\c","dialect":"OpenAI","operation":"ChatCompletions","model":"gpt-4o","consumer":"ann","route":"default/chat","rule":"chat","class":"Batch","backend":"default/sim","deployment":"gpt-4o","status":200,"code":"ok","limit":"ns/q/day","shadow_limits":["ns/q/day","ns/q/hour"],"stream":false,"held_input_tokens":9,"held_output_tokens":100,"input_tokens":7,"cached_input_tokens":0,"output_tokens":16,"cost_micros":178,"estimated":false,"bytes_in":120,"bytes_out":640,"tries":2,"attempts":[{"backend":"default/west","deployment":"gpt-4o","cause":"upstream_unreachable","error":"connect: \"refused\"","ms":3},{"backend":"default/sim","deployment":"gpt-4o","status":200,"ms":11}],"upstream_request_id":"req-1","upstream_ms":11,"first_byte_ms":12,"duration_ms":345,"target":"access"}
        "#]],
    );
    check(
        Format::Text,
        &expect![[r#"
            2026-11-26T16:24:57.857486Z  INFO access: request v=2 request_id="aacd6a5658fb348a48aec491127b012b" client="203.0.113.9" protocol="HTTP/1.1" method="POST" host="ai.example.com" path="/v1/chat/completions" user_agent="a \"b\"\\c" dialect="OpenAI" operation="ChatCompletions" model="gpt-4o" consumer="ann" route="default/chat" rule="chat" class="Batch" backend="default/sim" deployment="gpt-4o" status=200 code="ok" limit="ns/q/day" shadow_limits="ns/q/day ns/q/hour" stream=false held_input_tokens=9 held_output_tokens=100 input_tokens=7 cached_input_tokens=0 output_tokens=16 cost_micros=178 estimated=false bytes_in=120 bytes_out=640 tries=2 attempts="default/west gpt-4o upstream_unreachable (connect: \"refused\") 3 ms; default/sim gpt-4o 200 11 ms" upstream_request_id="req-1" upstream_ms=11 first_byte_ms=12 duration_ms=345
        "#]],
    );
}

#[test]
fn what_is_no_text_is_still_json() {
    let request = http::Request::get("/v1/models").header("host", "h").header(
        "user-agent",
        http::HeaderValue::from_bytes(b"\xff\x80x").expect("a value"),
    );
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let detail = Detail::of(
        &parts,
        &Fields::of(&parts.headers),
        "2001:db8::1".parse().expect("an address"),
        Format::Json,
    );
    let entry = Entry {
        head: detail.head(),
        ..BARE_ENTRY
    };
    let line: serde_json::Value =
        serde_json::from_str(&written(Format::Json, &entry)).expect("JSON");
    assert_eq!(line["user_agent"], "\u{fffd}\u{fffd}x");
    assert_eq!(line["client"], "2001:db8::1");
    // What could not be read as HTTP at all.
    let unread = Detail::unread("::1".parse().expect("an address"), Format::Json);
    let entry = Entry {
        head: unread.head(),
        ..BARE_ENTRY
    };
    let line: serde_json::Value =
        serde_json::from_str(&written(Format::Json, &entry)).expect("JSON");
    assert_eq!(line["client"], "::1");
    assert_eq!(line.get("method"), None);
}

#[test]
fn the_text_of_a_failure_has_a_bound() {
    let long = "é".repeat(200);
    assert_eq!(Attempt::bounded(&long).len(), 200);
    assert_eq!(&*Attempt::bounded("short"), "short");
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
            v = 2,
            request_id = entry.request_id,
            dialect = entry.dialect,
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
            held_input_tokens = entry.held_tokens.map(|held| held[0]),
            held_output_tokens = entry.held_tokens.map(|held| held[1]),
            input_tokens = entry.input_tokens,
            cached_input_tokens = entry.cached_input_tokens,
            cache_write_tokens = some(entry.cache_write_tokens),
            output_tokens = entry.output_tokens,
            reasoning_tokens = some(entry.reasoning_tokens),
            cost_micros = entry.cost_micros,
            cost = entry.unpriced.then_some("unknown"),
            estimated = entry.estimated,
            bytes_in = entry.bytes_in,
            bytes_out = entry.bytes_out,
            tries = entry.tries,
            upstream_ms = entry.upstream_ms,
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
            head: b"",
            dialect: FULL_ENTRY.dialect.filter(|_| stream),
            operation: FULL_ENTRY.operation.filter(|_| estimated),
            model: text(0),
            consumer: text(1),
            route: text(2),
            rule: text(3),
            class: Class::Standard,
            backend: text(4),
            deployment: text(5),
            status,
            code: "ok",
            limit: None,
            shadow_limits: &[],
            stream,
            held_tokens: stream.then_some([numbers[1], numbers[3]]),
            input_tokens: numbers[0],
            cached_input_tokens: numbers[1],
            cache_write_tokens: numbers[3] % 2,
            output_tokens: numbers[2],
            reasoning_tokens: numbers[2] % 3,
            cost_micros: first_byte_ms.filter(|_| !stream),
            unpriced: stream,
            estimated,
            bytes_in: numbers[0],
            bytes_out: numbers[1],
            tries,
            attempts: &[],
            upstream_id: b"",
            upstream_ms: first_byte_ms.filter(|_| estimated),
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
