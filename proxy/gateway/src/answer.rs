//! Answers that the gateway itself gives: errors in the client's dialect, and the list of models.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use proxy_core::admit::Denial;
use proxy_core::names::Code;
use proxy_core::quota::{LimitName, Unit, Wait};
use rand::RngExt;
use serde::Serialize;

#[cfg(test)]
mod tests;

/// A wait beyond this is not worth a retry by an SDK: it would hammer or hang.
const LONGEST_RETRY_MS: u64 = 60_000;

/// Waits are told to a second.
const LONGEST_JITTER_MS: u64 = 900;

/// Names a request in the answer and in the log.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

const FOR_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const FOR_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// A request that the gateway answers with an error.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) denial: Denial,
    /// The limit that refused.
    pub(crate) limit: Option<Spent>,
    /// When to come back.
    pub(crate) wait: Option<Wait>,
    /// The connection cannot be used further: the rest of the request was not read.
    pub(crate) close: bool,
}

/// The state of the limit that refused a request.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) name: LimitName,
    pub(crate) unit: Unit,
    pub(crate) level: Level,
}

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) amount: u64,
    pub(crate) used: u64,
    /// Until all that is used has left the window.
    pub(crate) reset_ms: u64,
}

/// The tightest limits of the kinds that clients know headers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    requests: Option<Level>,
    tokens: Option<Level>,
}

impl Level {
    const fn remaining(&self) -> u64 {
        self.amount.saturating_sub(self.used)
    }

    /// Whether a smaller part of it is left; of equal parts less.
    fn is_tighter(&self, other: &Self) -> bool {
        let part = |level: &Self, whole: &Self| {
            u128::from(level.remaining()).saturating_mul(u128::from(whole.amount.max(1)))
        };
        (part(self, other), self.remaining()) < (part(other, self), other.remaining())
    }
}

impl Levels {
    /// Keeps `level` if it is the tightest of its kind so far.
    pub(crate) fn add(&mut self, unit: Unit, level: Level) {
        let tightest = match unit {
            Unit::Requests => &mut self.requests,
            Unit::InputTokens | Unit::OutputTokens | Unit::Tokens => &mut self.tokens,
            // No client knows a header for these.
            Unit::CostMicros | Unit::Concurrency => return,
        };
        if tightest.is_none_or(|known| level.is_tighter(&known)) {
            *tightest = Some(level);
        }
    }

    /// Sets `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, in place of a backend's own.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (level, names) in [(self.requests, &FOR_REQUESTS), (self.tokens, &FOR_TOKENS)] {
            let Some(level) = level else { continue };
            let values = [
                level.amount,
                level.remaining(),
                level.reset_ms.div_ceil(1_000),
            ];
            for (name, value) in names.iter().zip(values) {
                headers.insert(name.clone(), HeaderValue::from(value));
            }
        }
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::from(Denial::new(code, message))
    }

    /// Closes the connection after the answer.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            limit: None,
            wait: None,
            close: false,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

/// `OpenAI`'s `type` for a code.
const fn kind(code: Code) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// The JSON of an error, for a body or for an event within a stream. `param` is what it is about:
/// a field of the request, or the limit that refused it.
pub(crate) fn error_json(code: Code, message: &str, param: Option<&str>) -> Vec<u8> {
    let inner = Inner {
        message,
        r#type: kind(code),
        param,
        code: code.as_str(),
    };
    // Strings and constants only: cannot fail.
    serde_json::to_vec(&Body { error: inner }).unwrap_or_default()
}

/// The whole answer to a refused request.
pub(crate) fn refuse(refusal: &Refusal, request_id: &HeaderValue) -> Response<Bytes> {
    let code = refusal.denial.code;
    let limit = refusal.limit.as_ref().map(|spent| spent.name.to_string());
    let param = limit
        .as_deref()
        .or_else(|| (code == Code::ModelNotFound).then_some("model"));
    let mut response = Response::new(Bytes::from(error_json(
        code,
        &refusal.denial.message,
        param,
    )));
    *response.status_mut() =
        StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    if code == Code::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    if refusal.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(wait) = refusal.wait {
        come_back(headers, wait);
    }
    if let Some(spent) = &refusal.limit {
        let mut levels = Levels::default();
        levels.add(spent.unit, spent.level);
        levels.tell(headers);
    }
    response
}

/// `retry-after(-ms)`: the wait, and up to a tenth or a second more, so that a herd does not return
/// at once and nobody returns much later than needed.
fn come_back(headers: &mut HeaderMap, wait: Wait) {
    let Wait::Millis(wait) = wait else {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        return;
    };
    let jitter = rand::rng().random_range(0..=(wait / 10).min(LONGEST_JITTER_MS));
    let wait = wait.saturating_add(jitter);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait));
    headers.insert(RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000)));
    if wait > LONGEST_RETRY_MS {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

fn model(id: &str) -> Model<'_> {
    Model {
        id,
        object: "model",
        created: 0,
        owned_by: "tundish",
    }
}

/// `GET .../models`.
pub(crate) fn models(names: &[std::sync::Arc<str>]) -> Response<Bytes> {
    let data = names.iter().map(|name| model(name)).collect();
    json(&ModelList {
        object: "list",
        data,
    })
}

/// `GET .../models/{model}`.
pub(crate) fn one_model(name: &str) -> Response<Bytes> {
    json(&model(name))
}

fn json(value: &impl Serialize) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
