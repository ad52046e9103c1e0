use super::*;

const KEY: &str = "s3cr3t/of+everyone:0123456789";

fn finds(text: &str) -> bool {
    let mut secrets = Secrets::default();
    secrets.add("key", KEY);
    !secrets.found_in(text.as_bytes()).is_empty()
}

#[test]
fn a_secret_is_found_in_every_form() {
    assert!(finds(&format!("before {KEY} after")));
    assert!(finds(&KEY[3..20]), "a part of it");
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(finds(&hex) && finds(&hex.to_uppercase()));
    assert!(finds("of%2Beveryone%3A0123456789"));
    for before in ["", "a", "ab", "abc", "user:", "Bearer "] {
        for engine in [STANDARD, URL_SAFE] {
            let text = engine.encode(format!("{before}{KEY} and more"));
            assert!(finds(&text), "{text}");
        }
    }
}

#[test]
fn what_only_looks_like_it_is_not_found() {
    assert!(!finds(""));
    assert!(!finds(&KEY[..15]));
    assert!(!finds("s3cr3t/of everyone:01234"));
}

#[test]
fn a_finding_names_the_secret_and_the_place() {
    let mut secrets = Secrets::default();
    secrets.add("key", KEY);
    secrets.add("password", "hunter22");
    let found = secrets.found_in(b"log: password=hunter22, twice hunter22");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("password: ...log: password="),
        "{found:?}"
    );
    assert_eq!(secrets.missing_in(b"hunter22"), ["key"]);
}

#[test]
fn secrets_of_applied_manifests_are_looked_for() {
    applied(
        "kind: Secret\nstringData: {key: of-the-first-0, short: a}\n---\nkind: ConfigMap\nstringData: {no: of-the-map-0}",
    );
    applied(r#"{"kind": "Secret", "stringData": {"key": "of-the-second-0"}}"#);
    applied("kind: [");
    assert_eq!(of_applied(b"of-the-first-0 of-the-map-0 and a").len(), 1);
    assert_eq!(of_applied(b"of-the-second-0").len(), 1);
    assert!(of_applied(b"nothing").is_empty());
}
