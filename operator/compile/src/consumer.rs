//! The keys of consumers: Secrets that a route selects.

use std::collections::{BTreeMap, HashMap};

use crds::Reason;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Class, ObjectName};
use proxy_core::table::Secrets;

use crate::consumer_key::ATTRIBUTE_PREFIX;
use crate::secret::StoredSecret;

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
    pub(crate) secrets: Secrets,
    /// Why the others are left out, and what of these has no effect.
    pub(crate) warnings: Vec<(Reason, String)>,
    /// The same by Secret.
    pub(crate) unusable: Vec<UnusableKey>,
}

/// A Secret whose key admits no caller, although a route selects it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnusableKey {
    /// The Secret.
    pub secret: ObjectName,
    /// Its uid.
    pub uid: String,
    /// Why, with the fix.
    pub message: String,
}

/// The Secret that stands for each key. A bound key has one in its namespace, whoever copied its digest.
struct Keys<'a> {
    winners: HashMap<(KeyDigest, Option<&'a str>), Named<'a>>,
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

    /// Selects the Secrets of `namespace` with all of `labels`. Empty labels select no Secret.
    /// Returns an index into the result of [`Selector::judge`].
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
    /// Of several Secrets with the same key the first by [`StoredSecret::precedence`] stands for it.
    fn new(selected: impl Iterator<Item = Named<'a>>) -> Self {
        let mut winners: HashMap<_, Named<'a>> = HashMap::new();
        for (name, secret) in selected {
            let Ok(key) = &secret.key else {
                continue;
            };
            let place = (key.digest, secret.bound_to(name));
            let winner = winners.entry(place).or_insert((name, secret));
            if secret.precedence(name) < winner.1.precedence(winner.0) {
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
        let mut unclassed = Vec::new();
        let mut unusable = Vec::new();
        let mut leave_out = |(name, uid): (&ObjectName, &str),
                             (reason, message): (Reason, String)| {
            unusable.push(UnusableKey {
                secret: name.clone(),
                uid: uid.to_owned(),
                message: message.clone(),
            });
            warnings.push((reason, message));
        };
        for (name, stored) in selected {
            let key = match &stored.key {
                Ok(key) => key,
                Err(problem) => {
                    let message = format!("Secret {} is left out: it {problem}", name.name());
                    leave_out((name, &stored.uid), (Reason::SecretKeyMissing, message));
                    continue;
                }
            };
            let place = (key.digest, stored.bound_to(name));
            let Some((winner, secret)) = self.winners.get(&place) else {
                continue;
            };
            let same = secret
                .key
                .as_ref()
                .is_ok_and(|other| same_meaning(key, other));
            if winner == name || same {
                secrets.push((*winner).clone());
                unclassed.extend(no_class(name, key));
            } else {
                leave_out((name, &stored.uid), same_key(name, winner));
            }
        }
        secrets.sort();
        secrets.dedup();
        warnings.append(&mut unclassed);
        Admitted {
            any_selected: !selected.is_empty(),
            secrets: secrets.into(),
            warnings,
            unusable,
        }
    }
}

/// Warns of an attribute that would lower the class of requests and names none.
fn no_class(secret: &ObjectName, key: &Key) -> Option<(Reason, String)> {
    let mut attributes = key.attributes.iter();
    let (name, value) = attributes.find(|(name, _)| **name == *Class::ATTRIBUTE)?;
    let unknown = value.parse::<Class>().err()?;
    let message = format!(
        "Secret {}: its label {ATTRIBUTE_PREFIX}{name}: {value} lowers no class, since {unknown}; write one of them, \
         or rename the attribute",
        secret.name()
    );
    Some((Reason::ResolvedRefs, message))
}

/// Says no more of another namespace than that the key is of no use, or it would confirm guessed keys.
fn same_key(loser: &ObjectName, winner: &ObjectName) -> (Reason, String) {
    let loser_name = loser.name();
    if winner.namespace() != loser.namespace() {
        let message = format!(
            "Secret {loser_name} is left out: it holds a key that can't be used; put a new one there"
        );
        return (Reason::SecretKeyMissing, message);
    }
    let message = format!(
        "Secret {loser_name} is left out: Secret {} comes first, holds the same key and says something \
         else about its consumer; give each consumer a key of its own",
        winner.name()
    );
    (Reason::Conflicted, message)
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
