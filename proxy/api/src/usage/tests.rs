use proxy_core::names::Usage;

use super::openai;

fn check(body: &str, expect: Option<(u64, u64, u64)>) {
    let expect = expect.map(|(input_tokens, cached_input_tokens, output_tokens)| Usage {
        input_tokens,
        cached_input_tokens,
        output_tokens,
    });
    assert_eq!(openai(body.as_bytes(), None), expect, "{body}");
}

#[test]
fn reads_every_shape_of_usage() {
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        Some((9, 0, 2)),
    );
    check(
        r#"{"usage" : { "prompt_tokens": 9, "total_tokens": 9 }, "z": 1}"#,
        Some((9, 0, 0)),
    );
    check(
        r#"{"usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":7},"output_tokens":9}}"#,
        Some((30, 7, 9)),
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"audio_tokens":null}}}"#,
        Some((9, 0, 2)),
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}"#,
        Some((9, 0, 2)),
    );
}

#[test]
fn missing_usage_is_unknown() {
    for body in [
        "",
        "{}",
        r#"{"usage":null}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":{"prompt_tokens":"9"}}"#,
        "\"usage\"",
    ] {
        check(body, None);
    }
}

#[test]
fn what_a_model_says_about_usage_is_not_usage() {
    check(
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}"#,
        None,
    );
    check(
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":2},"choices":[{"message":{"content":"usage"}}]}"#,
        Some((9, 0, 2)),
    );
}
