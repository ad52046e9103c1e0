use super::*;

/// A self-signed CA certificate.
const ROOT: &str = include_str!("example-root.pem");

fn check(pem: &str, expect: Result<usize, InvalidCertificates>) {
    let count = parse(pem).map(|certificates| certificates.len());
    assert_eq!(count, expect, "{pem}");
}

#[test]
fn every_certificate_is_read_and_other_sections_are_skipped() {
    check(ROOT, Ok(1));
    check(&format!("a comment\n{ROOT}\n{ROOT}"), Ok(2));
    let key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    check(&format!("{key}{ROOT}"), Ok(1));
    check(key, Err(InvalidCertificates::Absent));
    check("", Err(InvalidCertificates::Absent));
}

#[test]
fn a_damaged_certificate_is_found_by_its_number() {
    let damaged = |number| Err(InvalidCertificates::Damaged { number });
    let no_der = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    check(no_der, damaged(1));
    check(&format!("{ROOT}{no_der}"), damaged(2));
    let (half, _) = ROOT.split_at(ROOT.len() / 2);
    check(half, damaged(1));
    check(&ROOT.replace("MIIB", "M!IB"), damaged(1));
}
