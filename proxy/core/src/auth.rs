//! Callers and their keys: keys by their SHA-256, compared in constant time.
//!
//! A raw key is hashed at once and never kept. A key of the form of `tundish key new` ([`form`]) is
//! hashed behind the namespace that it names, and found in no other. Words: a `credential` is what a request
//! shows, a `consumer` the party that it stands for, a `key` one entry of the ring (one Secret), a `token`
//! what an issuer signed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::slice;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::names::{Attributes, Moment, ObjectName};

use form::Form;

pub mod form;
#[cfg(test)]
mod tests;
mod token;

pub use token::{Issuer, Lack, Mapping, Required, Source, Token, Trust};

/// The name of a caller without a credential.
const ANONYMOUS: &str = "anonymous";

/// Marks the name of a caller as made from its credential.
const FINGERPRINT: &str = "key-";

/// Marks the name of a caller as claimed by its token, and proved by a backend.
const CLAIMED: &str = "entra-";

/// SHA-256 of a credential. `Debug` shows the fingerprint only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes a raw key: behind its namespace and a slash if it is bound to one, else alone.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Credential::of(key).digest
    }

    /// Takes a digest that was made elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `key-` and the first 16 hex digits: the name of a caller without a Secret. With fewer, two
    /// callers could be made to share a counter.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{FINGERPRINT}{:016x}", u64::from_be_bytes(self.prefix()))
    }

    /// Whether `name` has the form of a [`KeyDigest::fingerprint`].
    #[must_use]
    pub fn is_fingerprint(name: &str) -> bool {
        let hex = name.strip_prefix(FINGERPRINT).map(str::as_bytes);
        hex.is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit))
    }

    /// The first eight bytes, by which the ring is indexed.
    const fn prefix(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// A credential that a request shows, hashed.
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    /// The digest by which the ring knows it.
    pub digest: KeyDigest,
    /// What it looks like.
    pub form: Form<'a>,
}

impl<'a> Credential<'a> {
    /// Hashes what was shown, once.
    #[must_use]
    pub fn of(shown: &'a str) -> Self {
        let form = Form::of(shown);
        let mut hash = Sha256::new();
        if let Some(namespace) = form.namespace() {
            hash.update(namespace.as_bytes());
            hash.update(b"/");
        }
        hash.update(shown.as_bytes());
        Self {
            digest: KeyDigest(hash.finalize().into()),
            form,
        }
    }
}

/// One credential of a consumer: a Secret with a route's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The Secret.
    pub secret: ObjectName,
    /// The consumer that it stands for; several Secrets may name the same.
    pub consumer: Arc<str>,
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// Labels under `attributes.tundish.dev/`.
    pub attributes: Attributes,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
}

impl Key {
    /// Whether the key is no longer valid at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Moment) -> bool {
        self.expires_ms.is_some_and(|end| now.unix_ms >= end)
    }
}

/// The caller of a request, as known from its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The consumer; a fingerprint for an unknown credential, `anonymous` without one.
    pub name: Arc<str>,
    /// The namespace of the consumer's Secret, or of the route that lists the token's issuer; else empty.
    pub namespace: Arc<str>,
    /// `namespace/name`, or the name alone without a namespace: how logs, metrics and pages name it.
    pub full_name: Arc<str>,
    /// The labels of the consumer's Secret or the claims of its token that quotas and rules can match.
    pub attributes: Attributes,
    /// Whether it is known, and by what.
    pub kind: CallerKind,
}

/// Whether a caller is known, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// It has the key of this Secret.
    Known(ObjectName),
    /// It has a token that an issuer of its namespace's routes vouches for.
    Token(Arc<Token>),
    /// It has a credential without a Secret.
    Unknown,
    /// It has no credential.
    Anonymous,
}

