//! Secrets: the keys of consumers, and the credentials and certificates of backends.
//!
//! A raw key is hashed when its Secret enters the index; only the digest goes further. Words: a key is
//! `bound` if it is good in the namespace of its Secret only, so that a copied digest is worth nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use proxy_core::auth::form::{self, Form};
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Attributes, ObjectName};

use zeroize::Zeroizing;

use crate::consumer_key::{
    ATTRIBUTE_PREFIX, BOUND, CONSUMER, DIGEST, EXPIRES, LONGEST_KEY, LONGEST_NAME, RAW, is_consumer,
};
use crate::object::created_s;

/// The entries of a Secret, wiped from memory when it is replaced or deleted.
type Data = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A Secret of the index. `Debug` shows no value.
pub(crate) struct StoredSecret {
    created_s: i64,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    data: Data,
    /// Whether the key is bound to this namespace.
    is_bound: bool,
    pub(crate) key: Result<Arc<Key>, InvalidKey>,
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
    /// It is longer than any key of a consumer may be.
    TooLong,
}

/// Why a Secret holds no consumer's key. Displayed as a phrase that follows "the Secret".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidKey {
    /// The entry with the raw key holds no text.
    Raw(InvalidEntry),
    /// The entry of this name holds no digest.
    Digest(&'static str),
    /// The entries disagree.
    Contradiction,
    /// There is neither a key nor a digest.
    Absent,
    /// The key is bound to another namespace.
    Elsewhere,
    /// The key begins as a bound one, and is none.
    Damaged,
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
        let wiped = |(key, value)| (key, Zeroizing::new(value));
        let mut data: Data = values.map(|(key, value)| wiped((key, value.0))).collect();
        // As on the API server, stringData wins.
        let plain = secret.string_data.into_iter().flatten();
        data.extend(plain.map(|(key, value)| wiped((key, value.into_bytes()))));
        let labels = secret.metadata.labels.unwrap_or_default();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let digest = digest(name.namespace(), &data);
        Self {
            created_s,
            uid: secret.metadata.uid.unwrap_or_default(),
            is_bound: matches!(digest, Ok((_, true))),
            key: digest
                .and_then(|(digest, _)| key(name, &labels, &annotations, digest))
                .map(Arc::new),
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

    /// The namespace in which alone the key is good.
    pub(crate) fn bound_to<'a>(&self, name: &'a ObjectName) -> Option<&'a str> {
        self.is_bound.then(|| name.namespace())
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

fn entry_text<'a>(data: &'a Data, entry: &str) -> Result<&'a str, InvalidEntry> {
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
    digest: KeyDigest,
) -> Result<Key, InvalidKey> {
    let consumer = annotations
        .get(CONSUMER)
        .map_or_else(|| name.name(), String::as_str);
    if !is_consumer(consumer) {
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

/// The digest of the key, and whether it is bound to `namespace`. All entries must say the same.
fn digest(namespace: &str, data: &Data) -> Result<(KeyDigest, bool), InvalidKey> {
    let raw = data.contains_key(RAW).then(|| hashed(namespace, data));
    let plain = written(data, DIGEST).map(|digest| Ok((digest?, false)));
    let bound = written(data, BOUND).map(|digest| Ok((digest?, true)));
    let mut entries = raw.into_iter().chain(bound).chain(plain);
    let first = entries.next().ok_or(InvalidKey::Absent)?;
    for other in entries {
        if other != first {
            return Err(InvalidKey::Contradiction);
        }
    }
    first
}

/// The digest of the raw key.
fn hashed(namespace: &str, data: &Data) -> Result<(KeyDigest, bool), InvalidKey> {
    let raw = entry_text(data, RAW).map_err(InvalidKey::Raw)?;
    if raw.len() > LONGEST_KEY {
        return Err(InvalidKey::Raw(InvalidEntry::TooLong));
    }
    let is_bound = match Form::of(raw) {
        Form::Foreign => false,
        Form::Bound(within) if form::is_whole(raw) => {
            if within != namespace {
                return Err(InvalidKey::Elsewhere);
            }
            true
        }
        Form::Bound(_) | Form::Damaged => return Err(InvalidKey::Damaged),
    };
    Ok((KeyDigest::of(raw), is_bound))
}

/// The digest in this entry, if there is one.
fn written(data: &Data, entry: &'static str) -> Option<Result<KeyDigest, InvalidKey>> {
    data.contains_key(entry).then(|| {
        let mut bytes = [0; 32];
        let text = entry_text(data, entry).map(str::trim);
        match text.map(|text| hex::decode_to_slice(text, &mut bytes)) {
            Ok(Ok(())) => Ok(KeyDigest::from_bytes(bytes)),
            Ok(Err(_)) | Err(_) => Err(InvalidKey::Digest(entry)),
        }
    })
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
            Self::TooLong => "holds more than 32 KiB there",
        })
    }
}

// === impl InvalidKey ===

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(invalid) => write!(f, "{invalid}: {RAW}; put the consumer's key there"),
            Self::Digest(entry) => write!(
                f,
                "holds no SHA-256 in {entry}; write the 64 hex digits of the SHA-256 of {}",
                if *entry == BOUND {
                    "NAMESPACE/KEY"
                } else {
                    "the key"
                }
            ),
            Self::Contradiction => {
                write!(
                    f,
                    "has two of {RAW}, {DIGEST} and {BOUND}, and they don't agree; remove one"
                )
            }
            Self::Absent => write!(
                f,
                "has none of {RAW}, {DIGEST} and {BOUND}; make one with `tundish key new`, or put the \
                 consumer's key into {RAW}, or its SHA-256 in hex into {DIGEST}"
            ),
            Self::Elsewhere => write!(
                f,
                "holds a key that was made for another namespace in {RAW}; make one for this with \
                 `tundish key new`"
            ),
            Self::Damaged => write!(
                f,
                "holds a key in {RAW} that begins with {} and is mistyped or cut off; copy it again, or \
                 make one with `tundish key new`",
                form::PREFIX
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
