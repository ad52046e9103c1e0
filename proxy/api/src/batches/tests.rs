use bytes::Bytes;
use proptest::prelude::{any, prop, proptest};
use proptest::prop_assert_eq;
use proxy_core::names::{Operation, Usage};

use super::{Asked, Lines, Outcome, TooLong, asked, batch, line, outcome, row};
use crate::responses::Progress;
use crate::rows::ROWS;

fn refused(text: &str, because: &str) {
    let why = line(text.as_bytes()).expect_err(text);
    assert!(why.0.contains(because), "{text}: {}", why.0);
}

#[test]
fn a_line_has_one_request() {
    let text =
        r#" {"custom_id":"a","method":"POST","u\u0072l":"/v1/x","body":{"model":"m"},"more":[1]} "#;
    let found = line(text.as_bytes()).expect("a line");
    assert_eq!(&*found.url, "/v1/x");
    assert_eq!(text.get(found.body), Some(r#"{"model":"m"}"#));
}

#[test]
fn a_new_batch_has_the_model_of_its_lines() {
    for text in [
        r#"{"input_file_id":"file-1","model":"gpt-5"}"#,
        r#"{"m\u006fdel":null}"#,
    ] {
        let why = asked(text.as_bytes()).expect_err(text);
        assert!(why.0.contains("leave out \"model\""), "{}", why.0);
    }
    assert!(asked(br#"{"Model":"gpt-5"}"#).is_err());
    assert!(asked(br#"{"metadata":{"model":"mine"}}"#).is_ok());
}

#[test]
fn a_line_that_could_be_read_in_two_ways_is_refused() {
    let whole = r#"{"custom_id":"a","method":"POST","url":"/x","body":{}"#;
    for (text, because) in [
        (
            format!("{whole},\"body\":{{}}}}"),
            "\"body\" is given twice",
        ),
        (format!("{whole},\"URL\":\"/y\"}}"), "write \"url\" instead"),
        (
            format!("{whole},\"b\\u006fdy\":{{}}}}"),
            "\"body\" is given twice",
        ),
        (format!("{whole}}}{whole}}}"), "text after"),
        (format!("{whole},\r\"x\":1}}"), "control character"),
        (format!("\u{feff}{whole}}}"), "byte order mark"),
        (format!("[{whole}}}]"), "must be a JSON object"),
        (whole.replace("POST", "GET") + "}", "must be \"POST\""),
        (
            whole.replace("{}", "[]") + "}",
            "\"body\" must be a JSON object",
        ),
        (
            whole.replace("\"a\"", "1") + "}",
            "\"custom_id\" must be a string",
        ),
        (
            r#"{"custom_id":"a","method":"POST","body":{}}"#.to_owned(),
            "\"url\" is missing",
        ),
        (
            r#"{"method":"POST","url":"/x","body":{}}"#.to_owned(),
            "\"custom_id\" is missing",
        ),
    ] {
        refused(&text, because);
    }
    assert!(line(b"{\"custom_id\":\"\xff\"}").is_err());
}

#[test]
fn a_new_batch_names_its_file_or_what_only_the_backend_reads() {
    let body = br#"{"input_file_id":"file-1","endpoint":"/v1/x","metadata":{"input_blob":"x"}}"#;
    let expect = Asked {
        endpoint: Some("/v1/x".into()),
        elsewhere: None,
    };
    assert_eq!(asked(body), Ok(expect));
    let elsewhere = |body: &str| asked(body.as_bytes()).map(|asked| asked.elsewhere);
    assert_eq!(
        elsewhere(r#"{"input_blob":"https://x"}"#),
        Ok(Some("input_blob"))
    );
    assert_eq!(
        elsewhere(r#"{"output_folder":{"url":"x"}}"#),
        Ok(Some("output_folder"))
    );
    assert_eq!(elsewhere(r#"{"input_blob":null}"#), Ok(None));
    for body in [
        r#"{"Input_Blob":"x"}"#,
        r#"{"endpoint":"/x","endpoint":"/y"}"#,
        r#"{"input_file_id":"a","input_file_id":"b"}"#,
        r#"{"endpoint":1}"#,
        "[]",
    ] {
        assert!(asked(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_url_is_that_of_an_operation_with_a_meter() {
    let operation = |url: &str| row(ROWS, url).map(|row| row.operation);
    assert_eq!(
        operation("/chat/completions"),
        Some(Operation::ChatCompletions)
    );
    assert_eq!(
        operation("/v1/chat/completions"),
        Some(Operation::ChatCompletions)
    );
    assert_eq!(operation("/v1/responses"), Some(Operation::Responses));
    assert_eq!(operation("/v1/embeddings"), Some(Operation::Embeddings));
    for url in [
        "/v1/v1/chat/completions",
        "v1/chat/completions",
        "/v1/deployments/m/chat/completions",
        "/v1/files",
        "/v1/batches",
        "/v1/responses/resp_1",
        "/v1/responses/input_tokens",
        "/v1/images/edits",
        "/v1/audio/speech",
        "/v1/messages",
        "/v1/messages/../chat/completions",
        "/v1/chat/completions?x=1",
        "",
    ] {
        assert_eq!(operation(url), None, "{url}");
    }
}

#[test]
fn an_answered_line_tells_what_it_has_cost() {
    let call = row(ROWS, "/chat/completions").and_then(|row| row.answer.call());
    let call = call.expect("a call");
    let of = |text: &str| outcome(call, text.as_bytes(), |_text| None);
    let told = of(
        r#"{"id":"x","response":{"status_code":200,"body":{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}},"error":null}"#,
    );
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(told, Some(Outcome::Told(usage)));
    let shown = of(
        r#"{"response":{"status_code":200,"body":{"choices":[{"message":{"content":"twelve bytes"}}]}}}"#,
    );
    assert!(
        matches!(shown, Some(Outcome::Shown(tokens)) if tokens > 0),
        "{shown:?}"
    );
    let filtered = of(
        r#"{"response":{"status_code":400,"body":{"error":{"code":"content_filter","param":"prompt","message":"x"}}}}"#,
    );
    assert_eq!(filtered, Some(Outcome::Filtered));
    let refused = of(r#"{"response":{"status_code":400,"body":{"error":{"code":"x"}}}}"#);
    assert_eq!(refused, Some(Outcome::Nothing));
    let expired = of(r#"{"response":null,"error":{"code":"batch_expired"}}"#);
    assert_eq!(expired, Some(Outcome::Nothing));
    assert_eq!(of("a page"), None);
}

#[test]
fn a_batch_tells_how_far_it_has_come() {
    let made = batch(br#"{"status":"Validating","output_file_id":null,"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"request_counts":{"total":null}}"#);
    let made = made.expect("a batch");
    assert_eq!(
        (made.progress, made.usage, made.lines),
        (Progress::Running, None, None)
    );
    let ended = batch(br#"{"status":"completed","endpoint":"/v1/responses","output_file_id":"file-1","error_file_id":"file-2","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5},"request_counts":{"total":4,"completed":2,"failed":1}}"#);
    let ended = ended.expect("a batch");
    assert_eq!(ended.progress, Progress::Ended);
    assert_eq!(ended.files, ["file-1".into(), "file-2".into()]);
    assert_eq!((ended.lines, ended.answered), (Some(4), Some(3)));
    assert_eq!(ended.usage.map(|usage| usage.total_tokens()), Some(5));
    assert_eq!(batch(br#"{"status":"paused"}"#), None);
    assert_eq!(batch(b"a page"), None);
}

#[test]
fn a_line_that_is_too_long_is_named() {
    let mut lines = Lines::new(4);
    lines.push(Bytes::from_static(b"1234\n\n123"));
    assert_eq!(lines.line(), Ok(Some((1, Bytes::from_static(b"1234")))));
    assert_eq!(lines.line(), Ok(None));
    lines.push(Bytes::from_static(b"45\n"));
    assert_eq!(lines.line(), Err(TooLong { number: 3 }));
}

proptest! {
    #[test]
    fn lines_are_the_same_in_any_cut(text in "[a\n\r ]{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        let mut lines = Lines::new(64);
        let mut found = Vec::new();
        for pair in ends.windows(2) {
            lines.push(Bytes::copy_from_slice(&text.as_bytes()[pair[0]..pair[1]]));
            while let Some(line) = lines.line().unwrap() {
                found.push(line);
            }
        }
        found.extend(lines.last());
        let expect: Vec<(u64, Bytes)> = (1..).zip(text.split('\n'))
            .map(|(number, line)| (number, Bytes::copy_from_slice(line.trim_ascii().as_bytes())))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        prop_assert_eq!(found, expect);
    }
}
