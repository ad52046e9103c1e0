use bytes::Bytes;

use super::splice;
use crate::scan;
use crate::upstream::Call;

fn check(body: &str, model_in_body: bool, takes_stream_options: bool, expect: &str) {
    let scanned = scan::body(body.as_bytes()).expect("a good body");
    let call = Call::to("/x", model_in_body, takes_stream_options);
    let sent = splice(
        &Bytes::copy_from_slice(body.as_bytes()),
        &scanned,
        &call,
        "d\"1",
    );
    let sent = std::str::from_utf8(&sent).expect("text");
    assert_eq!(sent, expect);
    scan::body(sent.as_bytes()).expect("still a good body");
}

#[test]
fn edits_the_model_and_nothing_else() {
    check(
        r#"{ "a":1.0, "model" : "m","z":[1e9] }"#,
        true,
        true,
        r#"{ "a":1.0, "model" : "d\"1","z":[1e9] }"#,
    );
    check(r#"{"model":"m"}"#, false, true, r#"{"model":"m"}"#);
    check(r#"{"a":1}"#, true, true, r#"{"model":"d\"1","a":1}"#);
    check("{}", true, true, r#"{"model":"d\"1"}"#);
}

#[test]
fn asks_for_usage_in_every_form_of_stream_options() {
    for (options, expect) in [
        (
            "",
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#","stream_options":null"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{"x":1}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#","stream_options":{"include_usage":false}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{"include_usage":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        check(
            &format!("{{\"stream\":true{options}}}"),
            false,
            true,
            expect,
        );
    }
    check(r#"{"stream":true}"#, false, false, r#"{"stream":true}"#);
    check(r#"{"stream":false}"#, false, true, r#"{"stream":false}"#);
    check(
        r#"{"stream":true}"#,
        true,
        true,
        r#"{"model":"d\"1","stream_options":{"include_usage":true},"stream":true}"#,
    );
}
