//! How each kind of identity comes to its token.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use proxy_admin::clock;
use proxy_core::table::{Identity, Principal, resource_of};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use crate::answer::{self, Token};
use crate::config::{AppService, Config, Workload};
use crate::exchange::{Client, Peer};
use crate::failure::NoToken;

#[cfg(test)]
mod tests;

/// The type of an assertion (RFC 7523, 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The only version of the metadata service that every machine has.
const IMDS_VERSION: &str = "2018-02-01";
const APP_SERVICE_VERSION: &str = "2019-08-01";
const METADATA: HeaderName = HeaderName::from_static("metadata");
const IDENTITY_HEADER: HeaderName = HeaderName::from_static("x-identity-header");
/// The longest `ServiceAccount` token; those of the API server have 1 to 2 kB.
const ASSERTION: usize = 64 << 10;

/// Fetches the tokens of one identity.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) identity: Arc<Identity>,
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
}

impl Provider {
    /// Fetches a token.
    pub(crate) async fn fetch(&self) -> Result<Token, NoToken> {
        let config = &self.config;
        if let Some(login) = &config.login {
            let tenant_id = match &self.identity.principal {
                Principal::Workload { tenant_id, .. } => Some(tenant_id.as_deref()),
                Principal::Managed { .. } => Some(None),
                Principal::Application { .. } => None,
            };
            if let Some(tenant_id) = tenant_id {
                return login.token(&self.identity.scope, tenant_id).await;
            }
        }
        match &self.identity.principal {
            Principal::Application {
                tenant_id,
                client_id,
                secret,
            } => {
                let proof = [("client_secret", secret.expose())];
                let peer = Peer::at(&config.authority);
                self.of_entra(peer, tenant_id, client_id, &proof).await
            }
            Principal::Workload {
                client_id,
                tenant_id,
            } => {
                let workload = &config.workload;
                let Workload { token_file, .. } = workload;
                let file = token_file.as_deref().ok_or(NoToken::Unset(
                    "AZURE_FEDERATED_TOKEN_FILE is not set: label the pod azure.workload.identity/use",
                ))?;
                let tenant_id = tenant_id.as_ref().or(workload.tenant_id.as_ref());
                let tenant_id = tenant_id.ok_or(NoToken::Unset(
                    "no tenant: set auth.workloadIdentity.tenantID, or AZURE_TENANT_ID",
                ))?;
                let client_id = client_id.as_ref().or(workload.client_id.as_ref());
                let client_id = client_id.ok_or(NoToken::Unset(
                    "no client id: set auth.workloadIdentity.clientID, or AZURE_CLIENT_ID",
                ))?;
                let assertion = assertion(file)?;
                let proof = [
                    ("client_assertion_type", JWT_BEARER),
                    ("client_assertion", assertion.as_str()),
                ];
                let peer = match &config.token_proxy {
                    Some(proxy) => Peer {
                        address: &proxy.address,
                        server_name: proxy.server_name.as_deref(),
                        roots: proxy.roots.as_ref(),
                    },
                    None => Peer::at(&config.authority),
                };
                self.of_entra(peer, tenant_id, client_id, &proof).await
            }
            Principal::Managed { client_id } => self.of_machine(client_id.as_deref()).await,
        }
    }

    /// The grant `client_credentials` of Entra's token endpoint.
    async fn of_entra(
        &self,
        peer: Peer<'_>,
        tenant_id: &str,
        client_id: &str,
        proof: &[(&str, &str)],
    ) -> Result<Token, NoToken> {
        let body = Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", client_id)
            .append_pair("scope", &self.identity.scope)
            .extend_pairs(proof)
            .finish();
        let path = peer
            .address
            .below(&format!("/{tenant_id}/oauth2/v2.0/token"));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let shown = proof.last().map_or("", |(_, value)| value);
        self.ask(peer, &path, request, shown).await
    }

    /// The endpoint of the machine. Of the resource, not of a scope.
    async fn of_machine(&self, client_id: Option<&str>) -> Result<Token, NoToken> {
        let scope = &self.identity.scope;
        let resource = resource_of(scope).unwrap_or(scope);
        let config = &self.config;
        let (address, path, version, shown, secret) = match &config.app_service {
            Some(AppService { endpoint, header }) => {
                let mut value = HeaderValue::from_str(header.expose()).map_err(|_error| {
                    NoToken::Unset("IDENTITY_HEADER has characters that no header can carry")
                })?;
                value.set_sensitive(true);
                let shown = (IDENTITY_HEADER, value);
                (endpoint, "", APP_SERVICE_VERSION, shown, header.expose())
            }
            None => {
                let shown = (METADATA, HeaderValue::from_static("true"));
                (
                    &config.imds,
                    "/metadata/identity/oauth2/token",
                    IMDS_VERSION,
                    shown,
                    "",
                )
            }
        };
        let query = Serializer::new(String::new())
            .append_pair("api-version", version)
            .append_pair("resource", resource)
            .extend_pairs(client_id.map(|client_id| ("client_id", client_id)))
            .finish();
        let path = format!("{}?{query}", address.below(path));
        let mut request = Request::new(Full::default());
        request.headers_mut().insert(shown.0, shown.1);
        self.ask(Peer::at(address), &path, request, secret).await
    }

    /// Sends a request with this secret in it, empty if there is none.
    async fn ask(
        &self,
        peer: Peer<'_>,
        path: &str,
        mut request: Request<Full<Bytes>>,
        secret: &str,
    ) -> Result<Token, NoToken> {
        let host = || peer.address.authority.to_string();
        *request.uri_mut() = path.parse().map_err(|_error| NoToken::Malformed {
            host: host(),
            reason: "the tenant cannot stand in a path",
        })?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let answer = self.client.exchange(peer, request).await;
        let answer = answer.map_err(|reason| NoToken::Unreachable {
            host: host(),
            reason,
        })?;
        if answer.status != StatusCode::OK {
            let refusal = answer::refusal(&answer.body, secret);
            let (status, wait) = (answer.status, answer.retry_after);
            return Err(NoToken::refused(host(), status, refusal, wait));
        }
        let unix_s = u64::try_from(clock::now().unix_ms / 1_000).unwrap_or_default();
        answer::token(&answer.body, unix_s).map_err(|reason| NoToken::Malformed {
            host: host(),
            reason,
        })
    }
}

/// The `ServiceAccount` token, as the kubelet last wrote it.
fn assertion(file: &Path) -> Result<Zeroizing<String>, NoToken> {
    let wrong = |reason: String| NoToken::File {
        file: file.display().to_string(),
        reason,
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let text = Zeroizing::new(text);
    let text = text.trim();
    if text.is_empty() || text.len() > ASSERTION {
        return Err(wrong("it holds no token".to_owned()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}
