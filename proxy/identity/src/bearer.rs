//! A token, ready to be sent.

use std::time::Instant;

use http::HeaderValue;
use proxy_core::names::Secret;
use zeroize::Zeroizing;

/// A token, ready to be sent.
#[derive(Clone, Debug)]
pub struct Bearer {
    value: HeaderValue,
    line: Secret,
    /// From here on it is not shown any more.
    pub(crate) ends: Instant,
}

/// The token has characters that no header can carry.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the token has characters that no header can carry")]
pub struct InvalidToken;

impl Bearer {
    /// Prepares a token that is shown until `ends`.
    ///
    /// # Errors
    /// No header can carry it.
    pub fn new(token: &Secret, ends: Instant) -> Result<Self, InvalidToken> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_error| InvalidToken)?;
        value.set_sensitive(true);
        // As text, since a line of HTTP/1.1 is made of it.
        value.to_str().map_err(|_error| InvalidToken)?;
        Ok(Self {
            value,
            line: Secret::new(format!("authorization: {}\r\n", *text)),
            ends,
        })
    }

    /// The value of the header `authorization`.
    #[must_use]
    pub const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The header as a line of HTTP/1.1.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        self.line.expose().as_bytes()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.line == other.line
    }
}
