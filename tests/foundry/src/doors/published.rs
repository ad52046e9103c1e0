//! What Entra publishes: its description (OpenID Connect Discovery) and its keys.

use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::entra::{Entra, issuer};

/// The description of the issuer of this version.
pub(super) fn discovery(
    entra: &Entra,
    parts: &Parts,
    tenant: &str,
    version: u8,
) -> Result<Value, Refusal> {
    check(entra, parts, Some(tenant))?;
    let base = entra.base();
    let (keys, oauth) = match version {
        1 => (format!("{base}/common/discovery/keys"), "oauth2"),
        _ => (
            format!("{base}/{tenant}/discovery/v2.0/keys"),
            "oauth2/v2.0",
        ),
    };
    Ok(json!({
        "issuer": issuer(base, tenant, version), "jwks_uri": keys,
        "token_endpoint": format!("{base}/{tenant}/{oauth}/token"),
        // Nothing is behind it; MSAL, and so the Azure CLI, wants it to be named.
        "authorization_endpoint": format!("{base}/{tenant}/{oauth}/authorize"),
        "token_endpoint_auth_methods_supported":
            ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
        "subject_types_supported": ["pairwise"], "scopes_supported": ["openid"],
        "cloud_instance_name": "microsoftonline.com", "tenant_region_scope": "EU",
    }))
}

/// The keys. Beside each stands whose it is: of the tenant, or of all, with a place for the tenant.
pub(super) fn keys(
    entra: &Entra,
    parts: &Parts,
    tenant: Option<&str>,
    version: u8,
) -> Result<Value, Refusal> {
    check(entra, parts, tenant)?;
    let issuer = issuer(entra.base(), tenant.unwrap_or("{tenantid}"), version);
    let listed = entra
        .signing
        .listed((version == 2).then_some(issuer.as_str()));
    listed.map_err(|error| Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        body: json!({"error": "server_error", "error_description": error.to_string()}),
    })
}

fn check(entra: &Entra, parts: &Parts, tenant: Option<&str>) -> Result<(), Refusal> {
    if parts.method != Method::GET {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            body: json!({"error": "invalid_request"}),
        });
    }
    if tenant.is_none_or(|tenant| tenant == entra.directory.lock().tenant) {
        return Ok(());
    }
    let message = format!(
        "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are signing into \
         the correct cloud.",
        tenant.unwrap_or_default()
    );
    Err(Refusal::entra("invalid_tenant", 90_002, &message))
}
