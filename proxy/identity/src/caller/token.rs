//! The judgement of a token.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use proxy_core::names::Moment;

use super::claims::Claims;
use super::key_set::KeySet;

#[cfg(test)]
mod tests;

/// Longer ones are refused before they are read; a head has 32 KiB.
const LONGEST: usize = 16 << 10;
/// What clocks may differ by, in seconds.
const SKEW_S: f64 = 60.0;

/// Which tokens are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// `iss` is this, to the letter.
    pub issuer: Arc<str>,
    /// `aud` holds one of these, to the letter.
    pub audiences: Vec<Arc<str>>,
}

/// Why a token is not good. Shows nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// It is none, or has parts that are not understood.
    #[error("it is not a signed token")]
    Malformed,
    /// The issuer has no key of this name, as far as it is known.
    #[error("its key is unknown")]
    UnknownKey,
    /// It names another algorithm than its key's.
    #[error("its algorithm is not that of its key")]
    Algorithm,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// It is of someone else.
    #[error("its issuer is another")]
    Issuer,
    /// It is for someone else.
    #[error("its audience is another")]
    Audience,
    /// It has ended, or never says when it does.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
}

impl Rejected {
    /// The outcome in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
        }
    }
}

impl Expectation {
    /// Judges a token by these keys: first its signature, then what it claims.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn judge(&self, token: &str, keys: &KeySet, now: Moment) -> Result<Claims, Rejected> {
        if token.len() > LONGEST || token.split('.').count() != 3 {
            return Err(Rejected::Malformed);
        }
        let header = decode_header(token).map_err(|_error| Rejected::Malformed)?;
        // What must be understood is not (RFC 7515, 4.1.11).
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Rejected::Malformed);
        }
        let found = keys.find(header.kid.as_deref());
        let (algorithm, key) = found.ok_or(Rejected::UnknownKey)?;
        if header.alg != algorithm {
            return Err(Rejected::Algorithm);
        }
        let mut validation = Validation::new(algorithm);
        // All of this is judged below, where the time is an argument.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = decode(token, key, &validation).map_err(|error| {
            if matches!(error.kind(), ErrorKind::InvalidSignature) {
                Rejected::Signature
            } else {
                Rejected::Malformed
            }
        })?;
        let claims = Claims::new(decoded.claims);
        self.fits(&claims, now)?;
        Ok(claims)
    }

    fn fits(&self, claims: &Claims, now: Moment) -> Result<(), Rejected> {
        let issuer = claims.text("iss").ok_or(Rejected::Issuer)?;
        if *issuer != *self.issuer {
            return Err(Rejected::Issuer);
        }
        let mut audiences = claims.audiences();
        let is_listed = audiences.any(|one| self.audiences.iter().any(|listed| **listed == *one));
        if !is_listed {
            return Err(Rejected::Audience);
        }
        let now = seconds(now);
        let ends = claims.seconds("exp").ok_or(Rejected::Expired)?;
        if now >= ends + SKEW_S {
            return Err(Rejected::Expired);
        }
        // What is there and is no number cannot be kept.
        let begins = match claims.find("nbf") {
            Some(_) => claims.seconds("nbf").ok_or(Rejected::NotYet)?,
            None => return Ok(()),
        };
        if now < begins - SKEW_S {
            return Err(Rejected::NotYet);
        }
        Ok(())
    }
}

/// What a token claims, whoever made it. `None` if it has no form of one.
pub(super) fn unproved(token: &str) -> Option<Claims> {
    if token.len() > LONGEST {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    Some(Claims::new(serde_json::from_slice(&claims).ok()?))
}

/// When a good token ends, its skew included, in milliseconds since 1970.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a cast saturates, and no token lives that long"
)]
pub(super) fn ends_unix_ms(claims: &Claims) -> i64 {
    let ends = claims.seconds("exp").unwrap_or_default();
    ((ends + SKEW_S) * 1_000.0) as i64
}

/// Seconds since 1970, exact to the millisecond for longer than any token lives.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "milliseconds of a calendar fit into the 53 bits"
)]
fn seconds(now: Moment) -> f64 {
    now.unix_ms as f64 / 1_000.0
}
