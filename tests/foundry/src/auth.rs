//! API keys: which are accepted, and the fingerprints by which they are reported.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, header};
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

    /// Judges `api-key`, and a raw key as bearer where `bearer` allows it. Foundry's dated surface
    /// takes only Entra tokens there.
    pub(crate) fn judge(&self, headers: &HeaderMap, bearer: bool) -> Credential {
        let Some(key) = shown(headers, bearer) else {
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

/// The key that a request shows.
pub(crate) fn shown(headers: &HeaderMap, bearer: bool) -> Option<&str> {
    if let Some(key) = headers.get("api-key") {
        return key.to_str().ok();
    }
    let authorization = headers.get(header::AUTHORIZATION).filter(|_| bearer)?;
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