impl Caller {
    /// A caller without a credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.into(),
            namespace: "".into(),
            full_name: ANONYMOUS.into(),
            attributes: Vec::new(),
            kind: CallerKind::Anonymous,
        }
    }

    /// A caller whose credential has no Secret.
    #[must_use]
    pub fn unknown(digest: &KeyDigest) -> Self {
        Self::stranger(&digest.fingerprint())
    }

    /// The caller that a token of Entra ID claims: the object or application of a tenant, by their UUIDs.
    #[must_use]
    pub fn claimed(tenant: &str, principal: &str) -> Self {
        Self::stranger(&format!("{CLAIMED}{principal}@{tenant}"))
    }

    /// The caller with this name, which comes of a credential without a Secret.
    pub(crate) fn stranger(name: &str) -> Self {
        let name: Arc<str> = name.into();
        Self {
            name: Arc::clone(&name),
            full_name: name,
            kind: CallerKind::Unknown,
            ..Self::anonymous()
        }
    }

    /// Whether callers without a Secret have this name.
    #[must_use]
    pub fn is_without_secret(name: &str) -> bool {
        name == ANONYMOUS || Self::is_stranger(name)
    }

    /// Whether callers with a credential and without a Secret have this name.
    #[must_use]
    pub fn is_stranger(name: &str) -> bool {
        let claimed = name.strip_prefix(CLAIMED);
        KeyDigest::is_fingerprint(name) || claimed.is_some_and(|claimed| claimed.contains('@'))
    }

    /// A name that says nothing about the caller, the same for all its requests: 32 hex digits of the SHA-256
    /// of its full name. Hashes.
    #[must_use]
    pub fn pseudonym(&self) -> String {
        let digest = Sha256::digest(self.full_name.as_bytes());
        let first = digest.iter().take(16);
        first.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The caller of a token that a route of `namespace` admits.
    #[must_use]
    pub fn by_token(
        namespace: &Arc<str>,
        name: Arc<str>,
        attributes: Attributes,
        token: Arc<Token>,
    ) -> Self {
        Self {
            full_name: format!("{namespace}/{name}").into(),
            namespace: Arc::clone(namespace),
            name,
            attributes,
            kind: CallerKind::Token(token),
        }
    }

    /// The caller that `key` stands for.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self {
            name: Arc::clone(&key.consumer),
            namespace: key.secret.namespace().into(),
            full_name: format!("{}/{}", key.secret.namespace(), key.consumer).into(),
            attributes: key.attributes.clone(),
            kind: CallerKind::Known(key.secret.clone()),
        }
    }
}

/// All keys of a gateway, found by digest.
#[derive(Debug, Default)]
pub struct KeyRing {
    by_prefix: HashMap<[u8; 8], Places, foldhash::fast::RandomState>,
    keys: Vec<(Arc<Key>, Arc<Caller>)>,
}

/// Where the keys with one prefix stand.
#[derive(Debug)]
enum Places {
    One(usize),
    Several(Vec<usize>),
}

impl Places {
    fn push(&mut self, place: usize) {
        match self {
            Self::One(first) => *self = Self::Several(vec![*first, place]),
            Self::Several(places) => places.push(place),
        }
    }

    fn as_slice(&self) -> &[usize] {
        match self {
            Self::One(place) => slice::from_ref(place),
            Self::Several(places) => places,
        }
    }
}

impl KeyRing {
    /// Indexes `keys`. Of several with the same digest, in one namespace if the key is bound to it, the
    /// first wins, so sort them before.
    #[must_use]
    pub fn new(keys: &[Arc<Key>]) -> Self {
        Self::after(&Self::default(), keys)
    }

    /// Like [`KeyRing::new`]; the callers of keys that `before` has too are the same ones.
    #[must_use]
    pub fn after(before: &Self, keys: &[Arc<Key>]) -> Self {
        let mut ring = Self {
            by_prefix: HashMap::with_capacity_and_hasher(keys.len(), <_>::default()),
            keys: Vec::with_capacity(keys.len()),
        };
        for (place, key) in keys.iter().enumerate() {
            let known = before.caller(key).map(Arc::clone);
            let caller = known.unwrap_or_else(|| Arc::new(Caller::of(key)));
            ring.keys.push((Arc::clone(key), caller));
            match ring.by_prefix.entry(key.digest.prefix()) {
                Entry::Vacant(entry) => {
                    entry.insert(Places::One(place));
                }
                Entry::Occupied(mut entry) => entry.get_mut().push(place),
            }
        }
        ring
    }

    /// The caller of this very key.
    fn caller(&self, key: &Arc<Key>) -> Option<&Arc<Caller>> {
        let places = self.by_prefix.get(&key.digest.prefix())?.as_slice();
        let mut entries = places.iter().filter_map(|&place| self.keys.get(place));
        let found = entries.find(|(known, _)| Arc::ptr_eq(known, key));
        found.map(|(_, caller)| caller)
    }

    /// Finds the key of `credential`, expired or not, and the caller it stands for. A key that is bound
    /// to a namespace is found in that alone, whatever digests other namespaces have copied.
    ///
    /// The map lookup uses eight bytes of the digest, which reveal nothing about the key. The rest
    /// is compared in constant time, also when the lookup found nothing.
    #[must_use]
    pub fn find(&self, credential: &Credential<'_>) -> Option<(&Key, &Arc<Caller>)> {
        let digest = &credential.digest;
        let within = credential.form.namespace();
        let mut found = None;
        match self.by_prefix.get(&digest.prefix()) {
            Some(places) => {
                for &index in places.as_slice() {
                    let Some(entry) = self.keys.get(index) else {
                        continue;
                    };
                    let same: bool = entry.0.digest.0.ct_eq(&digest.0).into();
                    let here = within.is_none_or(|one| one == entry.0.secret.namespace());
                    if same && here && found.is_none() {
                        found = Some(entry);
                    }
                }
            }
            None => {
                let _: bool = std::hint::black_box([0u8; 32].ct_eq(&digest.0).into());
            }
        }
        found.map(|(key, caller)| (&**key, caller))
    }
}
