//! The doors at which tokens are asked for: Entra's token endpoint, and the endpoints that hand a managed
//! identity's token to the machine that has it. They refuse what the real ones refuse, with the numbers
//! (`AADSTS...`), statuses and words of those.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::json;

use crate::{
    entra::Now, faults::Fault, foundry::Foundry, record::Outcome, response, stream::Body,
    ticket::Ticket,
};

mod client_credentials;
mod managed;
mod parameters;
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
        let tenant = path.strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
        // A doubled slash is another path.
        let is_one = !tenant.is_empty() && !tenant.contains('/');
        is_one.then_some(Self::TokenEndpoint { tenant })
    }

    /// The name by which faults choose it.
    const fn operation(self) -> &'static str {
        match self {
            Self::TokenEndpoint { .. } => "Entra_Token",
            Self::Imds => "Imds_Token",
            Self::AppService => "AppService_Token",
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
    let since_start = foundry.clock.now();
    let now = Now {
        since_start,
        unix_s: foundry.clock.unix(since_start).as_secs(),
    };
    let answered = match fault.status {
        Some(status) => Err(scripted(&fault, status)),
        None => match door {
            Door::TokenEndpoint { tenant } => {
                client_credentials::answer(&foundry.entra, now, tenant, parts, body)
            }
            Door::Imds => managed::imds(&foundry.entra, now, parts),
            Door::AppService => managed::app_service(&foundry.entra, now, parts),
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
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
