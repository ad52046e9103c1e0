use proxy_core::table::{BackendAuth, Identity, Principal};
use serde_json::{Value, json};

use crate::fixture::{self, found, settings};
use crate::{Compiled, IdentityGrants, Index, Kind, Settings, Tenants, compile};

const CLIENT: &str = "22222222-2222-4222-8222-222222222222";

fn compiled(auth: Value, settings: &Settings) -> Compiled {
    let mut backend = fixture::backend("a/eu");
    backend["spec"]["auth"] = auth;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "a", "name": "app"},
        "stringData": {"client": "s3cr3t", "odd": "with space"},
    });
    let mut index = Index::default();
    for value in [backend, secret] {
        index.apply(fixture::object(value));
    }
    compile(&index, settings)
}

fn auth_of(auth: Value) -> Option<BackendAuth> {
    let compiled = compiled(auth, &settings());
    let backends = &compiled.contents.backends;
    let sound = found(&compiled, Kind::AiBackend, "a/eu").is_empty();
    assert_eq!(sound, backends.len() == 1);
    backends.first().map(|backend| backend.auth.clone())
}

fn identity(principal: Principal, scope: &str) -> Option<BackendAuth> {
    Some(BackendAuth::Identity(Identity {
        principal,
        scope: scope.into(),
    }))
}

#[test]
fn each_identity_is_compiled_with_its_scope() {
    let usual = "https://ai.azure.com/.default";
    let bare = Principal::Workload {
        client_id: None,
        tenant_id: None,
    };
    assert_eq!(
        auth_of(json!({"type": "WorkloadIdentity"})),
        identity(bare, usual)
    );
    let full = json!({
        "type": "WorkloadIdentity", "scope": "https://cognitiveservices.azure.us/.default",
        "workloadIdentity": {"clientID": CLIENT, "tenantID": "contoso.onmicrosoft.com"},
    });
    let principal = Principal::Workload {
        client_id: Some(CLIENT.into()),
        tenant_id: Some("contoso.onmicrosoft.com".into()),
    };
    let gov = "https://cognitiveservices.azure.us/.default";
    assert_eq!(auth_of(full), identity(principal, gov));
    let managed = |client_id| Principal::Managed { client_id };
    assert_eq!(
        auth_of(json!({"type": "ManagedIdentity"})),
        identity(managed(None), usual)
    );
    let named = json!({"type": "ManagedIdentity", "managedIdentity": {"clientID": CLIENT}});
    assert_eq!(
        auth_of(named),
        identity(managed(Some(CLIENT.into())), usual)
    );
    let Some(BackendAuth::Identity(application)) = auth_of(json!({
        "type": "ClientSecret", "clientSecret": {"tenantID": CLIENT, "clientID": CLIENT,
            "secretRef": {"name": "app", "key": "client"}},
    })) else {
        panic!("an application");
    };
    let Principal::Application { secret, .. } = &application.principal else {
        panic!("a secret");
    };
    assert_eq!(secret.expose(), "s3cr3t");
    assert!(!format!("{application:?} {application}").contains("s3cr3t"));
}

#[test]
fn what_entra_could_not_mean_is_refused_by_field() {
    let application = |tenant: &str, client: &str, key: &str| {
        json!({"type": "ClientSecret", "clientSecret": {"tenantID": tenant, "clientID": client,
            "secretRef": {"name": "app", "key": key}}})
    };
    for (auth, field) in [
        (
            json!({"type": "ManagedIdentity", "scope": "https://ai.azure.com"}),
            "spec.auth.scope",
        ),
        (
            json!({"type": "ManagedIdentity", "scope": "a/.default b/.default"}),
            "spec.auth.scope",
        ),
        (
            json!({"type": "ManagedIdentity", "managedIdentity": {"clientID": "name"}}),
            "spec.auth.managedIdentity.clientID",
        ),
        (
            json!({"type": "WorkloadIdentity", "workloadIdentity": {"tenantID": "../common"}}),
            "spec.auth.workloadIdentity.tenantID",
        ),
        (
            application("a/b", CLIENT, "client"),
            "spec.auth.clientSecret.tenantID",
        ),
        (
            application("", CLIENT, "client"),
            "spec.auth.clientSecret.tenantID",
        ),
        (
            application(CLIENT, "", "client"),
            "spec.auth.clientSecret.clientID",
        ),
        (
            application(CLIENT, CLIENT, "none"),
            "spec.auth.clientSecret.secretRef.key",
        ),
        (
            application(CLIENT, CLIENT, "odd"),
            "spec.auth.clientSecret.secretRef.key",
        ),
    ] {
        let compiled = compiled(auth.clone(), &settings());
        assert!(compiled.contents.backends.is_empty(), "{auth}");
        let found = found(&compiled, Kind::AiBackend, "a/eu");
        assert!(
            found.iter().any(|one| one.contains(field)),
            "{auth}: {found:?}"
        );
    }
}

#[test]
fn the_gateways_own_identity_needs_a_grant_among_several_namespaces() {
    let granted = |tenants, grants: &[&str], auth: &str| {
        let settings = Settings {
            tenants,
            identity_grants: IdentityGrants::Namespaces(
                grants.iter().map(|&one| one.to_owned()).collect(),
            ),
            ..settings()
        };
        let auth = match auth {
            "ClientSecret" => json!({"type": auth, "clientSecret": {"tenantID": CLIENT,
                "clientID": CLIENT, "secretRef": {"name": "app", "key": "client"}}}),
            _ => json!({"type": auth}),
        };
        let compiled = compiled(auth, &settings);
        !compiled.contents.backends.is_empty()
    };
    for auth in ["WorkloadIdentity", "ManagedIdentity"] {
        assert!(!granted(Tenants::Many, &[], auth));
        assert!(!granted(Tenants::OfRoutes, &["b"], auth));
        assert!(granted(Tenants::Many, &["b", "a"], auth));
        assert!(granted(Tenants::One, &[], auth));
    }
    assert!(granted(Tenants::Many, &[], "ClientSecret"));
    let own = Settings {
        own_namespace: "a".to_owned(),
        tenants: Tenants::Many,
        identity_grants: IdentityGrants::Namespaces(Vec::new()),
        ..settings()
    };
    let compiled = compiled(json!({"type": "ManagedIdentity"}), &own);
    assert_eq!(compiled.contents.backends.len(), 1);
}
