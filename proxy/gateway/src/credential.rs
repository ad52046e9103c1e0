//! The credential of a client: the key forms of every SDK, and the header that goes upstream.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

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

impl Shown<'_> {
    /// The header to send on, marked as sensitive.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        let mut value = self.value.clone();
        value.set_sensitive(true);
        (self.header.clone(), value)
    }
}

/// Finds the credential: `api-key`, then `x-api-key`, then `Authorization: Bearer`.
///
/// `Err` if one of them is there twice or is not text: two readers could pick differently.
pub(crate) fn shown(headers: &HeaderMap) -> Result<Option<Shown<'_>>, &'static str> {
    for header in [API_KEY, X_API_KEY, AUTHORIZATION] {
        let mut values = headers.get_all(&header).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err("a credential header is given twice");
        }
        let text = value
            .to_str()
            .map_err(|_error| "the credential is not plain text")?;
        let key = if header == AUTHORIZATION {
            match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
                Some(_) | None => return Err("Authorization must be \"Bearer KEY\""),
            }
        } else {
            text.trim()
        };
        if !key.is_empty() {
            return Ok(Some(Shown { key, header, value }));
        }
    }
    Ok(None)
}
