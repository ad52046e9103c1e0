//! The credentials of a client: the key forms of every SDK, and the header that goes upstream.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use proxy_core::auth::{Caller, KeyDigest};
use smallvec::SmallVec;

use crate::fields::{Field, Fields};

/// Azure's header.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Anthropic's header.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential as shown, for pass-through: the header it came in and its value.
#[derive(Clone)]
pub(crate) struct Shown<'a> {
    /// The key or token itself.
    pub(crate) key: &'a str,
    header: HeaderName,
    value: &'a HeaderValue,
}

/// A caller that may go on.
pub(crate) struct Identified<'a> {
    pub(crate) caller: Arc<Caller>,
    /// The credential that says so.
    pub(crate) shown: Option<Shown<'a>>,
    /// Of a credential that the gateway does not know.
    pub(crate) unknown: Option<KeyDigest>,
}

impl<'a> Shown<'a> {
    /// The same at another time, for its header alone.
    pub(crate) fn again(header: &HeaderName, value: &'a HeaderValue) -> Self {
        Self {
            key: "",
            header: header.clone(),
            value,
        }
    }

    /// The header to send on, marked as sensitive.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        let mut value = self.value.clone();
        value.set_sensitive(true);
        (self.header.clone(), value)
    }
}

/// Finds the credentials: `api-key`, then `x-api-key`, then `Authorization: Bearer`. An empty one and
/// `Basic` are none, since proxies and browsers add them unasked.
///
/// `Err` if one of them is there twice, or the only one is not text: two readers could pick differently.
pub(crate) fn shown<'a>(fields: &Fields<'a>) -> Result<SmallVec<[Shown<'a>; 1]>, &'static str> {
    let mut found = SmallVec::new();
    let mut unreadable = None;
    for (header, field) in [
        (API_KEY, fields.api_key),
        (X_API_KEY, fields.x_api_key),
        (AUTHORIZATION, fields.authorization),
    ] {
        let value = match field {
            Field::Absent => continue,
            Field::Once(value) => value,
            Field::Repeated(_) => return Err("a credential header is given twice"),
        };
        let Ok(text) = value.to_str() else {
            unreadable = Some("the credential is not plain text");
            continue;
        };
        let key = if header == AUTHORIZATION {
            let text = text.trim();
            let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                token.trim()
            } else {
                if !scheme.is_empty() && !scheme.eq_ignore_ascii_case("basic") {
                    unreadable = Some("Authorization must be \"Bearer KEY\"");
                }
                continue;
            }
        } else {
            text.trim()
        };
        if !key.is_empty() {
            found.push(Shown { key, header, value });
        }
    }
    match unreadable {
        Some(why) if found.is_empty() => Err(why),
        Some(_) | None => Ok(found),
    }
}

#[cfg(test)]
mod tests;
