//! The way to a backend: its address and credential prepared once per table, its connections kept
//! per core, and the request that leaves, which is built anew from an allow-list.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use http::header::{self, AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::{Authority, InvalidUri, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use proxy_core::names::Code;
use proxy_core::table::{Backend, BackendAuth, BackendKind};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::credential::{API_KEY, Shown};
use crate::dialect::{Dialect, encode};

#[cfg(test)]
mod tests;

/// Idle connections are closed before the front ends of Foundry and of load balancers close them
/// (60 s at the earliest), or a request could meet a connection that is just going away.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);
/// Of one stream: a slow client may leave so much of its answer in our memory.
const H2_STREAM_WINDOW: u32 = 1 << 20;
/// Of a connection: h2 grants small frames (SSE) half of it as a budget before it calls them a
/// flood, so it is large.
const H2_CONNECTION_WINDOW: u32 = 8 << 20;
/// Finds peers that are gone behind a load balancer that drops idle flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

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

/// The first version of the dated API that takes `stream_options` (older ones answer 400).
const STREAM_OPTIONS_SINCE: &str = "2024-09-01";

/// A backend with its address and credential ready.
#[derive(Debug)]
pub(crate) struct Origin {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
    kind: BackendKind,
    /// Ready headers; `None` for pass-through, and nothing to add for no authentication.
    credential: Option<Option<(HeaderName, HeaderValue)>>,
    api_version: Option<Arc<str>>,
    /// The path of chats by the undated API.
    v1_chat: PathAndQuery,
    /// What tells connections apart: never shared beyond equal trust.
    pool: PoolKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PoolKey {
    ca: Option<Arc<[Arc<[u8]>]>>,
    server_name: Option<Arc<str>>,
    connect_timeout: Duration,
    /// The hash of the fields above, calculated once per table.
    hash: u64,
}

impl PoolKey {
    fn of(backend: &Backend) -> Self {
        let (ca, server_name) = (backend.ca.clone(), backend.server_name.clone());
        let connect_timeout = backend.connect_timeout;
        let hash = FixedState::default().hash_one((&ca, &server_name, connect_timeout));
        Self {
            ca,
            server_name,
            connect_timeout,
            hash,
        }
    }
}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Origin {
    /// Prepares a backend; the error is for the log and the answer of whoever needs it.
    pub(crate) fn of(backend: &Backend) -> Result<Self, String> {
        let uri: Uri = backend
            .endpoint
            .parse()
            .map_err(|error| format!("endpoint: {error}"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("endpoint: needs a scheme and a host".to_owned());
        };
        let path = parts
            .path_and_query
            .map_or(String::new(), |path| path.path().to_owned());
        let prefix = path.trim_end_matches('/').to_owned();
        let v1 = match backend.kind {
            BackendKind::Foundry => "/openai/v1",
            BackendKind::OpenAiCompatible if prefix.ends_with("/v1") => "",
            BackendKind::OpenAiCompatible => "/v1",
        };
        let v1_chat = format!("{prefix}{v1}/chat/completions");
        let v1_chat = v1_chat
            .parse()
            .map_err(|error| format!("endpoint: {error}"))?;
        let credential = match (&backend.auth, backend.kind) {
            (BackendAuth::PassThrough, _) => None,
            (BackendAuth::None, _) => Some(None),
            (BackendAuth::ApiKey(key), BackendKind::Foundry) => {
                Some(Some((API_KEY, sensitive(key.expose())?)))
            }
            (BackendAuth::ApiKey(key), BackendKind::OpenAiCompatible) => Some(Some((
                AUTHORIZATION,
                sensitive(&format!("Bearer {}", key.expose()))?,
            ))),
        };
        Ok(Self {
            scheme,
            authority,
            prefix,
            v1_chat,
            kind: backend.kind,
            credential,
            api_version: backend.api_version.clone(),
            pool: PoolKey::of(backend),
        })
    }

    /// Whether the caller's own credential goes upstream.
    pub(crate) const fn passes_credential(&self) -> bool {
        self.credential.is_none()
    }

    /// How a chat request of `dialect` is put to this backend.
    pub(crate) fn chat(
        &self,
        dialect: Dialect,
        deployment: &str,
        version: Option<&str>,
    ) -> Result<Call, InvalidUri> {
        let by_body = |path| Call {
            path,
            model_in_body: true,
            takes_stream_options: true,
        };
        if self.kind == BackendKind::OpenAiCompatible {
            return Ok(by_body(self.v1_chat.clone()));
        }
        let pinned = self.api_version.as_deref();
        match (pinned.or(version), dialect) {
            (Some(dated), _) if dated.starts_with(|first: char| first.is_ascii_digit()) => {
                let path = format!(
                    "{}/openai/deployments/{}/chat/completions?api-version={}",
                    self.prefix,
                    encode(deployment),
                    encode(dated)
                );
                Ok(Call {
                    path: path.parse()?,
                    model_in_body: false,
                    takes_stream_options: dated >= STREAM_OPTIONS_SINCE,
                })
            }
            (Some(word), _) => {
                let path = format!("{}?api-version={}", self.v1_chat, encode(word));
                Ok(by_body(path.parse()?))
            }
            (None, Dialect::V1 | Dialect::Dated) => Ok(by_body(self.v1_chat.clone())),
        }
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_error| "the API key has characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where one request goes, and what its body must look like there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    path: PathAndQuery,
    /// The deployment is named in the body.
    pub(crate) model_in_body: bool,
    /// `stream_options` is known there.
    pub(crate) takes_stream_options: bool,
}

#[cfg(any(test, feature = "test-util"))]
impl Call {
    pub(crate) fn to(path: &str, model_in_body: bool, takes_stream_options: bool) -> Self {
        let path = PathAndQuery::try_from(path).expect("a path");
        Self {
            path,
            model_in_body,
            takes_stream_options,
        }
    }
}

/// Builds the request that leaves.
pub(crate) fn request(
    origin: &Origin,
    call: Call,
    client: &HeaderMap,
    shown: Option<&Shown<'_>>,
    request_id: &HeaderValue,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut parts = Parts::default();
    parts.scheme = Some(origin.scheme.clone());
    parts.authority = Some(origin.authority.clone());
    parts.path_and_query = Some(call.path);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    // With all three parts there is nothing left to refuse.
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
    match &origin.credential {
        Some(Some((name, value))) => {
            headers.insert(name.clone(), value.clone());
        }
        Some(None) => {}
        None => {
            if let Some((name, value)) = shown.map(Shown::header) {
                headers.insert(name, value);
            }
        }
    }
    request
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

/// Headers of one connection that must not travel on.
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

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The upstream connections of one core.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    clients: Mutex<HashMap<PoolKey, HttpClient, foldhash::fast::RandomState>>,
}

/// How a try brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing was sent.
    Unreachable,
    /// Something was sent, and the connection broke.
    BrokeOff,
    /// No answer in time.
    Timeout,
}

impl Failure {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Unreachable => Code::UpstreamUnreachable,
            Self::BrokeOff => Code::UpstreamFailed,
            Self::Timeout => Code::UpstreamTimeout,
        }
    }
}

