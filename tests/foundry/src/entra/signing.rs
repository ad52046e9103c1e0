//! The keys by which Entra signs. They are made when the first token or list of keys is asked for: most
//! simulators need none.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes before the key of PKCS #1 in a key of PKCS #8 (RFC 5958): versions, algorithm and lengths of an RSA key
/// of 2,048 bits.
const PKCS8_FRAME: usize = 26;

/// How Entra replaces the key by which it signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// The new key was listed before, as Entra does; else it is listed from now on.
    pub announced: bool,
    /// The old key stays listed.
    pub keeps_old: bool,
}

/// A key could not be made or used. The provider of the cryptography fails, then.
#[derive(Debug, thiserror::Error)]
#[error("no key: {0}")]
pub(crate) struct NoKey(String);

/// Keys, one of which signs.
#[derive(Default)]
pub(crate) struct Signing(Mutex<Vec<Key>>);

struct Key {
    id: String,
    key: EncodingKey,
    listed: Value,
    use_: Use,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Signed before.
    Old,
    Signs,
    /// Listed, and will sign.
    Next,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.0.lock();
        f.debug_set()
            .entries(keys.iter().map(|key| &key.id))
            .finish()
    }
}

impl Signing {
    /// Signs a token. One of version 1 names its key twice.
    pub(super) fn sign(&self, claims: &Value) -> Result<String, NoKey> {
        let mut keys = self.0.lock();
        ensure(&mut keys)?;
        let key = keys.iter().find(|key| key.use_ == Use::Signs);
        let key = key.ok_or_else(|| NoKey("none signs".to_owned()))?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.id.clone());
        if claims.get("ver").and_then(Value::as_str) == Some("1.0") {
            header.x5t = Some(key.id.clone());
        }
        encode(&header, claims, &key.key).map_err(no_key)
    }

    /// The list of keys (JWKS), with the `issuer` that Entra writes beside each.
    pub(crate) fn listed(&self, issuer: Option<&str>) -> Result<Value, NoKey> {
        let mut keys = self.0.lock();
        ensure(&mut keys)?;
        let listed = keys.iter().map(|key| {
            let mut listed = key.listed.clone();
            if let (Some(issuer), Some(members)) = (issuer, listed.as_object_mut()) {
                members.insert("issuer".to_owned(), json!(issuer));
            }
            listed
        });
        let listed: Vec<Value> = listed.collect();
        Ok(json!({"keys": listed}))
    }

    pub(crate) fn rotate(&self, rotation: Rotation) -> Result<(), NoKey> {
        let mut keys = self.0.lock();
        ensure(&mut keys)?;
        let announced = keys.iter().position(|key| key.use_ == Use::Next);
        let next = match announced.filter(|_| rotation.announced) {
            Some(place) => {
                keys.push(Key::new(Use::Next)?);
                keys.remove(place)
            }
            None => Key::new(Use::Next)?,
        };
        if rotation.keeps_old {
            let signing = keys.iter_mut().filter(|key| key.use_ == Use::Signs);
            signing.for_each(|key| key.use_ = Use::Old);
        } else {
            keys.retain(|key| key.use_ == Use::Next);
        }
        keys.push(Key {
            use_: Use::Signs,
            ..next
        });
        Ok(())
    }
}

fn ensure(keys: &mut Vec<Key>) -> Result<(), NoKey> {
    if keys.is_empty() {
        for use_ in [Use::Old, Use::Signs, Use::Next] {
            keys.push(Key::new(use_)?);
        }
    }
    Ok(())
}

impl Key {
    /// A key as Entra lists it: with a certificate, and without an algorithm.
    fn new(use_: Use) -> Result<Self, NoKey> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(no_key)?;
        let der = pair.serialize_der();
        let der = der.get(PKCS8_FRAME..).unwrap_or_default();
        let key = EncodingKey::from_rsa_der(der);
        let public = Jwk::from_encoding_key(&key, Algorithm::RS256).map_err(no_key)?;
        let mut listed = serde_json::to_value(public).map_err(no_key)?;
        let mut certificate = rcgen::CertificateParams::default();
        let name = "accounts.accesscontrol.windows.net";
        let common = rcgen::DnType::CommonName;
        certificate.distinguished_name.push(common, name);
        let certificate = certificate.self_signed(&pair).map_err(no_key)?;
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 20]>());
        if let Some(members) = listed.as_object_mut() {
            members.remove("alg");
            let certificate = STANDARD.encode(certificate.der());
            let others = [
                ("use", json!("sig")),
                ("kid", json!(id)),
                ("x5t", json!(id)),
                ("x5c", json!([certificate])),
            ];
            members.extend(others.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Self {
            id,
            key,
            listed,
            use_,
        })
    }
}

fn no_key(error: impl std::fmt::Display) -> NoKey {
    NoKey(error.to_string())
}
