//! Secrets: the keys of consumers, and the credentials and certificates of backends.
//!
//! A raw key is hashed when its Secret enters the index; only the digest goes further. A Secret is a
//! consumer's key if a route selects it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crds::Reason;
use k8s_openapi::api::core::v1::Secret;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Attributes, ObjectName};

use crate::bounds::is_graphic;

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
    labels: BTreeMap<String, String>,
    data: BTreeMap<String, Vec<u8>>,
    key: Result<Key, String>,
}

/// A Secret with its name.
type Named<'a> = (&'a ObjectName, &'a StoredSecret);

/// Finds Secrets by their labels. Routes often share a selector, so each is evaluated once.
pub(crate) struct Selector<'a> {
    /// Namespace, label, value.
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<Named<'a>>>,
    /// Namespace, labels.
    evaluated: HashMap<(&'a str, &'a BTreeMap<String, String>), usize>,
    selections: Vec<Vec<Named<'a>>>,
}

/// The judged Secrets of one selector.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// Whether any Secret was selected.
    pub(crate) any_selected: bool,
    /// Secrets with valid keys. Sorted: the gateway looks them up by binary search.
    pub(crate) secrets: Vec<ObjectName>,
    /// Why the others are left out.
    pub(crate) warnings: Vec<(Reason, String)>,
}

/// The Secret that stands for each key.
struct Keys<'a> {
    winners: HashMap<KeyDigest, Named<'a>>,
}

// === impl StoredSecret ===

impl StoredSecret {
    pub(crate) fn new(name: &ObjectName, secret: Secret) -> Self {
        let created_s = crate::object::created_s(&secret.metadata);
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
    /// The problem of the entry, as a phrase that follows "the Secret".
    pub(crate) fn text(&self, entry: &str) -> Result<&str, &'static str> {
        entry_text(&self.data, entry)
    }

    fn age<'a>(&self, name: &'a ObjectName) -> (i64, &'a ObjectName) {
        (self.created_s, name)
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
) -> Result<&'a str, &'static str> {
    let bytes = data.get(entry).ok_or("has no such key")?;
    let text = std::str::from_utf8(bytes).map_err(|_binary| "holds no text there")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("holds nothing there"),
        text => Ok(text),
    }
}

fn key(
    name: &ObjectName,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    data: &BTreeMap<String, Vec<u8>>,
) -> Result<Key, String> {
    let digest = digest(data)?;
    let consumer = annotations
        .get(CONSUMER)
        .map_or_else(|| name.name(), String::as_str);
    if !is_graphic(consumer) || consumer.len() > LONGEST_NAME {
        return Err(format!(
            "has an annotation {CONSUMER} that is no name; write 1 to {LONGEST_NAME} ASCII \
             characters without spaces"
        ));
    }
    let expires_ms = match annotations.get(EXPIRES) {
        None => None,
        Some(text) => Some(expires_ms(text).ok_or_else(|| {
            format!(
                "has an annotation {EXPIRES} that is no RFC 3339 time; write it like \
                 2027-01-31T00:00:00Z"
            )
        })?),
    };
    Ok(Key {
        secret: name.clone(),
        consumer: consumer.into(),
        digest,
        attributes: attributes(labels),
        expires_ms,
    })
}

