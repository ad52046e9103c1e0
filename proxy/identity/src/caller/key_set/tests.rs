use serde_json::{Value, json};

use super::super::signer::Signer;
use super::KeySet;

fn ids(keys: &Value) -> Option<String> {
    let set = KeySet::parse(json!({"keys": keys}).to_string().as_bytes())?;
    let shown: Vec<String> = set.0.iter().map(|key| format!("{key:?}")).collect();
    Some(shown.join(", "))
}

/// An RSA key as Entra lists it, without an algorithm.
fn rsa(modulus: usize) -> Value {
    // Ends with a character whose unused bits are 0.
    let modulus = "u".repeat(modulus - 1) + "w";
    json!({"kty": "RSA", "use": "sig", "kid": "r", "n": modulus, "e": "AQAB",
        "x5c": ["MII"], "x5t": "r", "issuer": "https://login.microsoftonline.com/t/v2.0"})
}

fn changed(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

#[test]
fn each_key_has_the_algorithm_of_its_kind() {
    let (elliptic, edwards) = (
        Signer::elliptic("e").listed(),
        Signer::edwards("d").listed(),
    );
    let keys = json!([
        rsa(342),
        changed(rsa(342), "alg", json!("PS256")),
        elliptic,
        edwards
    ]);
    let expect = "Some(\"r\") RS256, Some(\"r\") PS256, Some(\"e\") ES256, Some(\"d\") EdDSA";
    assert_eq!(ids(&keys).as_deref(), Some(expect));
}

#[test]
fn what_signs_nothing_is_left_out_and_holds_nothing_back() {
    let elliptic = Signer::elliptic("e").listed();
    let bad = [
        json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0"}),
        json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256"}),
        rsa(171),
        changed(rsa(342), "use", json!("enc")),
        changed(rsa(342), "alg", json!("HS256")),
        changed(rsa(342), "alg", json!("ES256")),
        changed(elliptic.clone(), "alg", json!("RS256")),
        changed(elliptic.clone(), "crv", json!("secp256k1")),
        json!({"kty": "novel"}),
        json!(7),
    ];
    for key in &bad {
        assert_eq!(ids(&json!([key])), None, "{key}");
        let beside = ids(&json!([key, elliptic])).unwrap();
        assert_eq!(beside, "Some(\"e\") ES256", "{key}");
    }
    for text in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": []}"#] {
        assert!(KeySet::parse(text.as_bytes()).is_none(), "{text}");
    }
}
