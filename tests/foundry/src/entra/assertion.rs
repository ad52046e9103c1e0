//! Tokens of a cluster, which Entra takes for a secret.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::directory::ISSUER;

/// A cluster that makes assertions. Its signature is a keyed digest: only the simulator makes and checks it.
#[derive(Debug)]
pub(crate) struct Issuer {
    key: u64,
}

/// What an assertion says.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Audience,
    pub(crate) exp: u64,
    #[serde(default)]
    pub(crate) nbf: u64,
}

/// One audience, or a list: the API server writes a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why an assertion is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Malformed,
    Signature,
}

impl Audience {
    pub(crate) fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

impl Issuer {
    pub(super) fn new() -> Self {
        Self {
            key: rand::random(),
        }
    }

    /// An assertion as the kubelet projects it into a pod, from `now` on, in seconds since 1970.
    pub(crate) fn assertion(&self, subject: &str, audience: &str, now: u64, lives: u64) -> String {
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": [audience], "iat": now, "nbf": now,
            "exp": now + lives, "jti": format!("{:016x}", rand::random::<u64>()),
        });
        let text = format!("{}.{}", part(&header()), part(&claims));
        let signature = self.signature(&text);
        format!("{text}.{signature}")
    }

    pub(crate) fn check(&self, assertion: &str) -> Result<Claims, Broken> {
        let (text, signature) = assertion.rsplit_once('.').ok_or(Broken::Malformed)?;
        let (_, claims) = text.split_once('.').ok_or(Broken::Malformed)?;
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_error| Broken::Malformed)?;
        let claims = serde_json::from_slice(&claims).map_err(|_error| Broken::Malformed)?;
        if signature == self.signature(text) {
            Ok(claims)
        } else {
            Err(Broken::Signature)
        }
    }

    fn signature(&self, text: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(self.key.to_be_bytes());
        digest.update(text.as_bytes());
        URL_SAFE_NO_PAD.encode(digest.finalize())
    }
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "RS256", "kid": "sim"})
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
