use proxy_core::names::Code;

use super::Dialect;

fn check(written: &[u8], expect: &str) {
    assert_eq!(std::str::from_utf8(written), Ok(expect));
}

#[test]
fn each_dialect_has_its_own_shape() {
    check(
        &Dialect::OpenAi.error(Code::QuotaExceeded, "spent", Some("ns/q/l")),
        r#"{"error":{"message":"spent","type":"rate_limit_error","param":"ns/q/l","code":"quota_exceeded"}}"#,
    );
    check(
        &Dialect::Anthropic.error(Code::ModelNotFound, "no such model", None),
        r#"{"type":"error","error":{"type":"not_found_error","message":"no such model","code":"model_not_found"}}"#,
    );
}

#[test]
fn an_event_of_an_error_has_the_dialects_form() {
    check(
        &Dialect::OpenAi.error_event(Code::UpstreamFailed, "broke off"),
        "data: {\"error\":{\"message\":\"broke off\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_failed\"}}\n\n",
    );
    check(
        &Dialect::Anthropic.error_event(Code::UpstreamFailed, "broke off"),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"broke off\",\"code\":\"upstream_failed\"}}\n\n",
    );
}
