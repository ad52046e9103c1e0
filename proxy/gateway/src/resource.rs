//! What clients without a good token learn about tokens: who issues those that the host admits (RFC 9728).

use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, Response};
use proxy_core::names::Code;
use proxy_core::table::Table;
use serde_json::json;

use crate::answer;
use crate::fields::{Field, Fields};
use crate::relay::Payload;

#[cfg(test)]
mod tests;

/// Where clients ask.
const PATH: &str = "/.well-known/oauth-protected-resource";

/// Whether a request asks for the description of its host.
pub(crate) fn is_asked(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD) && parts.uri.path() == PATH
}

/// The description of `host` as a resource, if a route of the host admits tokens.
pub(crate) fn description(
    table: &Table,
    host: &str,
    parts: &Parts,
    fields: &Fields<'_>,
    is_tls: bool,
) -> Option<Response<Payload>> {
    let mut issuers: Vec<&str> = table
        .homes(host)
        .map(|home| &*home.trust.source.issuer)
        .collect();
    issuers.sort_unstable();
    issuers.dedup();
    if issuers.is_empty() {
        return None;
    }
    let description = json!({
        "resource": origin(host, parts, fields, is_tls)?,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
    });
    Some(answer::json(description.to_string().into_bytes()).map(Payload::from))
}

/// What a refusal for lack of a good credential says beside its code, where the host admits tokens.
pub(crate) fn challenge(
    table: &Table,
    host: &str,
    parts: &Parts,
    fields: &Fields<'_>,
    is_tls: bool,
    code: Code,
) -> Option<HeaderValue> {
    table.homes(host).next()?;
    let origin = origin(host, parts, fields, is_tls)?;
    // RFC 6750, 3.1: a request without a credential gets no error code.
    let error = if code == Code::MissingCredential {
        ""
    } else {
        ", error=\"invalid_token\""
    };
    let challenge =
        format!("Bearer realm=\"tundish\"{error}, resource_metadata=\"{origin}{PATH}\"");
    HeaderValue::from_str(&challenge).ok()
}

/// Scheme, host and port as the client knows them: whoever ends TLS in front of the gateway passes the host on.
fn origin(host: &str, parts: &Parts, fields: &Fields<'_>, is_tls: bool) -> Option<String> {
    let named = match fields.host {
        Field::Once(named) => named.to_str().ok(),
        Field::Absent | Field::Repeated(_) => None,
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let authority = authority.or(named)?;
    let is_here = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let scheme = if is_tls || !is_here { "https" } else { "http" };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    authority
        .bytes()
        .all(is_plain)
        .then(|| format!("{scheme}://{authority}"))
}
