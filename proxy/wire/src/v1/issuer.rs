//! Issuers of callers' tokens as they travel.

use std::sync::Arc;

use proxy_core::auth;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Issuer {
    issuer: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<Arc<str>>,
    audiences: Vec<Arc<str>>,
    consumer_claim: Arc<str>,
    /// Attributes with their claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attribute_claims: Vec<(Arc<str>, Arc<str>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    required_scopes: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    required_roles: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_clients: Vec<Arc<str>>,
}

// === impl Issuer ===

impl From<&auth::Issuer> for Issuer {
    fn from(issuer: &auth::Issuer) -> Self {
        let auth::Issuer { trust, required } = issuer.clone();
        Self {
            issuer: trust.source.issuer,
            jwks_uri: trust.source.jwks_uri,
            audiences: trust.audiences,
            consumer_claim: trust.mapping.consumer,
            attribute_claims: trust.mapping.attributes,
            required_scopes: required.scopes,
            required_roles: required.roles,
            allowed_clients: required.clients,
        }
    }
}

impl Issuer {
    pub(super) fn into_core(self) -> auth::Issuer {
        auth::Issuer {
            trust: auth::Trust {
                source: auth::Source {
                    issuer: self.issuer,
                    jwks_uri: self.jwks_uri,
                },
                audiences: self.audiences,
                mapping: auth::Mapping {
                    consumer: self.consumer_claim,
                    attributes: self.attribute_claims,
                },
            },
            required: auth::Required {
                scopes: self.required_scopes,
                roles: self.required_roles,
                clients: self.allowed_clients,
            },
        }
    }
}
