use proptest::prelude::*;

use super::*;

/// The randomness of the examples.
const RANDOM_BYTES: [u8; 20] = *b"twenty random bytes.";

#[test]
fn a_key_has_its_namespace_its_randomness_and_a_checksum() {
    let key = make("team-a", RANDOM_BYTES).unwrap();
    assert_eq!(key, "tdh_team-a_ehvpavkmf4g74rbechqpt832f5t6awse1s1fsa3");
    assert_eq!(Form::of(&key), Form::Bound("team-a"));
    assert!(is_whole(&key));
    // As `printf 123456789 | gzip -c | tail -c8 | od -tx4` says.
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

#[test]
fn foreign_and_damaged_credentials_are_told_apart() {
    let key = make("team", RANDOM_BYTES).unwrap();
    for foreign in ["", "tdh", "sk-123", "TDH_team", &key[1..]] {
        assert_eq!(Form::of(foreign), Form::Foreign, "{foreign}");
    }
    let longer = format!("{key}0");
    let long_namespace = key.replace("team", &"t".repeat(64));
    for damaged in ["tdh_", "tdh_team", "tdh_team_", &key[..40], &longer] {
        assert_eq!(Form::of(damaged), Form::Damaged, "{damaged}");
    }
    for damaged in [&*key.replace("team", ""), &long_namespace] {
        assert_eq!(Form::of(damaged), Form::Damaged, "{damaged}");
        assert!(!is_whole(damaged), "{damaged}");
    }
}

#[test]
fn a_key_of_no_namespace_is_not_made() {
    for name in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
        assert_eq!(make(name, RANDOM_BYTES), Err(InvalidNamespace), "{name}");
    }
    assert!(make(&"a".repeat(63), RANDOM_BYTES).is_ok());
}

proptest! {
    #[test]
    fn every_made_key_is_whole_and_no_other_is(
        namespace in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        random in any::<[u8; 20]>(),
        place in any::<prop::sample::Index>(),
        other in "[0-9A-Za-z_-]",
    ) {
        let key = make(&namespace, random).unwrap();
        prop_assert!(is_whole(&key));
        prop_assert_eq!(Form::of(&key).namespace(), Some(&*namespace));
        let at = place.index(key.len());
        let mut typed = key.clone();
        typed.replace_range(at..=at, &other);
        prop_assert_eq!(is_whole(&typed), typed == key);
    }

    #[test]
    fn any_text_has_a_form(text in ".{0,80}", tail in "tdh_[a-z]{0,3}_\\PC{30,45}") {
        for text in [text, tail] {
            let form = Form::of(&text);
            prop_assert!(!is_whole(&text) || matches!(form, Form::Bound(_)));
        }
    }

    #[test]
    fn different_randomness_makes_different_keys(one in any::<[u8; 20]>(), two in any::<[u8; 20]>()) {
        prop_assert_eq!(one == two, make("team", one) == make("team", two));
    }
}
