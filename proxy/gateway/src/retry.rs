//! Which answers another endpoint is tried after, and how long a throttled backend asks to wait.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use proxy_core::names::Code;
use proxy_core::quota::Wait;
use proxy_core::table::Retry;

use crate::answer::Refusal;

pub(crate) fn is_retried(retry: Retry, status: StatusCode) -> bool {
    match status.as_u16() {
        429 => retry.on_too_many_requests,
        500 | 502..=504 => retry.on_server_error,
        _ => false,
    }
}

/// The word for an answer that another endpoint is tried after.
pub(crate) const fn cause_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Code::BackendThrottled.as_str(),
        _ => "upstream_error",
    }
}

/// The wait that a throttled backend asks for; a second if it does not say.
pub(crate) fn retry_after_ms(headers: &HeaderMap) -> u64 {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let millis = number("retry-after-ms").or_else(|| Some(number("retry-after")? * 1_000.0));
    let millis = millis
        .filter(|millis| millis.is_finite())
        .unwrap_or(1_000.0)
        .clamp(1.0, 86_400_000.0);
    u64::try_from(Duration::from_secs_f64(millis / 1_000.0).as_millis()).unwrap_or(1_000)
}

pub(crate) fn throttled(wait_ms: u64) -> Box<Refusal> {
    let message = "every backend of the rule is throttled; retry later";
    let refusal = Refusal::new(Code::BackendThrottled, message);
    Box::new(refusal.waiting(Wait::Millis(wait_ms)))
}
