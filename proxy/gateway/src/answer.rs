//! Answers that the gateway itself gives: errors in the client's dialect, and JSON.

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use proxy_admin::clock;
use proxy_api::Dialect;
use proxy_core::admit::Denial;
use proxy_core::names::Code;
use proxy_core::quota::{LimitName, Wait};
use proxy_ledger::{Cause, Levels, Refused, Spent};
use rand::RngExt;
use smallvec::SmallVec;

#[cfg(test)]
mod tests;

/// A wait beyond this is not worth a retry by an SDK: it would hammer or hang.
const LONGEST_RETRY_MS: u64 = 60_000;

/// Most jitter of a wait: `retry-after` has a resolution of a second.
const LONGEST_JITTER_MS: u64 = 900;

/// How a key may be sent, as HTTP knows it; the help of the reason words names the other headers.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"tundish\"");

/// Names a request in the answer and in the log.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Anthropic's name of it: its SDKs show no other.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What Codex shows beside the time when a limit has room again; it has no eye for the error's own message.
const X_CODEX_PROMO_MESSAGE: HeaderName = HeaderName::from_static("x-codex-promo-message");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// `namespace/quota/limit; used=83%`.
const X_TUNDISH_QUOTA_WARNING: HeaderName = HeaderName::from_static("x-tundish-quota-warning");

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
    /// When the same request would fit.
    pub(crate) wait: Option<Wait>,
    /// The methods that the path is served by.
    pub(crate) allow: Vec<Method>,
    /// The shape of errors, if no row says it.
    pub(crate) dialect: Option<Dialect>,
    /// How the client may authenticate, if there is more to say than that of the code.
    pub(crate) challenge: Option<HeaderValue>,
    /// The status, if it is not that of the code.
    pub(crate) status: Option<StatusCode>,
    /// The connection cannot be used further: the rest of the request was not read.
    pub(crate) close: bool,
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::from(Denial::new(code, message))
    }

    /// Closes the connection after the answer.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Adds the wait after which the same request may fit.
    pub(crate) fn waiting(mut self, wait: Wait) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// A refusal without more than its code and message.
pub(crate) fn refuse(code: Code, message: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal::new(code, message))
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            limit: None,
            wait: None,
            allow: Vec::new(),
            dialect: None,
            challenge: None,
            status: None,
            close: false,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Some(spent) = refused.limit else {
            let message = "a limit cannot be counted";
            return Self::new(Code::QuotaExceeded, message).waiting(refused.wait);
        };
        let limit = &spent.limit.limit;
        let (name, unit) = (&spent.limit.flat.name, limit.unit.as_str());
        let (amount, used, asked) = (limit.amount, spent.level.used, spent.asked);
        let message = match refused.wait {
            _ if amount == 0 && spent.limit.overridden() == Some(0) => format!(
                "limit {name} admits nothing for this caller: an override of its AIQuota says so"
            ),
            _ if amount == 0 => format!(
                "limit {name} admits nothing: see the conditions of its AIQuota, or `tundish check`"
            ),
            Wait::Never => format!(
                "limit {name} allows {amount} {unit} in all, this request needs {asked}; lower \
                 max_tokens or shorten the input"
            ),
            wait @ Wait::Millis(_) if refused.cause == Cause::StoreLost => format!(
                "limit {name} cannot be counted, since the quota store is away, and this replica's \
                 part is spent or nothing is admitted meanwhile; retry in {wait}"
            ),
            Wait::Millis(_) if let Cause::Exposed { running } = refused.cause => format!(
                "{running} requests without a bound on their answer are running, and limit {name} \
                 ({amount} {unit}) allows no more of them; set max_tokens, or the rule's \
                 outputTokens.default"
            ),
            Wait::Millis(_) if refused.cause == Cause::Unproved => format!(
                "callers that no backend has accepted yet may together hold a tenth of limit {name} \
                 ({amount} {unit}), and others of them do; retry in a second"
            ),
            wait @ Wait::Millis(_) if used >= amount => {
                format!("limit {name} is spent: {used} of {amount} {unit} used; retry in {wait}")
            }
            wait @ Wait::Millis(_) => format!(
                "limit {name} has {} of {amount} {unit} left, this request needs {asked}; lower \
                 max_tokens, or retry in {wait}",
                amount - used
            ),
        };
        Self {
            wait: Some(refused.wait),
            limit: Some(spent.clone()),
            ..Self::new(limit.code(), message)
        }
    }
}

/// Sets `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, in place of a backend's own.
pub(crate) fn show_levels(levels: &Levels, headers: &mut HeaderMap) {
    for (level, names) in [
        (levels.requests, &FOR_REQUESTS),
        (levels.tokens, &FOR_TOKENS),
    ] {
        let Some(level) = level else { continue };
        let values = [
            level.amount,
            level.remaining(),
            level.reset_ms.div_ceil(1_000),
        ];
        // One allocation for all three.
        let mut text = Vec::with_capacity(64);
        let ends = values.map(|value| {
            text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            text.len()
        });
        let text = Bytes::from(text);
        let mut start = 0;
        for (name, end) in names.iter().zip(ends) {
            // Digits are always valid.
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                headers.insert(name.clone(), value);
            }
            start = end;
        }
    }
}