/// A try that brought no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) how: Failure,
    /// For the log.
    pub(crate) cause: String,
}

impl Connections {
    /// Sends, and waits for the head of the answer until `first_byte` has passed.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        request: Request<Full<Bytes>>,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let client = self.client(&origin.pool)?;
        match tokio::time::timeout(first_byte, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let how = if error.is_connect() {
                    Failure::Unreachable
                } else {
                    Failure::BrokeOff
                };
                Err(Failed {
                    how,
                    cause: chain(&error),
                })
            }
            Err(_elapsed) => Err(Failed {
                how: Failure::Timeout,
                cause: format!("no answer within {} ms", first_byte.as_millis()),
            }),
        }
    }

    fn client(&self, key: &PoolKey) -> Result<HttpClient, Failed> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(key) {
            return Ok(client.clone());
        }
        let client = connect(key).map_err(|cause| Failed {
            how: Failure::Unreachable,
            cause,
        })?;
        clients.insert(key.clone(), client.clone());
        Ok(client)
    }
}

fn connect(key: &PoolKey) -> Result<HttpClient, String> {
    let mut roots = RootCertStore::empty();
    match &key.ca {
        Some(certificates) => {
            for certificate in certificates.iter() {
                roots
                    .add(CertificateDer::from_slice(certificate))
                    .map_err(|error| format!("CA: {error}"))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_connect_timeout(Some(key.connect_timeout));
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    if let Some(name) = &key.server_name {
        let name = ServerName::try_from(name.to_string()).map_err(|error| error.to_string())?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
        .build(builder.enable_all_versions().wrap_connector(tcp)))
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
