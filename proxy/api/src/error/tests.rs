use proxy_core::names::Code;

use super::{Dialect, ErrorEvent, is_error};

fn check(written: &[u8], expect: &str) {
    assert_eq!(std::str::from_utf8(written), Ok(expect));
}

#[test]
fn each_dialect_has_its_own_shape() {
    check(
        &Dialect::OpenAi.error(
            Code::QuotaExceeded,
            "spent",
            Some("ns/q/l"),
            Some(9),
            Some("req_1"),
        ),
        r#"{"error":{"message":"spent","type":"usage_limit_reached","param":"ns/q/l","code":"quota_exceeded","resets_at":9}}"#,
    );
    check(
        &Dialect::Anthropic.error(
            Code::ModelNotFound,
            "no such model",
            None,
            None,
            Some("req_1"),
        ),
        r#"{"type":"error","error":{"type":"not_found_error","message":"no such model","code":"model_not_found"},"request_id":"req_1"}"#,
    );
}

#[test]
fn an_event_of_an_error_has_the_form_of_its_api() {
    check(
        &ErrorEvent::Unnamed.write(Code::UpstreamFailed, "broke off", 7, Some("req_1")),
        "data: {\"error\":{\"message\":\"broke off\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_failed\"}}\n\n",
    );
    check(
        &ErrorEvent::Typed.write(Code::UpstreamFailed, "broke off", 7, Some("req_1")),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"broke off\",\"code\":\"upstream_failed\"},\"request_id\":\"req_1\"}\n\n",
    );
    check(
        &ErrorEvent::Numbered.write(Code::UpstreamFailed, "broke off", 7, Some("req_1")),
        "event: error\ndata: {\"type\":\"error\",\"sequence_number\":7,\"error\":{\"message\":\"broke off\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_failed\"}}\n\n",
    );
}

#[test]
fn an_answer_that_is_nothing_but_an_error_is_recognised() {
    for error in [
        r#"{"error":{"message":"m"}}"#,
        r#"{"error":"overloaded"}"#,
        r#"{"id":"x", "choices":[], "error": {"code":500}}"#,
        r#"{"choices":null,"error":{"code":500}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
    ] {
        assert!(is_error(error.as_bytes()), "{error}");
    }
    for fine in [
        "",
        "{}",
        r#"{"error":null,"choices":[{}]}"#,
        r#"{"error":{},"data":[]}"#,
        r#"{"error":{"code":1},"choices":[{"message":{"content":"x"}}]}"#,
        r#"{"choices":[{"error":{"code":1}}]}"#,
        r#"{"output":"\"error\":{\"code\":1}"}"#,
    ] {
        assert!(!is_error(fine.as_bytes()), "{fine}");
    }
}
