use std::sync::Arc;

use super::{Caller, Key, KeyDigest, KeyRing};
use crate::names::Moment;
use crate::test_util;

fn key(secret: &str, raw: &str, expires_ms: Option<i64>) -> Key {
    Key {
        digest: KeyDigest::of(raw),
        expires_ms,
        ..test_util::key(secret)
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
    let (_, found) = ring.find(&KeyDigest::of("raw-b")).expect("known");
    assert_eq!((&*found.name, &*found.namespace), ("b", "ns"));
    assert!(ring.find(&KeyDigest::of("raw-c")).is_none());
}

#[test]
fn distinguishes_equal_prefixes() {
    let mut twin = *KeyDigest::of("raw-a").as_bytes();
    twin[31] ^= 1;
    let ring = ring(vec![
        Key {
            digest: KeyDigest::from_bytes(twin),
            ..key("twin", "", None)
        },
        key("a", "raw-a", None),
    ]);
    let (_, found) = ring.find(&KeyDigest::of("raw-a")).expect("known");
    assert_eq!(&*found.name, "a");
}

#[test]
fn a_key_expires_with_its_last_millisecond() {
    assert!(key("a", "raw", Some(1_000)).is_expired(NOW));
    assert!(!key("a", "raw", Some(1_001)).is_expired(NOW));
    assert!(!key("a", "raw", None).is_expired(NOW));
}

#[test]
fn a_pseudonym_is_a_part_of_the_hash_of_the_full_name() {
    // As `printf anonymous | sha256sum` says.
    let anonymous = Caller::anonymous().pseudonym();
    assert_eq!(anonymous, "2f183a4e64493af3f377f745eda50236");
    let of = |name: &str| Caller::of(&key(name, "raw", None)).pseudonym();
    assert_eq!(of("ann"), of("ann"));
    assert_ne!(of("ann"), of("bob"));
}

#[test]
fn shows_a_fingerprint_and_never_the_digest() {
    let digest = KeyDigest::of("secret");
    let shown = format!("{digest:?}");
    assert_eq!(shown, digest.fingerprint());
    assert!(KeyDigest::is_fingerprint(&shown));
    for other in [
        "secret",
        "key-",
        "key-01234567",
        "key-0123456789abcdeg",
        "0123abcd",
    ] {
        assert!(!KeyDigest::is_fingerprint(other), "{other}");
    }
}
