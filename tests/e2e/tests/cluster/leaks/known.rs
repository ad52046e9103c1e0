//! The secrets of the installation, and where they come from.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests_foundry::{CLIENT, IDENTITY_HEADER, SECRET, TENANT};
use tests_support::http;
use tests_support::leaks::Secrets;

use crate::installation::Installation;

/// Secrets of the manifests, under the words that stand for them there.
pub(super) const WRITTEN: [(&str, &str); 9] = [
    ("RAW_KEY", RAW_KEY),
    ("EXPIRED_KEY", "expired-key-of-a-consumer-0815"),
    ("CONTRADICTED_KEY", "key-beside-another-hash-2718"),
    ("MISPLACED_KEY", "key-in-the-place-of-its-hash-3141"),
    ("UNDATED_KEY", "key-with-a-broken-date-1618"),
    ("CUT_KEY", "6zkq9w0h3f8n2x5r"),
    ("BACKEND_KEY", BACKEND_KEY),
    ("SPACED_KEY", "key-of-a-backend-with-a-blank-1234"),
    ("NO_CERTIFICATE", "damagedCertificateThatIsNone777="),
];

/// What a client shows that does not belong to the gateway's.
pub(super) const OWN: [(&str, &str); 4] = [
    ("a foreign key", "foreign-key-that-passes-through-5550"),
    ("a key in the query", IN_QUERY),
    ("a key of Basic", "key-in-the-basic-scheme-70707"),
    ("a mistyped key", "raw-key-of-another-consumer-4712"),
];

/// The password of the store, and the token of the admin ports.
pub(super) const PASSWORD: &str = "password-of-the-store-31337";
pub(super) const ADMIN_TOKEN: &str = "token-of-the-admin-port-424242";

/// In manifests of `tundish run` that cannot be read.
pub(super) const UNREADABLE: &str = "key-in-a-file-that-is-no-yaml-8088";
pub(super) const NOT_BASE64: &str = "%key-that-should-be-base64-9099%";

/// A model for each backend, and one without any.
pub(super) const MODELS: [&str; 8] = [
    "by-key",
    "by-secret",
    "by-workload",
    "by-machine",
    "away",
    "spaced",
    "damaged-ca",
    "unknown",
];

/// A claim of Entra that only its backend can judge.
pub(super) const JWT: &str = "eyJhbGciOiJub25lIn0.eyJ0aWQiOiIxMTExMTExMS0xMTExLTQxMTEtODExMS0xMTExMTExMTExMTEiLCJvaWQiOiIzMzMzMzMzMy0zMzMzLTQzMzMtODMzMy0zMzMzMzMzMzMzMzMiLCJleHAiOjQxMDI0NDQ4MDB9.c2lnbmF0dXJlLW9mLWEtdG9rZW4tdGhhdC1wYXNzZXM";

/// The key of the ids of stored responses.
pub(super) const STATE_KEY: &str = "key-of-the-state-0123456789-abcdefghijklmnop-xyz";

/// The raw key of a consumer, and that of the backend by key.
pub(super) const RAW_KEY: &str = "raw-key-of-a-consumer-4711";
/// What some clients put behind the path.
pub(super) const IN_QUERY: &str = "key-in-the-query-of-a-target-606";
pub(super) const BACKEND_KEY: &str = "key-of-the-foundry-resource-9001";

/// Secrets that are made as the test runs.
pub(super) struct Made {
    /// The key of `tundish key new`.
    pub(super) bound: String,
    /// The token that stands for the pod at Entra.
    pub(super) assertion: String,
    /// The private key of the gateway's certificate, as PEM.
    pub(super) tls_key: String,
}

/// The objects, with the secrets in them.
pub(super) fn manifests(sim: &str) -> String {
    let mut text = include_str!("objects.yaml").replace("SIM", sim);
    for (word, secret) in WRITTEN {
        text = text.replace(word, secret);
    }
    text.replace("CLIENT_SECRET", SECRET)
        .replace("TENANT", TENANT)
        .replace("CLIENT_ID", CLIENT)
}

/// Every secret that the installation has by now.
pub(super) async fn all(installation: &Installation, made: &Made) -> Result<Secrets> {
    let mut secrets = Secrets::default();
    for (name, secret) in WRITTEN.into_iter().chain(OWN) {
        secrets.add(name, secret);
    }
    let tail = made.bound.rsplit('_').next().context("a key")?;
    for (name, secret) in [
        ("a bound key", tail),
        ("the client secret", SECRET),
        ("the federated token", payload(&made.assertion)),
        ("a client's token", payload(JWT)),
        ("the store's password", PASSWORD),
        ("the token of the admin port", ADMIN_TOKEN),
        ("a state key", STATE_KEY),
        ("the header of the App Service", IDENTITY_HEADER),
        ("a key that is no YAML", UNREADABLE),
        ("a key that is no base64", NOT_BASE64),
    ] {
        secrets.add(name, secret);
    }
    let tokens = format!("{}/_sim/tokens", installation.sim.url);
    let tokens: Vec<String> = http::get(&tokens).await?.json()?;
    let mut private = vec![("the key of TLS", private_lines(&made.tls_key))];
    private.push((
        "a token of Entra",
        tokens
            .iter()
            .map(|token| payload(token).to_owned())
            .collect(),
    ));
    let authority = stored(installation, "tundish-ca").await?;
    let lines = authority.iter().flat_map(|text| private_lines(text));
    private.push(("the key of the operators' CA", lines.collect()));
    let keys = stored(installation, "tundish-state-keys").await?;
    let lines = keys.iter().flat_map(|text| text.lines().map(str::to_owned));
    private.push(("the operators' state keys", lines.collect()));
    let folder = installation.folder();
    for name in ["proxy-0", "proxy-1"] {
        let token = std::fs::read_to_string(folder.join(format!("{name}.token")))?;
        let token = payload(&token).to_owned();
        private.push(("the token of a ServiceAccount", vec![token]));
    }
    for (name, found) in private {
        ensure!(!found.is_empty(), "{name} is missing");
        for secret in found {
            secrets.add(name, secret.trim());
        }
    }
    Ok(secrets)
}

/// The part of a token that is secret; the head of all is the same.
fn payload(token: &str) -> &str {
    token.split_once('.').map_or(token, |(_, rest)| rest)
}

/// The entries of a Secret that the operator made.
async fn stored(installation: &Installation, name: &str) -> Result<Vec<String>> {
    let secret = installation.get(&format!("secret/{name}")).await?;
    let data = secret
        .get("data")
        .and_then(serde_json::Value::as_object)
        .context("no data")?;
    let decoded = data.values().filter_map(|value| {
        let bytes = STANDARD.decode(value.as_str()?);
        String::from_utf8(bytes.ok()?).ok()
    });
    Ok(decoded.collect())
}

/// The secret lines of PEM: those of private keys.
fn private_lines(pem: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_private = false;
    for line in pem.lines() {
        if line.starts_with("-----") {
            is_private = line.contains("BEGIN") && line.contains("PRIVATE KEY");
        } else if is_private && line.len() > 30 {
            // The first characters name the algorithm, in every key.
            lines.push(
                line.chars()
                    .skip(if lines.is_empty() { 48 } else { 0 })
                    .collect(),
            );
        }
    }
    lines.retain(|line: &String| line.len() >= 8);
    lines
}
