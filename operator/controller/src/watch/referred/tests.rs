use operator_compile::{Kind, ObjectRef};
use proxy_core::names::ObjectName;
use serde_json::json;

use super::{Changed, Observed, Referred};

/// An AIBackend that takes its key from an entry of a Secret, and the certificates from `ca.crt` of `roots`.
fn backend(namespace: &str, name: &str, (secret, entry): (&str, &str)) -> Observed {
    let object = json!({
        "apiVersion": "tundish.dev/v1alpha1", "kind": "AIBackend",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "Foundry", "endpoint": "https://contoso.services.ai.azure.com",
            "auth": {"type": "APIKey", "apiKey": {"secretRef": {"name": secret, "key": entry}}},
            "tls": {"caCertificateRef": {"name": "roots"}},
            "deployments": [{"name": "gpt-4o"}],
        },
    });
    Observed::read(Kind::AiBackend, serde_json::from_value(object).unwrap()).unwrap()
}

fn changed(more: &[&str], less: &[&str]) -> Changed {
    let names = |all: &[&str]| {
        all.iter()
            .map(|one| ObjectName::new("team", *one))
            .collect()
    };
    Changed {
        more: names(more),
        less: names(less),
    }
}

#[test]
fn a_secret_changes_with_the_entries_that_any_backend_refers_to() {
    let referred = Referred::default();
    let entries = |name: &str| -> Vec<String> {
        let entries = referred.entries(&ObjectName::new("team", name));
        entries.into_iter().collect()
    };
    let put = |name: &str, reference| referred.put(&backend("team", name, reference));
    assert_eq!(put("a", ("keys", "eu")), changed(&["keys", "roots"], &[]));
    assert_eq!(
        put("a", ("keys", "eu")),
        changed(&[], &[]),
        "nothing has changed"
    );
    assert_eq!(
        put("b", ("keys", "eu")),
        changed(&[], &[]),
        "another refers to it as well"
    );
    assert_eq!(put("b", ("keys", "us")), changed(&["keys"], &[]));
    assert_eq!(entries("keys"), ["eu", "us"]);
    assert_eq!(entries("roots"), ["ca.crt"]);
    assert_eq!(put("b", ("other", "us")), changed(&["other"], &["keys"]));
    let a = ObjectRef::new(Kind::AiBackend, ObjectName::new("team", "a"));
    assert_eq!(referred.remove(&a), changed(&[], &["keys"]));
    assert!(entries("keys").is_empty());
    let elsewhere = ObjectName::new("elsewhere", "roots");
    assert!(
        referred.entries(&elsewhere).is_empty(),
        "references stay in their namespace"
    );
}

#[test]
fn a_listing_forgets_what_is_gone_in_its_namespace_only() {
    let referred = Referred::default();
    referred.put(&backend("team", "a", ("keys", "eu")));
    let other = backend("other", "a", ("keys", "eu"));
    referred.put(&other);
    let listed = [backend("team", "b", ("keys", "us"))];
    let change = referred.list(Some("team"), &listed);
    assert!(
        change.more.contains(&ObjectName::new("team", "keys")),
        "{change:?}"
    );
    let kept = referred.entries(&ObjectName::new("other", "keys"));
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["eu"]);
    referred.list(None, &listed);
    assert!(
        referred
            .entries(&ObjectName::new("other", "keys"))
            .is_empty()
    );
}
