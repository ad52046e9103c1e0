use serde_json::json;

use crate::Kind;
use crate::fixture::{self, compiled, found};

fn endpoint(text: &str, allow_plaintext: bool) -> Option<String> {
    let mut backend = fixture::backend("a/eu");
    backend["spec"]["endpoint"] = json!(text);
    backend["spec"]["allowPlaintext"] = json!(allow_plaintext);
    let compiled = compiled([backend]);
    let backends = &compiled.contents.backends;
    let sound = found(&compiled, Kind::AiBackend, "a/eu").is_empty();
    assert_eq!(sound, backends.len() == 1, "{text}");
    backends.first().map(|backend| backend.endpoint.to_string())
}

#[test]
fn an_endpoint_is_kept_as_scheme_host_port_and_prefix() {
    for (text, expect) in [
        ("https://a.example", "https://a.example"),
        ("https://A.example:443/", "https://a.example"),
        ("https://a.example:8443/x/y//", "https://a.example:8443/x/y"),
        ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
    ] {
        assert_eq!(endpoint(text, false).as_deref(), Some(expect));
    }
    assert_eq!(
        endpoint("http://a.example", true).as_deref(),
        Some("http://a.example")
    );
}

#[test]
fn an_endpoint_that_could_lead_elsewhere_is_refused() {
    for text in [
        "",
        "a.example",
        "http://a.example",
        "ftp://a.example",
        "https://",
        "https:///a.example",
        "https:\\\\a.example",
        "https://user@a.example",
        "https://user:secret@a.example",
        "https://a.example/?x=1",
        "https://a.example/#x",
        "https://a b.example",
        "https://a.example\n.b.example",
    ] {
        assert_eq!(endpoint(text, false), None, "{text}");
    }
}

#[test]
fn a_backend_comes_back_when_its_secret_appears() {
    let mut backend = fixture::backend("a/eu");
    backend["spec"]["auth"] =
        json!({"type": "APIKey", "apiKey": {"secretRef": {"name": "s", "key": "key"}}});
    let without = compiled([backend.clone()]);
    assert_eq!(
        found(&without, Kind::AiBackend, "a/eu"),
        ["SecretNotFound at spec.auth.apiKey.secretRef.name"]
    );
    assert!(without.contents.backends.is_empty());
    let with = compiled([backend, fixture::secret("a/s", "sk-1\n")]);
    assert!(found(&with, Kind::AiBackend, "a/eu").is_empty());
    let auth = &with.contents.backends[0].auth;
    assert!(matches!(auth, proxy_core::table::BackendAuth::ApiKey(key) if key.expose() == "sk-1"));
}
