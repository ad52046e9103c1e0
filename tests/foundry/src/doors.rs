//! The doors at which tokens are asked for: Entra's token endpoint, and the endpoints that hand a managed
//! identity's token to the machine that has it; and what Entra publishes, so that others can check its
//! tokens. They refuse what the real ones refuse, with the numbers
//! (`AADSTS...`), statuses and words of those.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::json;

use crate::{
    faults::Fault, foundry::Foundry, record::Outcome, response, stream::Body, ticket::Ticket,
};

mod client_credentials;
mod managed;
mod parameters;
mod published;
mod refusal;

use refusal::Refusal;

/// Where an app asks for its token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door<'a> {
    /// `/{tenant}/oauth2/v2.0/token`
    TokenEndpoint { tenant: &'a str },
    /// The instance metadata service of a virtual machine.
    Imds,
    /// The endpoint within an App Service or a container app.
    AppService,
    /// Who Entra is, by the version of its tokens.
    Discovery { tenant: &'a str, version: u8 },
    /// Its keys.
    Keys {
        tenant: Option<&'a str>,
        version: u8,
    },
}

// === impl Door ===

impl<'a> Door<'a> {
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        if path == "/metadata/identity/oauth2/token" {
            return Some(Self::Imds);
        }
        if path == "/msi/token" {
            return Some(Self::AppService);
        }
        let (tenant, rest) = path.strip_prefix('/')?.split_once('/')?;
        // A doubled slash is another path.
        if tenant.is_empty() {
            return None;
        }
        let of_all = tenant == "common";
        Some(match rest {
            "oauth2/v2.0/token" => Self::TokenEndpoint { tenant },
            ".well-known/openid-configuration" => Self::Discovery { tenant, version: 1 },
            "v2.0/.well-known/openid-configuration" => Self::Discovery { tenant, version: 2 },
            "discovery/keys" => Self::Keys {
                tenant: (!of_all).then_some(tenant),
                version: 1,
            },
            "discovery/v2.0/keys" => Self::Keys {
                tenant: (!of_all).then_some(tenant),
                version: 2,
            },
            _ => return None,
        })
    }

    /// The name by which faults choose it.
    const fn operation(self) -> &'static str {
        match self {
            Self::TokenEndpoint { .. } => "Entra_Token",
            Self::Imds => "Imds_Token",
            Self::AppService => "AppService_Token",
            Self::Discovery { .. } => "Entra_Discovery",
            Self::Keys { .. } => "Entra_Keys",
        }
    }
}

/// Answers a request at one of the doors.
pub(crate) async fn respond(
    foundry: &Arc<Foundry>,
    door: Door<'_>,
    parts: &Parts,
    body: &Bytes,
) -> Response<Body> {
    let mut ticket = Ticket::open(foundry, parts, body);
    let fault = foundry.entra.faults.take(None, "", door.operation());
    let fault = fault.unwrap_or_default();
    if fault.hang {
        std::future::pending::<()>().await;
    }
    if let Some(delay) = fault.delay_ms {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let now = foundry.now();
    let answered = match fault.status {
        Some(status) => Err(scripted(&fault, status)),
        None => match door {
            Door::TokenEndpoint { tenant } => {
                client_credentials::answer(&foundry.entra, now, tenant, parts, body)
            }
            Door::Imds => managed::imds(&foundry.entra, now, parts),
            Door::AppService => managed::app_service(&foundry.entra, now, parts),
            Door::Discovery { tenant, version } => {
                published::discovery(&foundry.entra, parts, tenant, version)
            }
            Door::Keys { tenant, version } => {
                published::keys(&foundry.entra, parts, tenant, version)
            }
        },
    };
    let (status, body) = match answered {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => (refusal.status, refusal.body),
    };
    ticket.status = Some(status.as_u16());
    ticket.close(Outcome::Answered);
    let text = body
        .as_str()
        .map_or_else(|| body.to_string(), str::to_owned);
    let mut response = response::json(status, text.into());
    let headers = response.headers_mut();
    let is_public = matches!(door, Door::Discovery { .. } | Door::Keys { .. });
    let kept = if is_public && status == StatusCode::OK {
        "max-age=86400, private"
    } else {
        "no-store"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    for (name, value) in &fault.headers {
        let header = (
            http::HeaderName::try_from(name),
            HeaderValue::try_from(value),
        );
        if let (Ok(name), Ok(value)) = header {
            headers.insert(name, value);
        }
    }
    response
}

fn scripted(fault: &Fault, status: u16) -> Refusal {
    Refusal {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body: fault.body.clone().unwrap_or_else(
            || json!({"error": "temporarily_unavailable", "error_description": "scripted"}),
        ),
    }
}
