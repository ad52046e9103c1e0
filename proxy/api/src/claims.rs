//! What a token of Entra says of its caller, unproved: anybody can write such a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

#[cfg(test)]
mod tests;

/// Longest token that is read. Entra's have up to 200 groups of 36 characters.
const MAX_TOKEN: usize = 24 << 10;

/// Who a token claims to be of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The tenant, a UUID in lower case.
    pub tenant: String,
    /// The object of the user or service principal, else the application: a UUID in lower case.
    pub principal: String,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires: Option<i64>,
}

#[derive(Deserialize)]
struct Payload {
    tid: String,
    oid: Option<String>,
    azp: Option<String>,
    appid: Option<String>,
    exp: Option<i64>,
}

/// Reads the claims of a token, and judges nothing; `None` if it is no token with such claims.
#[must_use]
pub fn claims(token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let (_header, payload, _signature, None) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    let principal = payload.oid.or(payload.azp).or(payload.appid)?;
    Some(Claims {
        tenant: uuid(&payload.tid)?,
        principal: uuid(&principal)?,
        expires: payload.exp,
    })
}

/// The text in lower case, if it is a UUID as Entra writes it.
fn uuid(text: &str) -> Option<String> {
    let is_one = text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_one.then(|| text.to_ascii_lowercase())
}
