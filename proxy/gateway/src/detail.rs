//! What only the access log says of a request: its head, copied within bounds, and who sent it.
//!
//! A copy, since a part of a connection's buffer would keep the whole buffer for as long as an answer
//! streams. Refuses to keep what may hold a secret: the query, cookies and credentials.

use std::net::IpAddr;

use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Version};
use smallvec::SmallVec;

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
/// What most requests need, so that their text takes no allocation of its own.
const INLINE: usize = 160;

/// By which Azure's support finds a call.
const APIM_REQUEST_ID: HeaderName = HeaderName::from_static("apim-request-id");
/// Of Anthropic, and of Azure's other services.
const OTHER_IDS: [HeaderName; 2] = [
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-ms-request-id"),
];

/// The head of a request, and who sent it.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) client: IpAddr,
    version: Version,
    /// Method, host, path and user agent, one behind the other.
    text: SmallVec<[u8; INLINE]>,
    /// Where each of them but the last ends.
    ends: [u16; 3],
    upstream_id: SmallVec<[u8; 40]>,
}

/// The texts of a request's head, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Texts<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) user_agent: &'a [u8],
}

// === impl Detail ===

impl Detail {
    pub(crate) fn of(parts: &Parts, client: IpAddr) -> Self {
        let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
        // HTTP/2 has the host in its target.
        let host = match parts.uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => header(HOST),
        };
        Self::new(
            client,
            parts.version,
            Texts {
                method: parts.method.as_str().as_bytes(),
                host: host.unwrap_or_default(),
                path: parts.uri.path().as_bytes(),
                user_agent: header(USER_AGENT).unwrap_or_default(),
            },
        )
    }

    /// A client that sent what cannot be read.
    pub(crate) fn unread(client: IpAddr) -> Self {
        Self::new(client, Version::HTTP_11, Texts::default())
    }

    fn new(client: IpAddr, version: Version, texts: Texts<'_>) -> Self {
        let mut text = SmallVec::new();
        let mut add = |part: &[u8], most: usize| {
            text.extend_from_slice(part.get(..most).unwrap_or(part));
            // The bounds above are far below the largest number.
            u16::try_from(text.len()).unwrap_or(u16::MAX)
        };
        let ends = [
            add(texts.method, METHOD_BYTES),
            add(texts.host, HOST_BYTES),
            add(texts.path, PATH_BYTES),
        ];
        add(texts.user_agent, AGENT_BYTES);
        Self {
            client,
            version,
            text,
            ends,
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
            let id = id.as_bytes();
            let id = id.get(..ID_BYTES).unwrap_or(id);
            self.upstream_id.extend_from_slice(id);
        }
    }

    /// The name that the backend gave the call; empty if it gave none.
    pub(crate) fn upstream_id(&self) -> &[u8] {
        &self.upstream_id
    }

    /// All texts, one behind the other.
    pub(crate) fn joined(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn texts(&self) -> Texts<'_> {
        let [method, host, path] = self.ends.map(usize::from);
        let part = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        Texts {
            method: part(0, method),
            host: part(method, host),
            path: part(host, path),
            user_agent: part(path, self.text.len()),
        }
    }

    pub(crate) const fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
    }
}
