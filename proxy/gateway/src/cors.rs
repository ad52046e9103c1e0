//! Calls from web pages of other origins: what their browsers ask before a call, and what an answer must
//! say so that the page may read it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use proxy_core::table::{Cors, Table};

use crate::fields::Field;
use crate::relay::Payload;

#[cfg(test)]
mod tests;

/// How long a browser remembers an answer to a preflight: as long as Chromium does at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
/// Of an answer all is for the page: no header is a secret of the gateway.
const ALL: HeaderValue = HeaderValue::from_static("*");

/// The origin of a page whose browser asks if it may call.
pub(crate) fn asks<'a>(parts: &Parts, origin: Field<'a>) -> Option<&'a HeaderValue> {
    let is_preflight = parts.method == Method::OPTIONS
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    is_preflight.then(|| origin.first()).flatten()
}

/// Whether some route of the host lets pages of this origin call. A preflight names neither the caller nor
/// the model, so it cannot lead to one route.
pub(crate) fn allows_on_host(table: &Table, host: &str, origin: &HeaderValue) -> bool {
    let mut routes = table.contents().routes.iter();
    routes.any(|route| route.serves(host) && allows(route.cors.as_ref(), origin))
}

/// Whether a route lets pages of this origin call.
pub(crate) fn allows(cors: Option<&Cors>, origin: &HeaderValue) -> bool {
    let origins = cors.map_or(&[][..], |cors| &cors.allow_origins);
    let mut origins = origins.iter();
    origins.any(|one| &**one == "*" || one.as_bytes() == origin.as_bytes())
}

/// The answer to a preflight that is allowed.
pub(crate) fn preflight(headers: &HeaderMap, origin: &HeaderValue) -> Response<Payload> {
    let mut answer = Response::new(Payload::Own(None));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let said = answer.headers_mut();
    said.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    said.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // `*` would leave out `Authorization`.
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        said.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    said.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    said.append(VARY, HeaderValue::from_name(ORIGIN));
    answer
}

/// Lets a page of this origin read an answer.
pub(crate) fn expose(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ALL);
    headers.append(VARY, HeaderValue::from_name(ORIGIN));
}
