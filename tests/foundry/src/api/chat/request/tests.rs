use super::*;

fn read(body: &str) -> ChatRequest {
    ChatRequest::read(body.as_bytes()).unwrap()
}

/// The message of the refusal.
fn refusal(body: &str) -> String {
    let failure = ChatRequest::read(body.as_bytes()).unwrap_err();
    assert_eq!(failure.status, http::StatusCode::BAD_REQUEST);
    failure.body["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn counts_words_messages_and_the_reply() {
    let request = read(
        r#"{"messages":[{"role":"system","content":"Be brief."},
            {"role":"user","content":" one  two\nthree "}]}"#,
    );
    assert_eq!(request.prompt_tokens, 2 + 3 + 2 * 3 + 3);
    assert_eq!(request.prompt_estimate, u64::div_ceil(9 + 16, 4));
}

#[test]
fn counts_parts_and_images_and_takes_null_content() {
    let request = read(
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what is it"},
            {"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]},
            {"role":"assistant","content":null,"tool_calls":[]}]}"#,
    );
    assert_eq!(request.prompt_tokens, 3 + 85 + 2 * 3 + 3);
}

#[test]
fn reads_caps_choices_and_stream_options() {
    let request = read(
        r#"{"model":"m","messages":[{"role":"user","content":""}],"max_completion_tokens":5,"n":2,
            "stream":true,"stream_options":{"include_usage":true},"temperature":0.5}"#,
    );
    assert_eq!(request.model.as_deref(), Some("m"));
    assert_eq!(
        (request.max_tokens, request.choices, request.stream),
        (Some(5), 2, true)
    );
    assert_eq!(request.stream_options.unwrap().include_usage, Some(true));
}

#[test]
fn refuses_what_is_malformed() {
    let cases = [
        ("", "could not parse"),
        ("[]", "could not parse"),
        (r#"{"messages":"#, "could not parse"),
        (r#"{"model":"m"}"#, "Missing required parameter: 'messages'"),
        (r#"{"messages":[]}"#, "empty array"),
        (r#"{"messages":"hello"}"#, "array of messages"),
        (r#"{"messages":[{"content":"x"}]}"#, "missing field `role`"),
        (
            r#"{"messages":[{"role":"king","content":"x"}]}"#,
            "unknown variant `king`",
        ),
        (
            r#"{"model":"a","messages":[],"model":"b"}"#,
            "duplicate key 'model'",
        ),
        (r#"{"x":1,"messages":[],"\u0078":2}"#, "duplicate key 'x'"),
        (
            r#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#,
            "duplicate field",
        ),
        (
            r#"{"messages":[{"role":"user"}],"max_tokens":0}"#,
            "below minimum",
        ),
        (r#"{"messages":[{"role":"user"}],"n":129}"#, "above maximum"),
        (
            r#"{"messages":[{"role":"user"}],"max_tokens":1,"max_completion_tokens":1}"#,
            "at the same time",
        ),
    ];
    for (body, part) in cases {
        let message = refusal(body);
        assert!(message.contains(part), "{body}: {message}");
    }
}
