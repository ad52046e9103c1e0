//! The keys of consumers: Secrets that routes select.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crds::Reason;
use proxy_core::auth::{Key, KeyDigest};
use proxy_core::names::{Class, ObjectName};
use proxy_core::table::{List, Secrets};

use crate::consumer_key::ATTRIBUTE_PREFIX;
use crate::label::Labels;
use crate::reads::{Changes, Subject};
use crate::secret::StoredSecret;

/// What routes select, kept from one compile to the next. Of several Secrets with the same key the first by
/// [`StoredSecret::precedence`] stands for it.
///
/// Words: a Secret `holds` the key that it has, and its `selections` are those that it is in.
#[derive(Default)]
pub(crate) struct Keyring {
    secrets: HashMap<ObjectName, Held>,
    labels: Labels,
    /// By namespace, to find those that a Secret may be in.
    places: BTreeMap<Arc<str>, HashMap<BTreeMap<String, String>, usize>>,
    /// Each in its place; `None` where one was given up.
    selections: Vec<Option<Selection>>,
    free: Vec<usize>,
    keys: HashMap<KeyPlace, Holders>,
    /// Every key, sorted by Secret.
    list: List<Key>,
    /// Keys whose holders may have changed since the last judgement.
    touched: BTreeSet<KeyPlace>,
    /// Selections that have to be judged.
    stale: BTreeSet<usize>,
    /// Names whose key may have come or gone.
    renewed: BTreeSet<ObjectName>,
    /// What is unusable may have changed since it was last taken.
    is_rejudged: bool,
}

/// A key: a bound one stands alone in its namespace, whoever copied its digest.
type KeyPlace = (KeyDigest, Option<Arc<str>>);

/// The selected Secrets that hold a key; the first stands for it.
type Holders = BTreeSet<(bool, i64, ObjectName)>;

/// A Secret, as it was at the last compile.
struct Held {
    stored: Arc<StoredSecret>,
    selections: BTreeSet<usize>,
}

/// The Secrets of a namespace with all of some labels.
struct Selection {
    namespace: Arc<str>,
    labels: BTreeMap<String, String>,
    /// The routes that select them.
    routes: BTreeSet<ObjectName>,
    admitted: Admitted,
}

/// The judged Secrets of one selector.
#[derive(Debug, Default, PartialEq, Eq)]
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

// === impl Keyring ===

impl Keyring {
    /// Takes a Secret as it is now; `None` if it is gone.
    pub(crate) fn put(&mut self, name: &ObjectName, now: Option<&Arc<StoredSecret>>) {
        let before = self.secrets.remove(name);
        if let Some(Held { stored, selections }) = before {
            self.labels.remove(name, &stored.labels);
            self.stale.extend(&selections);
            if !selections.is_empty() {
                self.release(name, &stored);
            }
        }
        let Some(stored) = now else {
            return;
        };
        self.labels.insert(name, &stored.labels);
        let selections = self.selecting(name.namespace(), &stored.labels);
        self.stale.extend(&selections);
        if !selections.is_empty() {
            self.hold(name, stored);
        }
        let held = Held {
            stored: Arc::clone(stored),
            selections,
        };
        self.secrets.insert(name.clone(), held);
    }

    /// The selections of which a Secret with these labels is.
    fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> BTreeSet<usize> {
        let all = self.places.get(namespace).into_iter().flatten();
        let all = all.filter(|(wanted, _)| {
            let mut wanted = wanted.iter();
            wanted.all(|(label, value)| labels.get(label) == Some(value))
        });
        all.map(|(_, place)| *place).collect()
    }

    fn hold(&mut self, name: &ObjectName, stored: &StoredSecret) {
        if let Some(place) = place(name, stored) {
            let holders = self.keys.entry(place.clone()).or_default();
            holders.insert(precedence(name, stored));
            self.touched.insert(place);
        }
    }

    fn release(&mut self, name: &ObjectName, stored: &StoredSecret) {
        let Some(place) = place(name, stored) else {
            return;
        };
        self.renewed.insert(name.clone());
        if let Some(holders) = self.keys.get_mut(&place) {
            holders.remove(&precedence(name, stored));
            if holders.is_empty() {
                self.keys.remove(&place);
            }
        }
        self.touched.insert(place);
    }

    /// Selects the Secrets of a namespace with all of `labels`, for a route. Empty labels select no Secret.
    pub(crate) fn select(
        &mut self,
        route: &ObjectName,
        labels: &BTreeMap<String, String>,
    ) -> usize {
        let place = self.place_of(route.namespace(), labels);
        if let Some(Some(selection)) = self.selections.get_mut(place) {
            selection.routes.insert(route.clone());
        }
        place
    }

