//! Secrets: the keys of consumers, and the credentials and certificates of backends.
//!
//! A raw key is hashed when its Secret enters the index; only the digest goes further.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Attributes, ObjectName};

use crate::bounds::is_graphic;
use crate::object::created_s;

/// The annotation that names the consumer.
const CONSUMER: &str = "tundish.dev/consumer";
/// The annotation with the key's expiry in RFC 3339.
const EXPIRES: &str = "tundish.dev/expires";
/// The prefix of labels with the consumer's attributes.
const ATTRIBUTE_PREFIX: &str = "attributes.tundish.dev/";
/// The entry with the raw key.
const RAW: &str = "key";
/// The entry with the key's SHA-256 in hex.
const DIGEST: &str = "sha256";
/// Longest name of a consumer: as that of an object.
const LONGEST_NAME: usize = 253;

/// A Secret of the index. `Debug` shows no value.
pub(crate) struct StoredSecret {
    created_s: i64,
    pub(crate) labels: BTreeMap<String, String>,
    data: BTreeMap<String, Vec<u8>>,
    pub(crate) key: Result<Key, InvalidKey>,
}

/// Why an entry of a Secret holds no text. Displayed as a phrase that follows "the Secret".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidEntry {
    /// There is no such entry.
    Absent,
    /// It is not UTF-8.
    Binary,
    /// It is empty.
    Empty,
}

/// Why a Secret holds no consumer's key. Displayed as a phrase that follows "the Secret".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidKey {
    /// The entry with the raw key holds no text.
    Raw(InvalidEntry),
    /// The entry with the digest holds none.
    Digest,
    /// Key and digest disagree.
    Contradiction,
    /// There is neither a key nor a digest.
    Absent,
    /// The consumer's name is invalid.
    Consumer,
    /// The expiry is no time.
    Expiry,
}

// === impl StoredSecret ===

impl StoredSecret {
    pub(crate) fn new(name: &ObjectName, secret: Secret) -> Self {
        let created_s = created_s(&secret.metadata);
        let values = secret.data.into_iter().flatten();
        let mut data: BTreeMap<String, Vec<u8>> =
            values.map(|(key, value)| (key, value.0)).collect();
        // As on the API server, stringData wins.
        let plain = secret.string_data.into_iter().flatten();
        data.extend(plain.map(|(key, value)| (key, value.into_bytes())));
        let labels = secret.metadata.labels.unwrap_or_default();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        Self {
            created_s,
            key: key(name, &labels, &annotations, &data),
            labels,
            data,
        }
    }

    /// The text of an entry, without a line break at its end.
    ///
    /// # Errors
    /// The entry holds no text.
    pub(crate) fn text(&self, entry: &str) -> Result<&str, InvalidEntry> {
        entry_text(&self.data, entry)
    }

    /// Sorts Secrets with the same key: the smallest stands for it. Who has the key itself comes before
    /// those who may know no more than its digest, which is often public.
    pub(crate) fn precedence<'a>(&self, name: &'a ObjectName) -> (bool, i64, &'a ObjectName) {
        (!self.data.contains_key(RAW), self.created_s, name)
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredSecret(..)")
    }
}

fn entry_text<'a>(
    data: &'a BTreeMap<String, Vec<u8>>,
    entry: &str,
) -> Result<&'a str, InvalidEntry> {
    let bytes = data.get(entry).ok_or(InvalidEntry::Absent)?;
    let text = std::str::from_utf8(bytes).map_err(|_quotes_the_value| InvalidEntry::Binary)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(InvalidEntry::Empty),
        text => Ok(text),
    }
}

fn key(
    name: &ObjectName,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    data: &BTreeMap<String, Vec<u8>>,
) -> Result<Key, InvalidKey> {
    let digest = digest(data)?;
    let consumer = annotations
        .get(CONSUMER)
        .map_or_else(|| name.name(), String::as_str);
    if !is_graphic(consumer) || consumer.len() > LONGEST_NAME {
        return Err(InvalidKey::Consumer);
    }
    let expires_ms = match annotations.get(EXPIRES) {
        None => None,
        Some(text) => Some(expires_ms(text).ok_or(InvalidKey::Expiry)?),
    };
    Ok(Key {
        secret: name.clone(),
        consumer: consumer.into(),
        digest,
        attributes: attributes(labels),
        expires_ms,
    })
}

fn digest(data: &BTreeMap<String, Vec<u8>>) -> Result<KeyDigest, InvalidKey> {
    let raw = data.contains_key(RAW).then(|| entry_text(data, RAW));
    let hashed = data.contains_key(DIGEST).then(|| entry_text(data, DIGEST));
    let hashed = hashed.map(|text| {
        let mut bytes = [0; 32];
        let decoded = text.map(|text| hex::decode_to_slice(text.trim(), &mut bytes).is_ok());
        match decoded {
            Ok(true) => Ok(KeyDigest::from_bytes(bytes)),
            Ok(false) | Err(_) => Err(InvalidKey::Digest),
        }
    });
    let raw = raw.map(|text| match text {
        Ok(text) => Ok(KeyDigest::of(text)),
        Err(invalid) => Err(InvalidKey::Raw(invalid)),
    });
    match (raw, hashed) {
        (Some(raw), None) => raw,
        (None, Some(hashed)) => hashed,
        (Some(raw), Some(hashed)) if raw == hashed => raw,
        (Some(_), Some(_)) => Err(InvalidKey::Contradiction),
        (None, None) => Err(InvalidKey::Absent),
    }
}

fn expires_ms(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn attributes(labels: &BTreeMap<String, String>) -> Attributes {
    labels
        .iter()
        .filter_map(|(label, value)| {
            let name = label.strip_prefix(ATTRIBUTE_PREFIX)?;
            Some((name.into(), Arc::from(value.as_str())))
        })
        .collect()
}

// === impl InvalidEntry ===

impl fmt::Display for InvalidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "has no such key",
            Self::Binary => "holds no text there",
            Self::Empty => "holds nothing there",
        })
    }
}

// === impl InvalidKey ===

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(invalid) => write!(f, "{invalid}: {RAW}; put the consumer's key there"),
            Self::Digest => write!(
                f,
                "holds no SHA-256 in {DIGEST}; write the 64 hex digits of the key's SHA-256"
            ),
            Self::Contradiction => {
                write!(
                    f,
                    "has both {RAW} and {DIGEST}, and they don't agree; remove one"
                )
            }
            Self::Absent => write!(
                f,
                "has neither {RAW} nor {DIGEST}; put the consumer's key into {RAW}, or its SHA-256 \
                 in hex into {DIGEST}"
            ),
            Self::Consumer => write!(
                f,
                "has an annotation {CONSUMER} that is no name; write 1 to {LONGEST_NAME} ASCII \
                 characters without spaces"
            ),
            Self::Expiry => write!(
                f,
                "has an annotation {EXPIRES} that is no RFC 3339 time; write it like \
                 2027-01-31T00:00:00Z"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
