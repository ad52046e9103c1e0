use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::signer::{
    AUDIENCE, ISSUER, NOW_S, Signer, at, claims, expectation, set_of, unsigned,
};
use super::Rejected;

fn with(member: &str, value: Value) -> Value {
    let mut all = claims();
    all[member] = value;
    all
}

fn without(member: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().remove(member);
    all
}

#[test]
fn a_good_token_shows_its_claims() {
    for signer in [
        Signer::elliptic("a"),
        Signer::edwards("b"),
        Signer::rsa("c"),
    ] {
        let keys = set_of(&[&signer.listed(), &Signer::elliptic("z").listed()]);
        let judged = expectation().judge(&signer.sign(&claims()), &keys, at(NOW_S));
        let judged = judged.unwrap();
        assert_eq!(judged.find("oid"), Some(&json!("9f8e")));
        assert_eq!(judged.find("/roles/1"), Some(&json!("writer")));
        assert!(!format!("{judged:?}").contains("9f8e"));
    }
}

#[test]
fn claims_must_fit_to_the_letter_and_times_within_a_minute() {
    let signer = Signer::elliptic("a");
    let keys = set_of(&[&signer.listed()]);
    let judge = |claims: &Value, now| {
        let judged = expectation().judge(&signer.sign(claims), &keys, at(now));
        judged.map(|_claims| ())
    };
    let ends = NOW_S + 3600;
    for (claims, now, expect) in [
        (claims(), NOW_S - 60, Ok(())),
        (claims(), NOW_S - 61, Err(Rejected::NotYet)),
        (claims(), ends + 59, Ok(())),
        (claims(), ends + 60, Err(Rejected::Expired)),
        (with("exp", json!(1.9e9 + 0.5)), NOW_S, Ok(())),
        (
            with("exp", json!("1999999999")),
            NOW_S,
            Err(Rejected::Expired),
        ),
        (without("exp"), NOW_S, Err(Rejected::Expired)),
        (without("nbf"), NOW_S, Ok(())),
        (with("nbf", json!("0")), NOW_S, Err(Rejected::NotYet)),
        (with("aud", json!(["x", AUDIENCE])), NOW_S, Ok(())),
        (with("aud", json!(["x"])), NOW_S, Err(Rejected::Audience)),
        (
            with("aud", json!("api://gateway/")),
            NOW_S,
            Err(Rejected::Audience),
        ),
        (
            with("aud", json!({"api://gateway": 1})),
            NOW_S,
            Err(Rejected::Audience),
        ),
        (without("aud"), NOW_S, Err(Rejected::Audience)),
        (
            with("iss", json!(format!("{ISSUER}/"))),
            NOW_S,
            Err(Rejected::Issuer),
        ),
        (with("iss", json!([ISSUER])), NOW_S, Err(Rejected::Issuer)),
        (without("iss"), NOW_S, Err(Rejected::Issuer)),
    ] {
        assert_eq!(judge(&claims, now), expect, "{claims} at {now}");
    }
}

#[test]
fn the_key_decides_over_the_algorithm() {
    let signer = Signer::elliptic("a");
    let listed = signer.listed();
    let keys = set_of(&[&listed]);
    let judge = |token: &str| {
        let judged = expectation().judge(token, &keys, at(NOW_S));
        judged.expect_err("it is forged")
    };
    for (algorithm, expect) in [
        ("none", Rejected::Malformed),
        ("None", Rejected::Malformed),
        ("HS256", Rejected::Algorithm),
        ("RS256", Rejected::Algorithm),
        ("ES384", Rejected::Algorithm),
        ("ES256", Rejected::Signature),
    ] {
        let header = json!({"alg": algorithm, "kid": "a", "typ": "JWT"});
        assert_eq!(judge(&unsigned(&header, &claims())), expect, "{algorithm}");
    }
    // The public key as a shared secret.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("a".to_owned());
    for secret in [listed.to_string(), listed["x"].as_str().unwrap().to_owned()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let forged = encode(&header, &claims(), &key).unwrap();
        assert_eq!(judge(&forged), Rejected::Algorithm);
    }
    // A key of the token's own.
    let other = Signer::elliptic("a");
    assert_eq!(judge(&other.sign(&claims())), Rejected::Signature);
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = serde_json::from_value(other.listed()).ok();
    header.kid = Some("b".to_owned());
    assert_eq!(
        judge(&other.sign_as(&header, &claims())),
        Rejected::UnknownKey
    );
    header.kid = Some("a".to_owned());
    header.crit = Some(vec!["exp".to_owned()]);
    assert_eq!(
        judge(&signer.sign_as(&header, &claims())),
        Rejected::Malformed
    );
}

#[test]
fn a_token_without_a_keys_name_needs_an_only_key() {
    let signer = Signer::elliptic("a");
    let token = signer.sign_as(&Header::new(Algorithm::ES256), &claims());
    let one = set_of(&[&signer.listed()]);
    assert!(expectation().judge(&token, &one, at(NOW_S)).is_ok());
    let two = set_of(&[&signer.listed(), &Signer::elliptic("b").listed()]);
    let judged = expectation().judge(&token, &two, at(NOW_S));
    assert_eq!(judged.unwrap_err(), Rejected::UnknownKey);
}

#[test]
fn what_is_no_token_is_malformed() {
    let signer = Signer::elliptic("a");
    let keys = set_of(&[&signer.listed()]);
    let good = signer.sign(&claims());
    let long = with("x", json!("x".repeat(20_000)));
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        &format!("{good}.x"),
        &signer.sign(&long),
    ] {
        let judged = expectation().judge(token, &keys, at(NOW_S));
        assert_eq!(judged.unwrap_err(), Rejected::Malformed, "{token:.40}");
    }
    let list = signer.sign(&json!([1]));
    let judged = expectation().judge(&list, &keys, at(NOW_S));
    assert_eq!(judged.unwrap_err(), Rejected::Malformed);
}

proptest! {
    #[test]
    fn no_changed_byte_passes(place: prop::sample::Index, byte in "[A-Za-z0-9_.-]") {
        let signer = Signer::elliptic("a");
        let keys = set_of(&[&signer.listed()]);
        let good = signer.sign(&claims());
        let at_byte = place.index(good.len());
        let forged = format!("{}{byte}{}", &good[..at_byte], &good[at_byte + 1..]);
        prop_assume!(forged != good);
        prop_assert!(expectation().judge(&forged, &keys, at(NOW_S)).is_err());
    }

    #[test]
    fn any_text_is_judged(text in "\\PC{0,200}", now: i64) {
        let keys = set_of(&[&Signer::edwards("a").listed()]);
        let now = at(now / 1_000);
        prop_assert!(expectation().judge(&text, &keys, now).is_err());
    }
}
