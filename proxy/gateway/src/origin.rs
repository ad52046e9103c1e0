//! A backend with its address, its credential and its trust ready, and the request that leaves for it,
//! which is built from an allow-list.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::{Authority, InvalidUri, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::Full;
use proxy_api::{Answer, Api, Call, Upstream};
use proxy_core::table::{Backend, BackendAuth, BackendKind, Certificates};

use crate::credential::{API_KEY, Shown};

#[cfg(test)]
mod tests;

/// Headers of the client that go upstream, besides those that begin with `aoai-` or `anthropic-`.
/// Azure answers 431 to more than ten that it does not know.
const FORWARDED: [&str; 8] = [
    "content-type",
    "accept",
    "extra-parameters",
    "foundry-features",
    "x-ms-client-request-id",
    "traceparent",
    "tracestate",
    "openai-beta",
];

/// A backend, ready to be sent to.
#[derive(Debug)]
pub(crate) struct Origin {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
    kind: BackendKind,
    credential: Credential,
    api_version: Option<Arc<str>>,
    /// The paths of the undated API, one for each place where rows go.
    undated: Vec<(Upstream, PathAndQuery)>,
    pub(crate) trust: Arc<Trust>,
}

/// What the gateway shows to a backend.
#[derive(Debug)]
enum Credential {
    None,
    Header(HeaderName, HeaderValue),
    /// The caller's own.
    PassThrough,
}

/// The identity of a trust. Connections are shared within equal trust only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TrustName {
    pub(crate) ca: Option<Certificates>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) connect_timeout: Duration,
}

/// A trust in use. Its number finds its connections, without a look at the certificates.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) number: u64,
    pub(crate) name: TrustName,
}

/// Why a backend cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidBackend {
    /// The endpoint is no address.
    #[error("endpoint: {0}")]
    Endpoint(#[from] InvalidUri),
    /// The endpoint has no scheme or no host.
    #[error("endpoint: needs a scheme and a host")]
    Relative,
    /// The API key has characters that no header can carry.
    #[error("the API key has characters that no header can carry")]
    Key,
}

/// Where one request goes, and what its body must look like there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    path: PathAndQuery,
    /// The deployment is named in the body.
    pub(crate) model_in_body: bool,
    /// The wish for usage is understood there.
    pub(crate) asks_usage: bool,
}

// === impl Trust ===

impl TrustName {
    pub(crate) fn of(backend: &Backend) -> Self {
        Self {
            ca: backend.ca.clone(),
            server_name: backend.server_name.clone(),
            connect_timeout: backend.connect_timeout,
        }
    }
}

impl Trust {
    pub(crate) fn new(name: TrustName) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
        }
    }
}

// === impl Origin ===

impl Origin {
    /// Prepares a backend for the rows of `apis`.
    pub(crate) fn of(
        backend: &Backend,
        apis: &[Api],
        trust: Arc<Trust>,
    ) -> Result<Self, InvalidBackend> {
        let parts = backend.endpoint.parse::<Uri>()?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(InvalidBackend::Relative);
        };
        let path = parts
            .path_and_query
            .map_or(String::new(), |path| path.path().to_owned());
        let prefix = path.trim_end_matches('/').to_owned();
        let mut undated: Vec<(Upstream, PathAndQuery)> = Vec::new();
        for api in apis {
            if let Answer::Backend(Call { upstream, .. }) = &api.answer
                && !undated.iter().any(|(known, _)| known == upstream)
            {
                let path = upstream.undated(backend.kind, &prefix);
                undated.push((*upstream, path.parse()?));
            }
        }
        let credential = match (&backend.auth, backend.kind) {
            (BackendAuth::PassThrough, _) => Credential::PassThrough,
            (BackendAuth::None, _) => Credential::None,
            (BackendAuth::ApiKey(key), BackendKind::Foundry) => {
                Credential::Header(API_KEY, sensitive(key.expose())?)
            }
            (BackendAuth::ApiKey(key), BackendKind::OpenAiCompatible) => {
                let bearer = sensitive(&format!("Bearer {}", key.expose()))?;
                Credential::Header(AUTHORIZATION, bearer)
            }
        };
        Ok(Self {
            scheme,
            authority,
            prefix,
            undated,
            kind: backend.kind,
            credential,
            api_version: backend.api_version.clone(),
            trust,
        })
    }

    /// Whether the caller's own credential goes upstream.
    pub(crate) const fn passes_credential(&self) -> bool {
        matches!(self.credential, Credential::PassThrough)
    }

    /// How an operation is put to this backend. `version` is the client's.
    pub(crate) fn destination(
        &self,
        call: &Call,
        deployment: &str,
        version: Option<&str>,
    ) -> Result<Destination, InvalidUri> {
        let undated = || {
            let prepared = self
                .undated
                .iter()
                .find(|(known, _)| *known == call.upstream);
            prepared.map_or_else(
                || call.upstream.undated(self.kind, &self.prefix).parse(),
                |(_, path)| Ok(path.clone()),
            )
        };
        let by_body = |path| Destination {
            path,
            model_in_body: true,
            asks_usage: call.asks_usage(None),
        };
        if self.kind == BackendKind::OpenAiCompatible {
            return Ok(by_body(undated()?));
        }
        match self.api_version.as_deref().or(version) {
            Some(dated) if dated.starts_with(|first: char| first.is_ascii_digit()) => {
                let path = call.upstream.dated(&self.prefix, deployment, dated);
                Ok(Destination {
                    path: path.parse()?,
                    model_in_body: false,
                    asks_usage: call.asks_usage(Some(dated)),
                })
            }
            Some(word) => {
                let path = format!("{}?api-version={}", undated()?, proxy_api::encode(word));
                Ok(by_body(path.parse()?))
            }
            None => Ok(by_body(undated()?)),
        }
    }

    /// Builds the request that leaves.
    pub(crate) fn request(
        &self,
        destination: Destination,
        client: &HeaderMap,
        shown: Option<&Shown<'_>>,
        request_id: &HeaderValue,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(destination.path);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        // Cannot fail: all three parts are present.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert("x-ms-client-request-id", request_id.clone());
        let nominated = nominated(client);
        for (name, value) in client {
            let text = name.as_str();
            let known = FORWARDED.contains(&text)
                || text.starts_with("aoai-")
                || text.starts_with("anthropic-");
            if known && value.to_str().is_ok() && !nominated.iter().any(|n| n == text) {
                headers.insert(name.clone(), value.clone());
            }
        }
        match &self.credential {
            Credential::None => {}
            Credential::Header(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            Credential::PassThrough => {
                if let Some((name, value)) = shown.map(Shown::header) {
                    headers.insert(name, value);
                }
            }
        }
        request
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidBackend> {
    let mut value = HeaderValue::from_str(text).map_err(|_error| InvalidBackend::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Headers that `Connection` declares to end here (RFC 9110, 7.6.1).
fn nominated(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// Removes the headers of one connection, which must not travel on.
pub(crate) fn strip_connection_headers(headers: &mut HeaderMap) {
    const ENDING: [HeaderName; 7] = [
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    for name in nominated(headers) {
        headers.remove(name.as_str());
    }
    headers.remove(header::CONNECTION);
    for name in &ENDING {
        headers.remove(name);
    }
}
