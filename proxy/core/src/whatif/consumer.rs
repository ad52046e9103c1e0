//! A consumer by its name instead of its credential: which callers it can be, and whether one of
//! them may call.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::admit::{Ask, Denial, Identity, Permit, admit, may_call};
use crate::auth::{Caller, CallerKind, Issuer, Key, Token};
use crate::names::{Attributes, Moment};
use crate::table::Table;

/// Names within this many edits are suggested: enough for a swapped pair and one more typo.
const NEAR_EDITS: usize = 3;
/// A suggestion lists at most this many names, so that it fits two lines.
const SUGGESTIONS: usize = 5;

/// One caller that a consumer can be: several keys may stand for the same consumer.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    key: Option<Arc<Key>>,
    caller: Arc<Caller>,
}

/// Why a name stands for no single consumer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConsumer {
    /// No key belongs to it.
    #[error("no Secret names the consumer {name:?}{suggestion}")]
    Unknown {
        /// The name.
        name: String,
        /// Consumers that do exist.
        suggestion: Suggestion,
    },
    /// Consumers of several namespaces have it.
    #[error("several consumers are named {name:?}; say which: {}", candidates.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Each as `namespace/name`.
        candidates: Vec<String>,
    },
}

/// Consumers that may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// These have a similar name.
    Near(Vec<String>),
    /// None is similar; these are some of all.
    Some {
        /// How many consumers there are.
        count: usize,
        /// The most similar ones.
        examples: Vec<String>,
    },
    /// There are no consumers.
    None,
}

/// The callers of all keys, by consumer and by fingerprint: a caller that a log knows by its
/// fingerprint may have a Secret by now.
#[derive(Debug)]
pub(super) struct ConsumerIndex {
    by_name: HashMap<Arc<str>, Vec<Candidate>>,
}

// === impl Candidate ===

impl Candidate {
    fn of(key: &Arc<Key>) -> Self {
        Self {
            caller: Arc::new(Caller::of(key)),
            key: Some(Arc::clone(key)),
        }
    }

    pub(super) fn anonymous() -> Self {
        Self {
            key: None,
            caller: Arc::new(Caller::anonymous()),
        }
    }

    /// A caller whose credential is no key of ours, if `name` is that of one.
    fn unknown(name: &str) -> Option<Self> {
        Caller::is_stranger(name).then(|| Self {
            key: None,
            caller: Arc::new(Caller::stranger(name)),
        })
    }

    /// The callers by token that `name` can be: `namespace/name`, where a route of the namespace lists an
    /// issuer. They have what the route requires, and these attributes.
    fn by_token(table: &Table, name: &str, attributes: &Attributes) -> Vec<Self> {
        let Some((namespace, consumer)) = name.split_once('/') else {
            return Vec::new();
        };
        let routes = table.contents().routes.iter();
        let own = routes.filter(|route| {
            route.name.namespace() == namespace && !route.authentication.pass_through
        });
        let mut issuers: Vec<&Issuer> = Vec::new();
        for issuer in own.flat_map(|route| &route.authentication.issuers) {
            if !issuers.contains(&issuer) {
                issuers.push(issuer);
            }
        }
        let caller = |issuer: &&Issuer| {
            let token = Arc::new(Token::satisfying(issuer));
            Caller::by_token(
                &namespace.into(),
                consumer.into(),
                attributes.clone(),
                token,
            )
        };
        let callers = issuers.iter().map(caller);
        let candidate = |caller| Self {
            key: None,
            caller: Arc::new(caller),
        };
        callers.map(candidate).collect()
    }

    fn identity(&self) -> Identity<'_> {
        match (&self.key, &self.caller.kind) {
            (Some(key), _) => Identity::Key(key),
            (None, CallerKind::Anonymous) => Identity::Anonymous,
            (None, CallerKind::Token(_)) => Identity::Token,
            (None, CallerKind::Known(_) | CallerKind::Unknown) => Identity::Unknown,
        }
    }

    fn is_expired(&self, now: Moment) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_expired(now))
    }
}

/// Admits the first candidate that may call and that a rule admits. If none is, answers for the
/// first one with a valid key. `None` only without candidates.
pub(super) fn admit_any<'t>(
    table: &'t Table,
    mut candidates: Vec<Candidate>,
    ask: &Ask<'_>,
    now: Moment,
) -> Option<(Arc<Caller>, Result<Permit<'t>, Denial>)> {
    candidates.sort_by_key(|candidate| candidate.is_expired(now));
    let mut first = None;
    for candidate in candidates {
        let permit = may_call(table, ask.host, candidate.identity(), now)
            .and_then(|()| admit(table, &candidate.caller, ask));
        let admitted = permit.is_ok();
        let caller = match &permit {
            Ok(permit) => Arc::clone(permit.caller(table, &candidate.caller)),
            Err(_) => candidate.caller,
        };
        let judged = (caller, permit);
        if admitted {
            return Some(judged);
        }
        first.get_or_insert(judged);
    }
    first
}

