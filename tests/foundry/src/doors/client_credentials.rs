//! The token endpoint, for the grant `client_credentials`: by a secret, or by an assertion.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use http::{Method, header, request::Parts};
use serde_json::{Value, json};

use super::{parameters, refusal::Refusal};
use crate::entra::{App, Broken, Directory, Entra, Now, RESOURCES};

/// The type of an assertion (RFC 7523, 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// One request for a token.
struct Asking<'a> {
    entra: &'a Entra,
    now: Now,
    directory: &'a Directory,
    form: HashMap<String, String>,
}

pub(super) fn answer(
    entra: &Entra,
    now: Now,
    tenant: &str,
    parts: &Parts,
    body: &Bytes,
) -> Result<Value, Refusal> {
    if parts.method != Method::POST {
        let message = format!(
            "The endpoint only accepts POST requests. Received a {} request.",
            parts.method
        );
        return Err(Refusal::entra("invalid_request", 900_561, &message));
    }
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| {
        kind.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    let text = if is_form {
        String::from_utf8_lossy(body)
    } else {
        "".into()
    };
    let form = parameters::parse(&text).map_err(|twice| {
        let message = format!(
            "The request is not properly formatted. The parameter '{twice}' is duplicated."
        );
        Refusal::entra("invalid_request", 9_000_411, &message)
    })?;
    let directory = Arc::clone(&entra.directory.lock());
    if tenant != directory.tenant {
        let message = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are \
             signing into the correct cloud."
        );
        return Err(Refusal::entra("invalid_request", 90_002, &message));
    }
    let asking = Asking {
        entra,
        now,
        directory: &directory,
        form,
    };
    asking.answer()
}

impl Asking<'_> {
    fn answer(&self) -> Result<Value, Refusal> {
        let grant = self.required("grant_type")?;
        if grant != "client_credentials" {
            let message = format!(
                "The app requested an unsupported grant type '{grant}'. Contact the app vendor."
            );
            return Err(Refusal::entra("unsupported_grant_type", 70_003, &message));
        }
        let client_id = self.required("client_id")?;
        let scope = self.required("scope")?;
        let Some(app) = self.directory.app(client_id) else {
            let message = format!(
                "Application with identifier '{client_id}' was not found in the directory '{}'. This \
                 can happen if the application has not been installed by the administrator of the \
                 tenant or consented to by any user in the tenant.",
                self.directory.tenant
            );
            return Err(Refusal::entra("unauthorized_client", 700_016, &message));
        };
        let resource = self.resource(scope)?;
        self.authenticate(app)?;
        let grant = self.entra.grant(self.now, client_id, resource)?;
        let seconds = grant.left.as_secs();
        Ok(json!({
            "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds,
            "access_token": grant.token,
        }))
    }

    fn resource<'s>(&self, scope: &'s str) -> Result<&'s str, Refusal> {
        let resource = scope.strip_suffix("/.default");
        let Some(resource) = resource.filter(|resource| !resource.contains(' ')) else {
            let message = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have \
                 a scope value with /.default suffixed to the resource identifier (application ID URI)."
            );
            return Err(Refusal::entra("invalid_scope", 1_002_012, &message));
        };
        if RESOURCES.contains(&resource) || self.directory.api(resource).is_some() {
            return Ok(resource);
        }
        let message = format!(
            "The resource principal named {resource} was not found in the tenant named {}. This can \
             happen if the application has not been installed by the administrator of the tenant or \
             consented to by any user in the tenant.",
            self.directory.tenant
        );
        Err(Refusal::entra("invalid_resource", 500_011, &message))
    }

    fn authenticate(&self, app: &App) -> Result<(), Refusal> {
        match (
            self.form.get("client_secret"),
            self.form.get("client_assertion"),
        ) {
            (Some(secret), None) if app.secrets.contains(secret) => Ok(()),
            (Some(secret), None) if app.expired_secrets.contains(secret) => {
                let message = format!(
                    "The provided client secret keys for app '{}' are expired. Visit the Azure portal \
                     to create new keys for your app.",
                    app.client_id
                );
                Err(Refusal::entra("invalid_client", 7_000_222, &message))
            }
            (Some(_), None) => {
                let message = format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is \
                     the client secret value, not the client secret ID, for a secret added to app \
                     '{}'.",
                    app.client_id
                );
                Err(Refusal::entra("invalid_client", 7_000_215, &message))
            }
            (None, Some(assertion)) => self.federated(app, assertion),
            (None, None) => {
                let message = "The request body must contain the following parameter: \
                               'client_assertion' or 'client_secret'.";
                Err(Refusal::entra("invalid_client", 7_000_218, message))
            }
            (Some(_), Some(_)) => {
                let message = "Both client_secret and client_assertion are present.";
                Err(Refusal::entra("invalid_request", 90_023, message))
            }
        }
    }

    fn federated(&self, app: &App, assertion: &str) -> Result<(), Refusal> {
        let kind = self.required("client_assertion_type")?;
        if kind != JWT_BEARER {
            let message = format!("The client assertion type '{kind}' is not supported.");
            return Err(Refusal::entra("invalid_request", 90_023, &message));
        }
        let claims = match self.entra.issuer.check(assertion) {
            Ok(claims) => claims,
            Err(Broken::Malformed) => {
                let message = "JWT token is invalid or malformed.";
                return Err(Refusal::entra("invalid_request", 50_027, message));
            }
            Err(Broken::Signature) => {
                let message = "Client assertion failed signature validation.";
                return Err(Refusal::entra("invalid_client", 700_027, message));
            }
        };
        let mut issuers = app
            .federations
            .iter()
            .filter(|one| one.issuer == claims.iss);
        if issuers.clone().next().is_none() {
            let message = format!(
                "No matching federated identity record found for presented assertion issuer '{}'. \
                 Check your federated identity credential Subject, Audience and Issuer against the \
                 presented assertion.",
                claims.iss
            );
            return Err(Refusal::entra("invalid_client", 700_211, &message));
        }
        let Some(federation) = issuers.find(|one| one.subject == claims.sub) else {
            let message = format!(
                "No matching federated identity record found for presented assertion subject '{}'. \
                 Check your federated identity credential Subject, Audience and Issuer against the \
                 presented assertion.",
                claims.sub
            );
            return Err(Refusal::entra("invalid_client", 700_213, &message));
        };
        if !claims.aud.has(&federation.audience) {
            let message = "No matching federated identity record found for presented assertion \
                           audience.";
            return Err(Refusal::entra("invalid_client", 700_212, message));
        }
        let now = self.now.unix_s;
        if now < claims.nbf || now >= claims.exp {
            let message = format!(
                "Client assertion is not within its valid time range. Current time: {now}, assertion \
                 valid from {}, expiry time of assertion {}.",
                claims.nbf, claims.exp
            );
            return Err(Refusal::entra("invalid_client", 700_024, &message));
        }
        Ok(())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.form.get(name).filter(|value| !value.is_empty());
        value.map(String::as_str).ok_or_else(|| {
            let message =
                format!("The request body must contain the following parameter: '{name}'.");
            Refusal::entra("invalid_request", 900_144, &message)
        })
    }
}
