//! API keys: which are accepted, and the fingerprints by which they are reported.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderName, header};
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

/// The name under which a key is recorded and billed: `key-` and the first eight hex digits of its
/// SHA-256.
#[must_use]
pub fn fingerprint(key: &str) -> String {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(key.as_bytes()));
    format!("key-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// The accepted keys, with their fingerprints at hand.
#[derive(Debug)]
pub(crate) struct Keyring(RwLock<HashMap<String, Arc<str>>>);

/// Where a key can stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// `api-key: KEY`
    ApiKey,
    /// `x-api-key: KEY`, as Anthropic has it.
    XApiKey,
    /// `authorization: Bearer KEY`
    Bearer,
}

/// What a request showed.
#[derive(Debug)]
pub(crate) enum Credential {
    /// Nothing that this surface takes.
    Missing,
    /// A key that is not accepted.
    Refused { fingerprint: Arc<str> },
    /// A key that is.
    Accepted { fingerprint: Arc<str> },
}

impl Keyring {
    pub(crate) fn new(keys: &[String]) -> Self {
        let ring = Self(RwLock::default());
        ring.replace(keys);
        ring
    }

    pub(crate) fn replace(&self, keys: &[String]) {
        let keys = keys
            .iter()
            .map(|key| (key.clone(), fingerprint(key).into()))
            .collect();
        *self.0.write() = keys;
    }

    /// Judges the first credential of one of the `forms` that a request shows.
    pub(crate) fn judge(&self, headers: &HeaderMap, forms: &[Form]) -> Credential {
        let Some(key) = shown(headers, forms) else {
            return Credential::Missing;
        };
        match self.0.read().get(key) {
            Some(fingerprint) => Credential::Accepted {
                fingerprint: Arc::clone(fingerprint),
            },
            None => Credential::Refused {
                fingerprint: fingerprint(key).into(),
            },
        }
    }
}

/// The key that a request shows, in the first of the `forms` that it has.
pub(crate) fn shown<'a>(headers: &'a HeaderMap, forms: &[Form]) -> Option<&'a str> {
    let form = forms
        .iter()
        .find(|form| headers.contains_key(form.header()))?;
    let value = headers.get(form.header())?.to_str().ok()?;
    match form {
        Form::ApiKey | Form::XApiKey => Some(value),
        Form::Bearer => {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        }
    }
}

impl Form {
    fn header(self) -> HeaderName {
        match self {
            Self::ApiKey => HeaderName::from_static("api-key"),
            Self::XApiKey => HeaderName::from_static("x-api-key"),
            Self::Bearer => header::AUTHORIZATION,
        }
    }
}