/// The callers that `name` can be: `name` or `namespace/name` of a consumer with a Secret, `namespace/name` of
/// one with a token, or a fingerprint. One with a token has these attributes.
///
/// # Errors
/// [`InvalidConsumer`].
pub(super) fn candidates(
    table: &Table,
    name: &str,
    attributes: &Attributes,
) -> Result<Vec<Candidate>, InvalidConsumer> {
    let keys = &table.contents().keys;
    let full = |key: &Key| format!("{}/{}", key.secret.namespace(), key.consumer);
    let with = |fits: &dyn Fn(&Key) -> bool| -> Vec<&Arc<Key>> {
        keys.iter().filter(|key| fits(key)).collect()
    };
    // A name may have a slash; the full name of another consumer comes first.
    let mut found = with(&|key| full(key) == name);
    if found.is_empty() {
        found = with(&|key| *key.consumer == *name);
    }
    let mut names: Vec<String> = found.iter().map(|key| full(key)).collect();
    names.sort();
    names.dedup();
    match &*names {
        [] => {
            let mut found = Candidate::by_token(table, name, attributes);
            found.extend(Candidate::unknown(name));
            if found.is_empty() {
                return Err(InvalidConsumer::Unknown {
                    name: name.to_owned(),
                    suggestion: suggest(name, keys.iter().map(|key| full(key))),
                });
            }
            Ok(found)
        }
        // A key and a token may be of one consumer.
        [name] => {
            let by_token = Candidate::by_token(table, name, attributes);
            let found = found.into_iter().map(Candidate::of);
            Ok(found.chain(by_token).collect())
        }
        _ => Err(InvalidConsumer::Ambiguous {
            name: name.to_owned(),
            candidates: names,
        }),
    }
}

/// A consumer's name without its namespace.
fn short(full: &str) -> &str {
    full.split_once('/').map_or(full, |(_, name)| name)
}

fn suggest(wanted: &str, known: impl Iterator<Item = String>) -> Suggestion {
    let name = short(wanted);
    let mut known: Vec<(usize, String)> = known
        .map(|other| (strsim::levenshtein(name, short(&other)), other))
        .collect();
    known.sort_unstable();
    known.dedup();
    let near =
        |(edits, other): &&(usize, String)| *edits <= NEAR_EDITS || short(other).contains(name);
    let listed = |names: &mut dyn Iterator<Item = &(usize, String)>| -> Vec<String> {
        let names = names.take(SUGGESTIONS);
        names.map(|(_, other)| other.clone()).collect()
    };
    let near = listed(&mut known.iter().filter(near));
    if !near.is_empty() {
        return Suggestion::Near(near);
    }
    let examples = listed(&mut known.iter());
    if examples.is_empty() {
        return Suggestion::None;
    }
    Suggestion::Some {
        count: known.len(),
        examples,
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(names) => write!(f, "; near it: {}", names.join(", ")),
            Self::Some { count, examples } => {
                write!(f, "; there are {count} such as {}", examples.join(", "))
            }
            Self::None => f.write_str(", nor any other"),
        }
    }
}

// === impl ConsumerIndex ===

impl ConsumerIndex {
    pub(super) fn new(table: &Table) -> Self {
        let mut by_name: HashMap<Arc<str>, Vec<Candidate>> = HashMap::new();
        for key in &table.contents().keys {
            let candidate = Candidate::of(key);
            // Logs of earlier versions have the name without its namespace.
            let names = [
                Arc::clone(&candidate.caller.full_name),
                Arc::clone(&key.consumer),
                key.digest.fingerprint().into(),
            ];
            for name in names {
                by_name.entry(name).or_default().push(candidate.clone());
            }
        }
        Self { by_name }
    }

    /// The callers that `name` of a log can be now; empty for an unknown name.
    pub(super) fn candidates(&self, table: &Table, name: &Arc<str>) -> Vec<Candidate> {
        if let Some(known) = self.by_name.get(name) {
            return known.clone();
        }
        let anonymous = Candidate::anonymous();
        if *name == anonymous.caller.name {
            return vec![anonymous];
        }
        // A log does not have their attributes.
        let mut found = Candidate::by_token(table, name, &Attributes::new());
        found.extend(Candidate::unknown(name));
        found
    }
}