    fn place_of(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> usize {
        let known = self.places.get(namespace).and_then(|all| all.get(labels));
        if let Some(known) = known {
            return *known;
        }
        let shared: Arc<str> = namespace.into();
        let selection = Selection {
            namespace: Arc::clone(&shared),
            labels: labels.clone(),
            routes: BTreeSet::new(),
            admitted: Admitted::default(),
        };
        let place = self.free.pop().unwrap_or(self.selections.len());
        match self.selections.get_mut(place) {
            Some(free) => *free = Some(selection),
            None => self.selections.push(Some(selection)),
        }
        self.stale.insert(place);
        for name in self.labels.find(namespace, labels) {
            let Some(held) = self.secrets.get_mut(&name) else {
                continue;
            };
            let is_first = held.selections.is_empty();
            held.selections.insert(place);
            if is_first {
                let stored = Arc::clone(&held.stored);
                self.hold(&name, &stored);
            }
        }
        let of_namespace = self.places.entry(shared).or_default();
        of_namespace.insert(labels.clone(), place);
        place
    }

    /// A route selects these no more.
    pub(crate) fn give_up(&mut self, route: &ObjectName, place: usize) {
        let Some(slot) = self.selections.get_mut(place) else {
            return;
        };
        let Some(selection) = slot.as_mut() else {
            return;
        };
        selection.routes.remove(route);
        if !selection.routes.is_empty() {
            return;
        }
        let Some(Selection {
            namespace,
            labels,
            admitted,
            ..
        }) = slot.take()
        else {
            return;
        };
        self.is_rejudged |= !admitted.unusable.is_empty();
        self.free.push(place);
        if let Some(all) = self.places.get_mut(&namespace) {
            all.remove(&labels);
            if all.is_empty() {
                self.places.remove(&namespace);
            }
        }
        for name in self.labels.find(&namespace, &labels) {
            let Some(held) = self.secrets.get_mut(&name) else {
                continue;
            };
            held.selections.remove(&place);
            if held.selections.is_empty() {
                let stored = Arc::clone(&held.stored);
                self.release(&name, &stored);
            }
        }
    }

    /// Judges what has changed. Returns the routes whose Secrets changed.
    pub(crate) fn judge(&mut self, changes: &mut Changes) -> BTreeSet<ObjectName> {
        for place in std::mem::take(&mut self.touched) {
            let holders = self.keys.get(&place).into_iter().flatten();
            for (_, _, name) in holders {
                self.renewed.insert(name.clone());
                let held = self.secrets.get(name);
                self.stale
                    .extend(held.into_iter().flat_map(|held| &held.selections));
            }
        }
        self.renew(changes);
        let mut routes = BTreeSet::new();
        for place in std::mem::take(&mut self.stale) {
            let Some(Some(selection)) = self.selections.get(place) else {
                continue;
            };
            let mut admitted = self.admit(selection);
            if admitted == selection.admitted {
                continue;
            }
            if admitted.secrets == selection.admitted.secrets {
                admitted.secrets = selection.admitted.secrets.clone();
            }
            self.is_rejudged |= admitted.unusable != selection.admitted.unusable;
            routes.extend(selection.routes.iter().cloned());
            if let Some(Some(selection)) = self.selections.get_mut(place) {
                selection.admitted = admitted;
            }
        }
        routes
    }

    /// Puts the keys of `renewed` Secrets into the list, or takes them out.
    fn renew(&mut self, changes: &mut Changes) {
        let mut edits = BTreeMap::new();
        for name in std::mem::take(&mut self.renewed) {
            let key = self.standing(&name);
            let before = self.list.find(&name);
            if key.as_ref() != before {
                changes.add(Subject::Key, &name);
                edits.insert(name, key);
            }
        }
        self.list = self.list.edited(edits);
    }

    /// The key of a Secret that stands for it.
    fn standing(&self, name: &ObjectName) -> Option<Arc<Key>> {
        let held = self.secrets.get(name)?;
        let winner = self.winner(&place(name, &held.stored)?)?;
        let key = held.stored.key.as_ref().ok()?;
        (winner == name).then(|| Arc::clone(key))
    }

    fn winner(&self, place: &KeyPlace) -> Option<&ObjectName> {
        let (_, _, winner) = self.keys.get(place)?.first()?;
        Some(winner)
    }

    /// Every key, sorted by Secret.
    pub(crate) const fn list(&self) -> &List<Key> {
        &self.list
    }

    /// The judgement on a selection.
    pub(crate) fn admitted(&self, place: usize) -> Option<&Admitted> {
        let selection = self.selections.get(place)?.as_ref()?;
        Some(&selection.admitted)
    }

    /// Secrets that routes select, and whose keys admit no caller, if that may have changed since the last
    /// call.
    pub(crate) fn unusable(&mut self) -> Option<BTreeSet<UnusableKey>> {
        if !std::mem::take(&mut self.is_rejudged) {
            return None;
        }
        let all = self.selections.iter().flatten();
        let all = all.flat_map(|selection| &selection.admitted.unusable);
        Some(all.cloned().collect())
    }

    fn admit(&self, selection: &Selection) -> Admitted {
        let selected = self.labels.find(&selection.namespace, &selection.labels);
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
        for name in &selected {
            let Some(Held { stored, .. }) = self.secrets.get(name) else {
                continue;
            };
            let key = match &stored.key {
                Ok(key) => key,
                Err(problem) => {
                    let message = format!("Secret {} is left out: it {problem}", name.name());
                    leave_out((name, &stored.uid), (Reason::SecretKeyMissing, message));
                    continue;
                }
            };
            let winner = place(name, stored).and_then(|place| self.winner(&place));
            let Some(winner) = winner else {
                continue;
            };
            let other = self.secrets.get(winner);
            let other = other.and_then(|held| held.stored.key.as_ref().ok());
            let same = other.is_some_and(|other| same_meaning(key, other));
            if winner == name || same {
                secrets.push(winner.clone());
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

fn place(name: &ObjectName, stored: &StoredSecret) -> Option<KeyPlace> {
    let key = stored.key.as_ref().ok()?;
    Some((key.digest, stored.bound_to(name).map(Arc::from)))
}

fn precedence(name: &ObjectName, stored: &StoredSecret) -> (bool, i64, ObjectName) {
    let (is_digest, created_s, name) = stored.precedence(name);
    (is_digest, created_s, name.clone())
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
