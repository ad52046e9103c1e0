use std::sync::Arc;

use super::{Key, KeyDigest, KeyRing, Rejected};
use crate::names::{Moment, ObjectName};

fn key(secret: &str, raw: &str, expires_ms: Option<i64>) -> Key {
    Key {
        secret: ObjectName::new("ns", secret),
        consumer: secret.into(),
        digest: KeyDigest::of(raw),
        attributes: Vec::new(),
        expires_ms,
    }
}

const NOW: Moment = Moment {
    monotonic_ms: 0,
    unix_ms: 1_000,
};

fn ring(keys: Vec<Key>) -> KeyRing {
    let keys: Vec<_> = keys.into_iter().map(Arc::new).collect();
    KeyRing::new(&keys)
}

#[test]
fn finds_a_key_by_its_digest_only() {
    let ring = ring(vec![key("a", "raw-a", None), key("b", "raw-b", None)]);
    let found = ring.find(&KeyDigest::of("raw-b"), NOW).expect("known");
    assert_eq!((&*found.name, &*found.namespace), ("b", "ns"));
    assert_eq!(
        ring.find(&KeyDigest::of("raw-c"), NOW),
        Err(Rejected::Unknown)
    );
}

#[test]
fn tells_equal_prefixes_apart() {
    let mut twin = *KeyDigest::of("raw-a").as_bytes();
    twin[31] ^= 1;
    let ring = ring(vec![
        Key {
            digest: KeyDigest::from_bytes(twin),
            ..key("twin", "", None)
        },
        key("a", "raw-a", None),
    ]);
    assert_eq!(
        ring.find(&KeyDigest::of("raw-a"), NOW).map(|c| &*c.name),
        Ok("a")
    );
}

#[test]
fn refuses_an_expired_key_from_its_last_millisecond_on() {
    let ring = ring(vec![
        key("a", "raw", Some(1_000)),
        key("b", "other", Some(1_001)),
    ]);
    assert_eq!(
        ring.find(&KeyDigest::of("raw"), NOW),
        Err(Rejected::Expired)
    );
    assert!(ring.find(&KeyDigest::of("other"), NOW).is_ok());
}

#[test]
fn shows_a_fingerprint_and_never_the_digest() {
    let digest = KeyDigest::of("secret");
    let shown = format!("{digest:?}");
    assert_eq!(shown, digest.fingerprint());
    assert_eq!(shown.len(), 12);
}
