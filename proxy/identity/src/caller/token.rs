//! The judgement of a token.

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// `iss` is one of these, to the letter. Of Entra's versions each has its own.
    pub issuers: Vec<String>,
    /// `aud` holds one of these, to the letter.
    pub audiences: Vec<String>,
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
        if !self.issuers.iter().any(|one| one == issuer) {
            return Err(Rejected::Issuer);
        }
        if !self.audiences.iter().any(|one| claims.has_audience(one)) {
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

/// Seconds since 1970, exact to the millisecond for longer than any token lives.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "milliseconds of a calendar fit into the 53 bits"
)]
fn seconds(now: Moment) -> f64 {
    now.unix_ms as f64 / 1_000.0
}
