//! Issuers for tests: real keys, and tokens that they sign.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proxy_core::names::Moment;
use serde_json::{Value, json};

use super::key_set::KeySet;
use super::token::Expectation;

pub(super) const ISSUER: &str = "https://issuer.example/tenant/v2.0";
pub(super) const AUDIENCE: &str = "api://gateway";
/// When tests judge, in seconds since 1970.
pub(super) const NOW_S: i64 = 1_900_000_000;

/// A key pair.
pub(super) struct Signer {
    pub(super) id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    pub(super) fn elliptic(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        Self {
            id,
            algorithm: Algorithm::ES256,
            key,
            public: serde_json::to_value(public).unwrap(),
        }
    }

    pub(super) fn edwards(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        Self {
            id,
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
        }
    }

    /// As Entra's keys are: without an algorithm.
    pub(super) fn rsa(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        // PKCS #8 is some bytes of version and algorithm, and PKCS #1 in an octet string.
        let der = pair.serialize_der();
        let key = EncodingKey::from_rsa_der(&der[26..]);
        let public = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        let mut public = serde_json::to_value(public).unwrap();
        public.as_object_mut().unwrap().remove("alg");
        Self {
            id,
            algorithm: Algorithm::RS256,
            key,
            public,
        }
    }

    /// Its public key, as issuers list it.
    pub(super) fn listed(&self) -> Value {
        let mut listed = self.public.clone();
        listed["kid"] = json!(self.id);
        listed["use"] = json!("sig");
        listed
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        self.sign_as(&header, claims)
    }

    pub(super) fn sign_as(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.key).unwrap()
    }
}

pub(super) fn set_of(keys: &[&Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

pub(super) fn expectation() -> Expectation {
    Expectation {
        issuer: ISSUER.into(),
        audiences: vec!["other".into(), AUDIENCE.into()],
    }
}

/// Claims that are good for an hour.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": NOW_S + 3600, "nbf": NOW_S, "iat": NOW_S,
        "oid": "9f8e", "roles": ["reader", "writer"],
    })
}

pub(super) fn at(seconds: i64) -> Moment {
    Moment {
        monotonic_ms: 0,
        unix_ms: seconds * 1_000,
    }
}

/// A token of any header, with a signature that is nothing.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.AAAA", part(header), part(claims))
}
