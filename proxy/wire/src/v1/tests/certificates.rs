//! The certificates of backends, as PEM.

use super::*;

/// The objects of one backend whose CA is this PEM text.
fn with_ca(pem: &str) -> Objects {
    let contents = Contents::new(
        vec![backend("a/b", BackendAuth::None)],
        vec![],
        vec![],
        vec![],
    );
    let mut json = serde_json::to_value(encode(&contents)).unwrap();
    json["backend/a/b"]["caPem"] = pem.into();
    serde_json::from_value(json).unwrap()
}

#[test]
fn certificates_are_read_from_any_pem_text() {
    let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let other = "text before\r\n-----BEGIN CERTIFICATE-----\r\nAQI=\r\n-----END CERTIFICATE-----";
    let contents = decode(&with_ca(&format!("{one}{other}"))).unwrap();
    let ca = contents.backends[0].ca.as_ref().unwrap();
    let der: Vec<&[u8]> = ca.iter().map(|der| &**der).collect();
    assert_eq!(der, [&[0][..], &[1, 2]]);
}

#[test]
fn damaged_pem_is_refused_with_the_key_of_its_entry_and_not_quoted() {
    for (pem, expect) in [
        ("", "no certificate"),
        ("s3cr3t", "no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\ns3cr3t!\n-----END CERTIFICATE-----\n",
            "damaged",
        ),
        ("-----BEGIN CERTIFICATE-----\nAA==\n", "damaged"),
    ] {
        let error = decode(&with_ca(pem)).unwrap_err().to_string();
        assert!(
            error.contains("\"backend/a/b\"") && error.contains(expect),
            "{error}"
        );
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}