fn digest(data: &BTreeMap<String, Vec<u8>>) -> Result<KeyDigest, String> {
    let raw = data.contains_key(RAW).then(|| entry_text(data, RAW));
    let hashed = data.contains_key(DIGEST).then(|| entry_text(data, DIGEST));
    let hashed = hashed.map(|text| {
        let mut bytes = [0; 32];
        let decoded = text.map(|text| hex::decode_to_slice(text.trim(), &mut bytes).is_ok());
        match decoded {
            Ok(true) => Ok(KeyDigest::from_bytes(bytes)),
            Ok(false) | Err(_) => Err(format!(
                "holds no SHA-256 in {DIGEST}; write the 64 hex digits of the key's SHA-256"
            )),
        }
    });
    let raw = raw.map(|text| match text {
        Ok(text) => Ok(KeyDigest::of(text)),
        Err(problem) => Err(format!("{problem}: {RAW}; put the consumer's key there")),
    });
    match (raw, hashed) {
        (Some(raw), None) => raw,
        (None, Some(hashed)) => hashed,
        (Some(raw), Some(hashed)) if raw == hashed => raw,
        (Some(_), Some(_)) => Err(format!(
            "has both {RAW} and {DIGEST}, and they don't agree; remove one"
        )),
        (None, None) => Err(format!(
            "has neither {RAW} nor {DIGEST}; put the consumer's key into {RAW}, or its SHA-256 in \
             hex into {DIGEST}"
        )),
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

// === impl Selector ===

impl<'a> Selector<'a> {
    pub(crate) fn new(secrets: &'a BTreeMap<ObjectName, StoredSecret>) -> Self {
        let mut by_label: HashMap<_, Vec<Named<'a>>> = HashMap::new();
        for (name, secret) in secrets {
            for (label, value) in &secret.labels {
                by_label
                    .entry((name.namespace(), label.as_str(), value.as_str()))
                    .or_default()
                    .push((name, secret));
            }
        }
        Self {
            by_label,
            evaluated: HashMap::new(),
            selections: Vec::new(),
        }
    }

    /// Selects the Secrets of `namespace` with all of `labels`; none if `labels` is empty. Returns an
    /// index into the result of [`Selector::judge`].
    pub(crate) fn select(
        &mut self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> usize {
        if let Some(&known) = self.evaluated.get(&(namespace, labels)) {
            return known;
        }
        let place = self.selections.len();
        let selection = self.search(namespace, labels);
        self.selections.push(selection);
        self.evaluated.insert((namespace, labels), place);
        place
    }

    fn search(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Named<'a>> {
        let lists = labels.iter().map(|(label, value)| {
            let key = (namespace, label.as_str(), value.as_str());
            self.by_label.get(&key).map_or(&[][..], Vec::as_slice)
        });
        let Some(shortest) = lists.min_by_key(|list| list.len()) else {
            return Vec::new();
        };
        let has_all = |secret: &StoredSecret| {
            let mut wanted = labels.iter();
            wanted.all(|(label, value)| secret.labels.get(label) == Some(value))
        };
        let found = shortest.iter().filter(|(_, secret)| has_all(secret));
        found.copied().collect()
    }

    /// Every valid key, sorted by Secret, and the judgement on each selection.
    pub(crate) fn judge(self) -> (Vec<Key>, Vec<Admitted>) {
        let keys = Keys::new(self.selections.iter().flatten().copied());
        let admitted = self
            .selections
            .iter()
            .map(|selection| keys.admit(selection));
        (keys.list(), admitted.collect())
    }
}

// === impl Keys ===

impl<'a> Keys<'a> {
    /// Of several Secrets with the same key the oldest stands for it, then the first by name.
    fn new(selected: impl Iterator<Item = Named<'a>>) -> Self {
        let mut winners: HashMap<KeyDigest, Named<'a>> = HashMap::new();
        for (name, secret) in selected {
            let Ok(key) = &secret.key else {
                continue;
            };
            let winner = winners.entry(key.digest).or_insert((name, secret));
            if secret.age(name) < winner.1.age(winner.0) {
                *winner = (name, secret);
            }
        }
        Self { winners }
    }

    /// Every key, sorted by Secret.
    fn list(&self) -> Vec<Key> {
        let winners = self.winners.values();
        let mut keys: Vec<Key> = winners
            .filter_map(|(_, secret)| secret.key.as_ref().ok().cloned())
            .collect();
        keys.sort_by(|a, b| a.secret.cmp(&b.secret));
        keys
    }

    fn admit(&self, selected: &[Named<'a>]) -> Admitted {
        let mut secrets = Vec::with_capacity(selected.len());
        let mut warnings = Vec::new();
        for (name, secret) in selected {
            let key = match &secret.key {
                Ok(key) => key,
                Err(problem) => {
                    let message = format!("Secret {} is left out: it {problem}", name.name());
                    warnings.push((Reason::SecretKeyMissing, message));
                    continue;
                }
            };
            let Some((winner, secret)) = self.winners.get(&key.digest) else {
                continue;
            };
            let same = secret
                .key
                .as_ref()
                .is_ok_and(|other| same_meaning(key, other));
            if winner == name || same {
                secrets.push((*winner).clone());
            } else {
                warnings.push((Reason::Conflicted, same_key(name, winner)));
            }
        }
        secrets.sort();
        secrets.dedup();
        Admitted {
            any_selected: !selected.is_empty(),
            secrets,
            warnings,
        }
    }
}

fn same_key(loser: &ObjectName, winner: &ObjectName) -> String {
    let holder = if winner.namespace() == loser.namespace() {
        format!("Secret {}", winner.name())
    } else {
        "a Secret of another namespace".to_owned()
    };
    format!(
        "Secret {} is left out: {holder} comes first, holds the same key and says something else \
         about its consumer; give each consumer a key of its own",
        loser.name()
    )
}

/// Whether two Secrets with the same key agree about its consumer.
fn same_meaning(one: &Key, other: &Key) -> bool {
    one.secret.namespace() == other.secret.namespace()
        && one.consumer == other.consumer
        && one.attributes == other.attributes
        && one.expires_ms == other.expires_ms
}

#[cfg(test)]
mod tests;
