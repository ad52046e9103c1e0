//! What only the access log says of a request: its head, copied within bounds, and who sent it.
//!
//! A copy, since a part of a connection's buffer would keep the whole buffer for as long as an answer
//! streams. Refuses to keep what may hold a secret: the query, cookies and credentials.

use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Version};
use proxy_admin::telemetry::Format;
use smallvec::SmallVec;

use crate::access::{self, Head};
use crate::fields::Fields;

#[cfg(test)]
mod tests;

/// The longest method that has a standard is `UPDATEREDIRECTREF`, with 17.
const METHOD_BYTES: usize = 24;
/// The longest name of a host (RFC 1035, 2.3.4).
const HOST_BYTES: usize = 255;
/// More than any path of the APIs with a model's name in it.
const PATH_BYTES: usize = 256;
/// The names and versions of a client and its library; browsers take the most.
const AGENT_BYTES: usize = 160;
/// Room for a UUID with a prefix, or two.
const ID_BYTES: usize = 96;

/// By which Azure's support finds a call.
const APIM_REQUEST_ID: HeaderName = HeaderName::from_static("apim-request-id");
/// Of Anthropic, and of Azure's other services.
const OTHER_IDS: [HeaderName; 2] = [
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-ms-request-id"),
];

/// What the log says of the head of a request, and of who sent it.
#[derive(Debug)]
pub(crate) struct Detail {
    head: Vec<u8>,
    upstream_id: SmallVec<[u8; 40]>,
}

// === impl Detail ===

impl Detail {
    pub(crate) fn of(parts: &Parts, fields: &Fields<'_>, client: IpAddr, format: Format) -> Self {
        // HTTP/2 has the host in its target.
        let host = match parts.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => fields.host.bytes(),
        };
        let head = Head {
            client,
            protocol: match parts.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            method: cut(parts.method.as_str().as_bytes(), METHOD_BYTES),
            host: cut(host, HOST_BYTES),
            path: cut(parts.uri.path().as_bytes(), PATH_BYTES),
            user_agent: cut(fields.user_agent.bytes(), AGENT_BYTES),
        };
        Self::new(&head, format)
    }

    /// A client that sent what cannot be read.
    pub(crate) fn unread(client: IpAddr, format: Format) -> Self {
        let head = Head {
            client,
            protocol: "",
            method: b"",
            host: b"",
            path: b"",
            user_agent: b"",
        };
        Self::new(&head, format)
    }

    fn new(head: &Head<'_>, format: Format) -> Self {
        Self {
            head: access::head(format, head),
            upstream_id: SmallVec::new(),
        }
    }

    /// Takes note of the name that a backend gave the call; `own` is its `x-request-id`.
    pub(crate) fn answered(&mut self, headers: &HeaderMap, own: Option<&HeaderValue>) {
        let named = headers.get(APIM_REQUEST_ID).or(own);
        let others = || OTHER_IDS.iter().find_map(|name| headers.get(name));
        let named = named.or_else(others);
        self.upstream_id.clear();
        if let Some(id) = named {
            let id = cut(id.as_bytes(), ID_BYTES);
            self.upstream_id.extend_from_slice(id);
        }
    }

    /// The name that the backend gave the call; empty if it gave none.
    pub(crate) fn upstream_id(&self) -> &[u8] {
        &self.upstream_id
    }

    /// This part of the line.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

fn cut(text: &[u8], most: usize) -> &[u8] {
    text.get(..most).unwrap_or(text)
}