/// Removes the headers by which a backend names its region, deployment and load. An owner of a route may move
/// it without a notice to clients.
pub(crate) fn hide_backend(headers: &mut HeaderMap) {
    let names = |name: &&HeaderName| {
        let name = name.as_str();
        match name {
            "x-ms-region"
            | "x-ms-deployment-name"
            | "x-ms-served-model"
            | "azureml-model-session"
            | "azure-openai-deployment-utilization" => true,
            _ => name.starts_with("x-ms-spillover-") || name.starts_with("ms-azureml-"),
        }
    };
    let hidden: SmallVec<[HeaderName; 4]> = headers.keys().filter(names).cloned().collect();
    for name in hidden {
        headers.remove(name);
    }
}

/// Names the limit that is nearest to be spent, if it has reached a warning level.
pub(crate) fn show_warning(warning: Option<(&LimitName, u64)>, headers: &mut HeaderMap) {
    let Some((limit, percent)) = warning else {
        return;
    };
    // Names of objects are always valid.
    if let Ok(value) = HeaderValue::try_from(format!("{limit}; used={percent}%")) {
        headers.insert(X_TUNDISH_QUOTA_WARNING, value);
    }
}

/// Names a request in its answer, as the dialect's clients look for it. Returns the name that the backend gave
/// it.
pub(crate) fn name_request(
    headers: &mut HeaderMap,
    id: &HeaderValue,
    dialect: Dialect,
) -> Option<HeaderValue> {
    let own = headers.insert(X_REQUEST_ID, id.clone());
    match dialect {
        Dialect::OpenAi => own,
        Dialect::Anthropic => {
            let other = headers.insert(REQUEST_ID, id.clone());
            own.or(other)
        }
    }
}

/// The whole answer to a refused request.
pub(crate) fn error(
    refusal: &Refusal,
    dialect: Dialect,
    request_id: &HeaderValue,
) -> Response<Bytes> {
    let code = refusal.denial.code;
    let limit = refusal.limit.as_ref();
    let limit = limit.map(|spent| spent.limit.flat.name.to_string());
    let param = limit
        .as_deref()
        .or_else(|| (code == Code::ModelNotFound).then_some("model"));
    let message = &refusal.denial.message;
    let until = refusal.wait.filter(|_| limit.is_some()).and_then(fits_at);
    let id = request_id.to_str().ok();
    let mut response = json(dialect.error(code, message, param, until, id));
    let of_code = || StatusCode::from_u16(code.status()).ok();
    let status = refusal
        .status
        .or_else(of_code)
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    name_request(headers, request_id, dialect);
    let allowed = methods(&refusal.allow);
    if !allowed.is_empty()
        && let Ok(allowed) = HeaderValue::from_str(&allowed)
    {
        headers.insert(ALLOW, allowed);
    }
    if code.status() == StatusCode::UNAUTHORIZED.as_u16() {
        let challenge = refusal.challenge.clone();
        headers.insert(WWW_AUTHENTICATE, challenge.unwrap_or(BEARER));
    }
    if refusal.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    match refusal.wait {
        Some(wait) => come_back(headers, wait),
        // Agents try a refused key ten times, for minutes.
        None if is_final(status) => {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        None => {}
    }
    if let Some(spent) = &refusal.limit {
        let mut levels = Levels::default();
        levels.add(spent.unit(), spent.level);
        show_levels(&levels, headers);
        if dialect == Dialect::OpenAi
            && let Ok(advice) =
                HeaderValue::try_from(format!("Ask for more of {}", spent.limit.flat.name))
        {
            headers.insert(X_CODEX_PROMO_MESSAGE, advice);
        }
        let warning = spent.warning();
        show_warning(
            warning.map(|percent| (&spent.limit.flat.name, percent)),
            headers,
        );
    }
    response
}

/// An answer on HTTP/1.1 as bytes, for a connection that no server can be had for.
pub(crate) fn on_wire(response: &Response<Bytes>) -> Bytes {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let body = response.body();
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// A list of methods, as `Allow` has it.
pub(crate) fn methods(methods: &[Method]) -> String {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.join(", ")
}

/// An answer of JSON.
pub(crate) fn json(text: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether the same request is refused again, however often it comes.
fn is_final(status: StatusCode) -> bool {
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !may_pass.contains(&status)
}

/// When a wait is over, in seconds since 1970.
fn fits_at(wait: Wait) -> Option<u64> {
    let Wait::Millis(wait) = wait else {
        return None;
    };
    let now = u64::try_from(clock::now().unix_ms).ok()?;
    Some(now.saturating_add(wait).div_ceil(1_000))
}

/// `retry-after(-ms)`: the wait, and up to a tenth or a second more, so that a herd does not return at
/// once, and none of it much later than needed.
fn come_back(headers: &mut HeaderMap, wait: Wait) {
    let Wait::Millis(wait) = wait else {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        return;
    };
    let jitter = rand::rng().random_range(0..=(wait / 10).min(LONGEST_JITTER_MS));
    // It makes no wait one that SDKs do not take.
    let most = wait.max(LONGEST_RETRY_MS);
    let wait = wait.saturating_add(jitter).min(most);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait));
    headers.insert(RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000)));
    if wait > LONGEST_RETRY_MS {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}
