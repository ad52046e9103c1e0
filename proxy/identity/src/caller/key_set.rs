//! The public keys of an issuer (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

#[cfg(test)]
mod tests;

/// Entra has about ten keys.
const MOST_KEYS: usize = 100;
/// The shortest modulus of RSA in base64url, of 2,048 bits.
const SHORTEST_MODULUS: usize = 341;

/// The public keys of an issuer, each with the one algorithm that it signs by.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.id, self.algorithm)
    }
}

impl KeySet {
    /// Reads a set. A key that cannot be used for signatures is left out; `None` if this is no set, or has
    /// no other.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let set: Value = serde_json::from_slice(json).ok()?;
        let listed = set.get("keys")?.as_array()?;
        let keys = listed.iter().take(MOST_KEYS).filter_map(Key::parse);
        let keys: Vec<Key> = keys.collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The key of a token's header. A token without a name of its key fits only if there is one key.
    pub(super) fn find(&self, id: Option<&str>) -> Option<(Algorithm, &DecodingKey)> {
        let found = match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|key| (key.algorithm, &key.key))
    }
}

impl Key {
    fn parse(json: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
        if !matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        ) {
            return None;
        }
        Some(Self {
            algorithm: algorithm(&jwk)?,
            key: DecodingKey::from_jwk(&jwk).ok()?,
            id: jwk.common.key_id,
        })
    }
}

/// The algorithm of a key: what it says, if its kind can have that; else the usual one of its kind.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let possible = possible(&jwk.algorithm)?;
    let Some(said) = jwk.common.key_algorithm else {
        return possible.first().map(|(_, usual)| *usual);
    };
    let mut fitting = possible.iter().filter(|(name, _)| *name == said);
    fitting.next().map(|(_, algorithm)| *algorithm)
}

/// The algorithms that a kind of key can have, the usual one first. A shared secret is no public key, and
/// has none.
fn possible(key: &AlgorithmParameters) -> Option<&'static [(KeyAlgorithm, Algorithm)]> {
    if let AlgorithmParameters::RSA(rsa) = key {
        return (rsa.n.len() >= SHORTEST_MODULUS).then_some(&RSA);
    }
    let curve = if let AlgorithmParameters::EllipticCurve(key) = key {
        &key.curve
    } else if let AlgorithmParameters::OctetKeyPair(key) = key {
        &key.curve
    } else {
        return None;
    };
    let fitting = CURVES.iter().find(|(known, _)| known == curve);
    fitting.map(|(_, algorithms)| algorithms.as_slice())
}

const RSA: [(KeyAlgorithm, Algorithm); 6] = [
    (KeyAlgorithm::RS256, Algorithm::RS256),
    (KeyAlgorithm::RS384, Algorithm::RS384),
    (KeyAlgorithm::RS512, Algorithm::RS512),
    (KeyAlgorithm::PS256, Algorithm::PS256),
    (KeyAlgorithm::PS384, Algorithm::PS384),
    (KeyAlgorithm::PS512, Algorithm::PS512),
];

const CURVES: [(EllipticCurve, [(KeyAlgorithm, Algorithm); 1]); 3] = [
    (
        EllipticCurve::P256,
        [(KeyAlgorithm::ES256, Algorithm::ES256)],
    ),
    (
        EllipticCurve::P384,
        [(KeyAlgorithm::ES384, Algorithm::ES384)],
    ),
    (
        EllipticCurve::Ed25519,
        [(KeyAlgorithm::EdDSA, Algorithm::EdDSA)],
    ),
];
