//! The endpoints from which software on a machine takes the token of the machine's identity. Numbers in
//! their answers are text.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{parameters, refusal::Refusal};
use crate::entra::{App, Assignment, Directory, Entra, IDENTITY_HEADER, Now, RESOURCES};

/// The instance metadata service: `GET` with `Metadata: true`, and not through a proxy.
pub(super) fn imds(entra: &Entra, now: Now, parts: &Parts) -> Result<Value, Refusal> {
    let refuse = |description: &str| Refusal::machine("invalid_request", description);
    if parts.method != Method::GET {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..refuse("Method not allowed")
        });
    }
    if !shows(&parts.headers, "metadata", "true") {
        return Err(refuse("Required metadata header not specified"));
    }
    if parts.headers.contains_key("x-forwarded-for") {
        return Err(refuse("Requests through a proxy are not allowed"));
    }
    let query = query(parts).map_err(|_twice| refuse("Malformed query"))?;
    match query.get("api-version").map(String::as_str) {
        Some("2018-02-01" | "2019-08-01" | "2021-02-01") => {}
        Some(_) | None => return Err(refuse("The request is not supported by this api-version")),
    }
    let Some(resource) = query.get("resource") else {
        return Err(refuse("Required audience parameter not specified"));
    };
    let directory = Arc::clone(&entra.directory.lock());
    let app = of_machine(&directory, query.get("client_id")).map_err(refuse)?;
    let resource = known(resource).ok_or_else(|| unknown(resource))?;
    let grant = entra.grant_to_machine(now, &app.client_id, resource)?;
    let unix = now.unix_s;
    let left = grant.left.as_secs();
    Ok(json!({
        "access_token": grant.token, "client_id": app.client_id, "expires_in": left.to_string(),
        "expires_on": (unix + left).to_string(), "ext_expires_in": left.to_string(),
        "not_before": unix.to_string(), "resource": resource, "token_type": "Bearer",
    }))
}

/// The endpoint within an App Service: `GET` with the secret of the environment.
pub(super) fn app_service(entra: &Entra, now: Now, parts: &Parts) -> Result<Value, Refusal> {
    let bad = |message: &str| Refusal::app_service(StatusCode::BAD_REQUEST, message);
    if !shows(&parts.headers, "x-identity-header", IDENTITY_HEADER) {
        let message = "The identity header is missing or wrong.";
        return Err(Refusal::app_service(StatusCode::UNAUTHORIZED, message));
    }
    let query = query(parts).map_err(|_twice| bad("Malformed query"))?;
    if query.get("api-version").map(String::as_str) != Some("2019-08-01") {
        return Err(bad("Unsupported api-version."));
    }
    let Some(resource) = query.get("resource") else {
        return Err(bad("The resource is missing."));
    };
    let directory = Arc::clone(&entra.directory.lock());
    let app = of_machine(&directory, query.get("client_id"))
        .map_err(|_none| bad("No managed identity was found for the specified id."))?;
    let resource = known(resource).ok_or_else(|| unknown(resource))?;
    let grant = entra.grant_to_machine(now, &app.client_id, resource)?;
    let unix = now.unix_s;
    Ok(json!({
        "access_token": grant.token, "client_id": app.client_id,
        "expires_on": (unix + grant.left.as_secs()).to_string(), "resource": resource,
        "token_type": "Bearer",
    }))
}

/// The identity that is meant: the one with this client id; else the machine's own, or its only one.
fn of_machine<'d>(
    directory: &'d Directory,
    client_id: Option<&String>,
) -> Result<&'d App, &'static str> {
    let mut all = directory.apps.iter().filter(|app| app.machine.is_some());
    if let Some(client_id) = client_id {
        let named = all.find(|app| app.client_id == *client_id);
        return named.ok_or("Identity not found");
    }
    let is_own = |app: &&App| app.machine == Some(Assignment::System);
    if let Some(own) = all.clone().find(is_own) {
        return Ok(own);
    }
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err("Identity not found"),
        (Some(_), Some(_)) => Err(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the \
             identity in the token request",
        ),
    }
}

/// A resource, with or without a slash at its end.
fn known(resource: &str) -> Option<&'static str> {
    let resource = resource.trim_end_matches('/');
    RESOURCES.into_iter().find(|one| *one == resource)
}

fn unknown(resource: &str) -> Refusal {
    let description = format!(
        "AADSTS500011: The resource principal named {resource} was not found in the tenant."
    );
    Refusal::machine("invalid_resource", &description)
}

fn query(parts: &Parts) -> Result<HashMap<String, String>, String> {
    parameters::parse(parts.uri.query().unwrap_or_default())
}

fn shows(headers: &HeaderMap, name: &str, value: &str) -> bool {
    let shown = headers.get(name).and_then(|shown| shown.to_str().ok());
    shown.is_some_and(|shown| shown.eq_ignore_ascii_case(value))
}
