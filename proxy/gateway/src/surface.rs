//! Which row of the table of APIs a request asks for, and the refusal if there is none.

use http::HeaderMap;
use http::header::HeaderName;
use http::request::Parts;
use proxy_api::{Answer, Api, Dialect, Found, Unserved, find};
use proxy_core::names::Code;

use crate::answer::{self, Refusal, refuse};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The row of a request.
pub(crate) fn found(rows: &'static [Api], parts: &Parts) -> Result<Found, Box<Refusal>> {
    find(rows, &parts.method, parts.uri.path()).map_err(|why| match why {
        Unserved::Ambiguous => refuse(Code::InvalidRequest, "the path is ambiguous or malformed"),
        Unserved::DoubleSlash => refuse(
            Code::InvalidRequest,
            "the path has a double slash; remove the slash at the end of the base URL",
        ),
        Unserved::Model(why) => refuse(Code::InvalidRequest, why.0),
        Unserved::Unknown => refuse(
            Code::UnknownPath,
            "no API is served here; use /openai/deployments/{model}/..., /openai/v1/... or /v1/...",
        ),
        Unserved::Operation(other) => {
            let (code, message) = if serves(rows, other.operation) {
                let message = format!("{} is served, but not at this path", other.operation);
                (Code::UnknownPath, message)
            } else {
                let served = served(rows);
                let operation = other.operation;
                let message =
                    format!("{operation} is not served by this gateway; it serves {served}");
                (Code::OperationNotServed, message)
            };
            let mut refusal = Refusal::new(code, message);
            refusal.dialect = Some(other.dialect);
            Box::new(refusal)
        }
        Unserved::Method(allowed) => {
            let message = format!("use {}", answer::methods(&allowed));
            let mut refusal = Refusal::new(Code::MethodNotAllowed, message);
            refusal.allow = allowed;
            Box::new(refusal)
        }
    })
}

/// The dialect of the gateway's own answer. Lists of models have the same path in both, and only Anthropic's
/// clients name a version in a header; nor has a path of no row a dialect.
pub(crate) fn dialect_of(api: Option<&Api>, headers: &HeaderMap) -> Dialect {
    let of_backend = api.filter(|api| matches!(api.answer, Answer::Backend(_)));
    match of_backend {
        None if headers.contains_key(ANTHROPIC_VERSION) => Dialect::Anthropic,
        _ => api.map_or(Dialect::OpenAi, |api| api.dialect),
    }
}

fn serves(rows: &[Api], operation: &str) -> bool {
    rows.iter().any(|row| row.operation.as_str() == operation)
}

/// The operations of the rows, for a message.
fn served(rows: &[Api]) -> String {
    let served = proxy_api::served(rows);
    let names: Vec<&str> = served.iter().map(|one| one.as_str()).collect();
    names.join(", ")
}
