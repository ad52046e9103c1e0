use std::sync::Arc;

use super::authority::{AUTHORITY_MS, DAY_MS};
use super::*;

const NOW_MS: i64 = 1_790_000_000_000;

fn count(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn an_authority_is_read_as_it_was_stored() {
    let made = Authority::generate(NOW_MS).unwrap();
    let read = Authority::from_pem(made.certificate_pem(), &made.key_pem()).unwrap();
    assert_eq!(read.ends_ms(), NOW_MS + AUTHORITY_MS);
    assert_eq!(read.certificate_pem(), made.certificate_pem());
    read.issue(&["tundish.example".to_owned()], NOW_MS).unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let one = Authority::generate(NOW_MS).unwrap();
    let other = Authority::generate(NOW_MS).unwrap();
    assert!(Authority::from_pem(one.certificate_pem(), &other.key_pem()).is_err());
    assert!(Authority::from_pem("nonsense", &one.key_pem()).is_err());
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_and_never_outlives_its_authority() {
    let authority = Authority::generate(NOW_MS).unwrap();
    let names = ["localhost".to_owned()];
    let leaf = authority.issue(&names, NOW_MS).unwrap();
    assert_eq!(leaf.renews_at_ms(), NOW_MS + 60 * DAY_MS);
    let last = authority
        .issue(&names, authority.ends_ms() - DAY_MS)
        .unwrap();
    assert_eq!(last.ends_ms, authority.ends_ms());
}

#[test]
fn a_new_leaf_is_shown_after_a_renewal_and_after_a_change_of_authority() {
    let authority = Authority::generate(NOW_MS).unwrap();
    let names = vec!["localhost".to_owned()];
    let certificates = Certificates::new(authority, names, NOW_MS).unwrap();
    let shown = || Arc::as_ptr(&certificates.leaf.0.load_full());
    let first = shown();
    certificates.renew(NOW_MS + DAY_MS).unwrap();
    assert_ne!(shown(), first);
    assert_eq!(certificates.renews_at_ms(), NOW_MS + 61 * DAY_MS);
    let before = certificates.leaf.0.load_full();
    let other = Authority::generate(NOW_MS).unwrap();
    certificates.sign_with(other, NOW_MS).unwrap();
    assert!(!Arc::ptr_eq(&before, &certificates.leaf.0.load_full()));
}

#[test]
fn authorities_overlap_when_one_follows_another() {
    let advance = |stored: &StoredAuthorities, now_ms| stored.advance(now_ms).unwrap();
    let signing =
        |stored: &StoredAuthorities| Authorities::load(stored).unwrap().signing().unwrap();
    let stored = Authorities::generate(NOW_MS).unwrap().store();
    let first = signing(&stored);
    assert_eq!(advance(&stored, NOW_MS + 1_000 * DAY_MS), None);
    assert_eq!(count(&stored.bundle()), 1);

    // A year before the end a successor is announced. It signs nothing yet.
    let announced_ms = first.ends_ms() - 364 * DAY_MS;
    let stored = advance(&stored, announced_ms).expect("a successor is due");
    assert_eq!(advance(&stored, announced_ms + DAY_MS), None);
    assert_eq!(count(&stored.bundle()), 2);
    assert_eq!(signing(&stored).certificate_pem(), first.certificate_pem());

    // A month later it signs, and the former one stays in the bundle.
    let stored = advance(&stored, announced_ms + ANNOUNCE_MS).expect("the successor signs");
    assert_ne!(signing(&stored).certificate_pem(), first.certificate_pem());
    assert!(stored.bundle().contains(first.certificate_pem()));
    assert_eq!(count(&stored.bundle()), 2);

    // The former one is dropped at its end.
    let stored = advance(&stored, first.ends_ms()).expect("the former one has ended");
    assert_eq!(count(&stored.bundle()), 1);
}

#[test]
fn the_bundle_has_every_certificate_and_no_key() {
    let stored = StoredAuthorities {
        certificate: "now\n".to_owned(),
        key: "key of now\n".to_owned(),
        next: Some(("next\n".to_owned(), "key of next\n".to_owned())),
        former: "former\n".to_owned(),
    };
    assert_eq!(stored.bundle(), "now\nnext\nformer\n");
    assert_eq!(format!("{stored:?}"), "StoredAuthorities { .. }");
}

#[test]
fn no_debug_output_shows_a_key() {
    let authority = Authority::generate(NOW_MS).unwrap();
    let key = authority.key_pem();
    let middle = key.lines().nth(1).unwrap().to_owned();
    let leaf = authority.issue(&["localhost".to_owned()], NOW_MS).unwrap();
    let certificates = Certificates::new(authority, Vec::new(), NOW_MS).unwrap();
    assert!(!format!("{certificates:?} {leaf:?}").contains(&middle));
}
