use std::sync::Arc;

use super::{Caller, Credential, Key, KeyDigest, KeyRing, form};
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
    let (_, found) = ring.find(&Credential::of("raw-b")).expect("known");
    assert_eq!((&*found.name, &*found.namespace), ("b", "ns"));
    assert!(ring.find(&Credential::of("raw-c")).is_none());
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
    let (_, found) = ring.find(&Credential::of("raw-a")).expect("known");
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

#[test]
fn a_bound_key_is_hashed_behind_its_namespace() {
    let key = form::make("team", [7; 20]).unwrap();
    let behind = format!("team/{key}");
    assert_eq!(KeyDigest::of(&key), KeyDigest::of(&behind));
}

#[test]
fn a_copied_digest_finds_a_bound_key_in_its_own_namespace_only() {
    let bound = form::make("ns", [7; 20]).unwrap();
    let copy = |raw: &str| Key {
        secret: crate::names::ObjectName::new("another", "copy"),
        ..key("copy", raw, None)
    };
    let found = |keys: Vec<Key>, raw: &str| {
        let ring = ring(keys);
        let found = ring.find(&Credential::of(raw));
        found.map(|(key, _)| key.secret.to_string())
    };
    let both = vec![copy(&bound), key("owner", &bound, None)];
    assert_eq!(found(both, &bound).as_deref(), Some("ns/owner"));
    assert_eq!(found(vec![copy(&bound)], &bound), None);
    // Nothing binds any other key: the first stands for it.
    let both = vec![copy("raw"), key("owner", "raw", None)];
    assert_eq!(found(both, "raw").as_deref(), Some("another/copy"));
}
