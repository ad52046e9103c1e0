//! Headers: Foundry's bound on custom ones, and those that its responses carry.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    clock,
    deployment::Deployment,
    errors::Failure,
    foundry::Foundry,
    limits::{Limit, Rate, Refusal, Standing},
};

/// More custom headers than this are answered with 431.
const MAX_CUSTOM: usize = 10;

const APIM_REQUEST_ID: HeaderName = HeaderName::from_static("apim-request-id");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Anthropic's name of it.
pub(crate) const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const REGION: HeaderName = HeaderName::from_static("x-ms-region");
const DEPLOYMENT_NAME: HeaderName = HeaderName::from_static("x-ms-deployment-name");
const MODEL_SESSION: HeaderName = HeaderName::from_static("azureml-model-session");
const RAI_INVOKED: HeaderName = HeaderName::from_static("x-ms-rai-invoked");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const STREAMING: HeaderName = HeaderName::from_static("azureai-fe-is-streaming");
const UTILIZATION: HeaderName = HeaderName::from_static("azure-openai-deployment-utilization");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Limit, remaining, reset.
type RateNames = [HeaderName; 3];
const TOKENS: RateNames = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const REQUESTS: RateNames = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

/// Whether a request header is one that HTTP or Foundry itself defines. Everything else is custom:
/// an SDK's `x-stainless-*` as well as a proxy's `x-forwarded-*` and `traceparent`.
fn is_standard(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept"
            | "accept-charset"
            | "accept-encoding"
            | "accept-language"
            | "anthropic-beta"
            | "anthropic-dangerous-direct-browser-access"
            | "anthropic-version"
            | "api-key"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-language"
            | "content-length"
            | "content-type"
            | "cookie"
            | "date"
            | "dnt"
            | "expect"
            | "forwarded"
            | "from"
            | "host"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-unmodified-since"
            | "keep-alive"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "priority"
            | "proxy-connection"
            | "range"
            | "referer"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "user-agent"
            | "via"
            | "warning"
            | "x-api-key"
            | "x-ms-client-request-id"
    )
}

/// Refuses a request with too many custom headers.
pub(crate) fn check_custom(headers: &HeaderMap) -> Result<(), Failure> {
    // The common case is decided by the length alone.
    if headers.len() > MAX_CUSTOM {
        let custom = headers
            .iter()
            .filter(|(name, _)| !is_standard(name))
            .count();
        if custom > MAX_CUSTOM {
            return Err(Failure::too_many_headers());
        }
    }
    Ok(())
}

/// A fresh id, in the form of the API that was asked.
pub(crate) fn request_id(foundry: &Foundry, is_anthropic: bool) -> HeaderValue {
    if is_anthropic {
        let id = foundry.object_id("req");
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static(""))
    } else {
        uuid(foundry)
    }
}

/// Headers of every response: ids, region, and the caller's custom headers, which Foundry returns.
pub(crate) fn put_common(
    foundry: &Foundry,
    request: &HeaderMap,
    (name, id): (HeaderName, HeaderValue),
    response: &mut HeaderMap,
) {
    for (name, value) in request {
        if !is_standard(name) && !response.contains_key(name) {
            response.append(name.clone(), value.clone());
        }
    }
    if let Some(id) = request.get(CLIENT_REQUEST_ID) {
        response.insert(CLIENT_REQUEST_ID, id.clone());
    }
    response.insert(APIM_REQUEST_ID, uuid(foundry));
    response.insert(name, id);
    response.insert(REGION, foundry.region.clone());
    response.insert(
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains; preload"),
    );
    response.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// Headers of a response that a model gave.
pub(crate) fn put_model(deployment: &Deployment, streaming: bool, response: &mut HeaderMap) {
    response.insert(DEPLOYMENT_NAME, deployment.name_header.clone());
    response.insert(
        MODEL_SESSION,
        HeaderValue::from_static("d20260901120000-foundrysim"),
    );
    response.insert(RAI_INVOKED, HeaderValue::from_static("true"));
    response.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if streaming {
        response.insert(STREAMING, HeaderValue::from_static("True"));
    }
}

/// What is left of the limits.
pub(crate) fn put_standing(standing: Standing, response: &mut HeaderMap) {
    let mut put = |[limit, remaining, reset]: RateNames, rate: Option<Rate>| {
        if let Some(rate) = rate {
            response.insert(limit, rate.limit.into());
            response.insert(remaining, rate.remaining.into());
            response.insert(reset, clock::seconds_up(rate.reset).into());
        }
    };
    put(TOKENS, standing.tokens);
    put(REQUESTS, standing.requests);
    if let Some(tenths) = standing.utilization {
        let text = format!("{}.{}%", tenths / 10, tenths % 10);
        if let Ok(value) = HeaderValue::try_from(text) {
            response.insert(UTILIZATION, value);
        }
    }
}

/// The answer to a request that hit a limit.
pub(crate) fn throttled(refusal: Refusal, operation: &str, version: &str) -> Failure {
    let mut headers = HeaderMap::new();
    put_standing(refusal.standing, &mut headers);
    let seconds = clock::seconds_up(refusal.retry_after);
    headers.insert(header::RETRY_AFTER, seconds.into());
    headers.insert(RETRY_AFTER_MS, clock::millis(refusal.retry_after).into());
    let what = match refusal.limit {
        Limit::Tokens => "token rate limit of your current OpenAI S0 pricing tier",
        Limit::Requests => "call rate limit of your current OpenAI S0 pricing tier",
        Limit::Utilization => "provisioned throughput of the deployment",
    };
    let message = format!(
        "Requests to the {operation} Operation under Azure OpenAI API version {version} have \
         exceeded {what}. Please retry after {seconds} seconds."
    );
    Failure::throttled(&message, headers)
}

fn uuid(foundry: &Foundry) -> HeaderValue {
    let (a, b) = (foundry.fresh_id(), foundry.fresh_id());
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff,
    );
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
