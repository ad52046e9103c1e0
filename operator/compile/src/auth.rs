//! How the gateway shows itself to a backend.

use crds::{
    AuthType, BackendAuth, ClientSecretAuth, ConditionType, ManagedIdentityAuth, Reason,
    SecretKeyRef, WorkloadIdentityAuth,
};
use proxy_core::names::Secret;
use proxy_core::table::{self, Identity, Principal, resource_of};

use crate::bounds::{is_graphic, is_tenant, is_uuid};
use crate::diagnostic::Findings;
use crate::lookup::Lookup;
use crate::settings::Settings;

/// `None` if something is wrong, which is found.
pub(crate) fn compile(
    auth: &BackendAuth,
    lookup: &Lookup<'_>,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<table::BackendAuth> {
    union_arms(auth, findings);
    let principal = match auth.type_ {
        AuthType::None => return Some(table::BackendAuth::None),
        AuthType::PassThrough => return Some(table::BackendAuth::PassThrough),
        AuthType::ApiKey => {
            let field = "spec.auth.apiKey.secretRef";
            let key = secret(&auth.api_key.as_ref()?.secret_ref, field, lookup, findings)?;
            return Some(table::BackendAuth::ApiKey(key));
        }
        AuthType::WorkloadIdentity => {
            own_identity(lookup.namespace, settings, findings);
            Some(workload(auth.workload_identity.as_ref(), findings))
        }
        AuthType::ManagedIdentity => {
            own_identity(lookup.namespace, settings, findings);
            Some(managed(auth.managed_identity.as_ref(), findings))
        }
        AuthType::ClientSecret => {
            let declared = auth.client_secret.as_ref();
            declared.and_then(|declared| application(declared, lookup, findings))
        }
    };
    if resource_of(&auth.scope).is_none() {
        let message = "must name one resource and end with /.default, for example \
                       https://ai.azure.com/.default";
        findings.invalid("spec.auth.scope", message);
        return None;
    }
    Some(table::BackendAuth::Identity(Identity {
        principal: principal?,
        scope: auth.scope.as_str().into(),
    }))
}

/// Each arm of the union belongs to one type.
fn union_arms(auth: &BackendAuth, findings: &mut Findings) {
    let arms = [
        (
            "apiKey",
            "APIKey",
            AuthType::ApiKey,
            auth.api_key.is_some(),
            true,
        ),
        (
            "clientSecret",
            "ClientSecret",
            AuthType::ClientSecret,
            auth.client_secret.is_some(),
            true,
        ),
        (
            "workloadIdentity",
            "WorkloadIdentity",
            AuthType::WorkloadIdentity,
            auth.workload_identity.is_some(),
            false,
        ),
        (
            "managedIdentity",
            "ManagedIdentity",
            AuthType::ManagedIdentity,
            auth.managed_identity.is_some(),
            false,
        ),
    ];
    for (arm, word, type_, present, required) in arms {
        let field = format!("spec.auth.{arm}");
        if auth.type_ == type_ && required && !present {
            findings.invalid(field, format!("is required with type {word}; add it"));
        } else if auth.type_ != type_ && present {
            let message = format!("is only for type {word}; change type or remove it");
            findings.invalid(field, message);
        }
    }
}

/// The identities of the proxy and of its machine are the platform's: a namespace could send their tokens
/// anywhere.
fn own_identity(namespace: &str, settings: &Settings, findings: &mut Findings) {
    if settings.grants_identity(namespace) {
        return;
    }
    let message = format!(
        "namespace {namespace} may not use the gateway's own identity; whoever runs the gateway grants it \
         by identityGrants of the chart, or --identity-grant; ClientSecret needs no grant"
    );
    let (condition, reason) = (ConditionType::Accepted, Reason::IdentityNotGranted);
    findings.error(condition, reason, "spec.auth.type", message);
}

fn workload(declared: Option<&WorkloadIdentityAuth>, findings: &mut Findings) -> Principal {
    const FIELD: &str = "spec.auth.workloadIdentity";
    let (client_id, tenant_id) = declared.map_or(("", ""), |declared| {
        (&*declared.client_id, &*declared.tenant_id)
    });
    client(client_id, FIELD, findings);
    tenant(tenant_id, FIELD, findings);
    let some = |text: &str| (!text.is_empty()).then(|| text.into());
    Principal::Workload {
        client_id: some(client_id),
        tenant_id: some(tenant_id),
    }
}

fn managed(declared: Option<&ManagedIdentityAuth>, findings: &mut Findings) -> Principal {
    let client_id = declared.map_or("", |declared| &declared.client_id);
    client(client_id, "spec.auth.managedIdentity", findings);
    Principal::Managed {
        client_id: (!client_id.is_empty()).then(|| client_id.into()),
    }
}

fn application(
    declared: &ClientSecretAuth,
    lookup: &Lookup<'_>,
    findings: &mut Findings,
) -> Option<Principal> {
    const FIELD: &str = "spec.auth.clientSecret";
    for (text, member) in [
        (&declared.client_id, "clientID"),
        (&declared.tenant_id, "tenantID"),
    ] {
        if text.is_empty() {
            findings.invalid(format!("{FIELD}.{member}"), "is empty; set it");
        }
    }
    client(&declared.client_id, FIELD, findings);
    tenant(&declared.tenant_id, FIELD, findings);
    let field = "spec.auth.clientSecret.secretRef";
    Some(Principal::Application {
        tenant_id: declared.tenant_id.as_str().into(),
        client_id: declared.client_id.as_str().into(),
        secret: secret(&declared.secret_ref, field, lookup, findings)?,
    })
}

fn client(client_id: &str, field: &str, findings: &mut Findings) {
    if !client_id.is_empty() && !is_uuid(client_id) {
        let message = "must be the application's client id, a UUID such as \
                       00000000-0000-0000-0000-000000000000";
        findings.invalid(format!("{field}.clientID"), message);
    }
}

fn tenant(tenant_id: &str, field: &str, findings: &mut Findings) {
    if !tenant_id.is_empty() && !is_tenant(tenant_id) {
        let message = "must be the tenant's id, a UUID, or a verified domain such as \
                       contoso.onmicrosoft.com";
        findings.invalid(format!("{field}.tenantID"), message);
    }
}

/// A key or secret that can be sent.
fn secret(
    reference: &SecretKeyRef,
    field: &str,
    lookup: &Lookup<'_>,
    findings: &mut Findings,
) -> Option<Secret> {
    let text = lookup.text(&reference.name, &reference.key, field, findings)?;
    if is_graphic(text) {
        return Some(Secret::new(text));
    }
    let what = if field.contains("apiKey") {
        "API key"
    } else {
        "client secret"
    };
    let message = format!(
        "Secret {} holds no {what} there: {}; it has only printable ASCII characters and no spaces",
        reference.name, reference.key
    );
    let field = format!("{field}.key");
    findings.unresolved(Reason::SecretKeyMissing, field, message);
    None
}

#[cfg(test)]
mod tests;
