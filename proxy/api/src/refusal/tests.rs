use serde_json::json;

use super::refused_member;

const ALL: [&str; 4] = [
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

fn check(body: &str, expect: Option<&str>) {
    for status in [400, 422] {
        assert_eq!(
            refused_member(status, body.as_bytes(), &ALL),
            expect,
            "{body}"
        );
    }
}

#[test]
fn a_member_that_is_named_apart_is_refused() {
    for (body, member) in [
        (
            r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
            "max_tokens",
        ),
        (
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted","input":{"include_usage":true}}]}"#,
            "stream_options",
        ),
        (
            r#"{"error":{"code":"Invalid input","status":422,"message":"invalid input error","details":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}}"#,
            "stream_options",
        ),
        (
            r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","param":null}"#,
            "stream_options",
        ),
        (
            r##"{"error":{"message":"{\"detail\":[{\"loc\":[\"body\",\"stream_options\"],\"msg\":\"Extra inputs are not permitted\"}]}"}}"##,
            "stream_options",
        ),
        (
            r#"{"error":{"message":"Unknown parameter: 'stream_options.include_usage'.","param":"stream_options.include_usage","code":"unknown_parameter"}}"#,
            "stream_options",
        ),
        (
            r##"{"errors":[{"param":"#/max_output_tokens"}]}"##,
            "max_output_tokens",
        ),
        (
            r#"{"error":{"param":"body.max_tokens","message":"bad"}}"#,
            "max_tokens",
        ),
        (
            r#"{"detail":[{"loc":["max_tokens"],"msg":"Input should be less than or equal to 4096"}]}"#,
            "max_tokens",
        ),
        (
            r#"{"error":{"param":"max_tokens","message":"max_tokens is too large: 99999. This model supports at most 16384 completion tokens"}}"#,
            "max_tokens",
        ),
    ] {
        check(body, Some(member));
    }
}

#[test]
fn a_member_that_a_message_complains_of_is_refused() {
    for (message, member) in [
        (
            "Validation error at #/stream_options: Extra inputs are not permitted",
            "stream_options",
        ),
        (
            "Validation error at #/stream_options/include_usage: Extra inputs are not permitted",
            "stream_options",
        ),
        (
            "Unrecognized request argument supplied: stream_options",
            "stream_options",
        ),
        (
            "Unrecognized request arguments supplied: foo, stream_options",
            "stream_options",
        ),
        ("property 'stream_options' is unsupported", "stream_options"),
        ("json: unknown field \"stream_options\"", "stream_options"),
        (
            "Failed to deserialize the JSON body into the target type: stream_options: unknown field at line 1",
            "stream_options",
        ),
        (
            "Additional properties are not allowed ('stream_options' was unexpected)",
            "stream_options",
        ),
        (
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        ),
        (
            "This model does not support `max_tokens`, please use `max_completion_tokens`",
            "max_tokens",
        ),
        (
            "max_completion_tokens is not supported; use max_tokens",
            "max_completion_tokens",
        ),
        (
            "Use max_completion_tokens instead of max_tokens, which is deprecated.",
            "max_tokens",
        ),
        (
            "max_tokens is deprecated in favor of max_completion_tokens",
            "max_tokens",
        ),
        ("Do not use max_tokens.", "max_tokens"),
        ("The use of max_tokens is not supported.", "max_tokens"),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 4096 tokens",
            "max_tokens",
        ),
        (
            "Bad request.\nExtra inputs are not permitted: max_output_tokens",
            "max_output_tokens",
        ),
        (
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        ),
    ] {
        check(message, Some(member));
        check(
            &json!({"error": {"message": message, "param": null}}).to_string(),
            Some(member),
        );
        check(
            &json!({"error": message, "error_type": "validation"}).to_string(),
            Some(member),
        );
        check(
            &json!({"object": "error", "message": message, "code": 400}).to_string(),
            Some(member),
        );
        check(&json!({"detail": message}).to_string(), Some(member));
    }
}

#[test]
fn a_remedy_or_another_culprit_is_not_refused() {
    for message in [
        "Unsupported parameter: 'max_length' is not supported with this model. Use 'max_completion_tokens' instead.",
        "'foo' is not supported, use 'max_tokens'",
        "foo was replaced by max_tokens and must not be sent",
        "Unknown parameter: 'max_tokenz'. Did you mean 'max_tokens'?",
        "Unknown parameter 'foo', supported parameters are model, stream_options and max_tokens",
        "model.max_tokens_limit is invalid",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens. Please reduce the length of the messages.",
        "stream_options",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "",
    ] {
        check(message, None);
        check(&json!({"error": {"message": message}}).to_string(), None);
    }
    for body in [
        r#"{"error":{"message":"Invalid 'messages[0].content': 'stream_options is not supported'","param":"messages[0].content"}}"#,
        r#"{"detail":[{"loc":["body","messages",0,"max_tokens"],"msg":"Extra inputs are not permitted"}]}"#,
        r#"{"detail":[{"loc":["body"],"msg":"Field required","input":{"stream_options":"is not supported"}}]}"#,
        r#"{"request":{"stream_options":"not supported"}}"#,
        "[[[[[[[[[[\"stream_options is not supported\"]]]]]]]]]]",
    ] {
        check(body, None);
    }
}

#[test]
fn only_what_was_sent_can_be_refused() {
    let body = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens"}}"#;
    let without_param = body.replace(",\"param\":\"max_tokens\"", "");
    for body in [body, &without_param] {
        let refused = |status, sent: &[&'static str]| refused_member(status, body.as_bytes(), sent);
        assert_eq!(refused(400, &["max_completion_tokens"]), None);
        assert_eq!(
            refused(400, &["stream_options", "max_tokens"]),
            Some("max_tokens")
        );
        assert_eq!(refused(400, &[]), None);
        assert_eq!(refused(500, &ALL), None);
        assert_eq!(refused(404, &ALL), None);
    }
    let long = format!("stream_options is not supported{}", " ".repeat(70_000));
    assert_eq!(refused_member(400, long.as_bytes(), &ALL), None);
}
