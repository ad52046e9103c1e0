//! A backend with its address and its credential ready, and the request that leaves for it, which is built
//! from an allow-list.

use std::sync::Arc;

use http::header::{
    self, ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue,
};
use http::uri::{Authority, InvalidUri, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri};
use proxy_api::{Answer, Api, Call, Dialect, Named, Upstream, is_dated};
use proxy_core::names::Secret;
use proxy_core::table::{Backend, BackendAuth, BackendKind};
use proxy_identity::Bearer;

use crate::credential::{API_KEY, Shown, X_API_KEY};
use crate::kept::ResourceId;
use crate::peer::{Peer, PeerName};
use crate::tail::Outbound;

#[cfg(test)]
mod tests;

/// Names a request, for the log of either side.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
/// Names a second deployment, for the images of a response.
const IMAGES: HeaderName = HeaderName::from_static("x-ms-oai-image-generation-deployment");

/// A path that names nothing but the model.
static NOTHING: Named = Named {
    project: None,
    id: None,
    item: None,
};

/// The headers of its own that Foundry takes from a client ("Quotas and limits"), without the gateway's.
const MOST_OF_CLIENT: usize = 9;

/// A backend, ready to be sent to.
#[derive(Debug)]
pub(crate) struct Origin {
    prefix: String,
    kind: BackendKind,
    openai: Access,
    anthropic: Access,
    api_version: Option<Arc<str>>,
    /// The paths of the undated API, one for each place where rows go.
    undated: Vec<(Upstream, PathAndQuery)>,
    /// What keeps the state behind it.
    pub(crate) resource: ResourceId,
    /// The names of the deployments that the backend declares.
    deployments: Vec<Arc<str>>,
    pub(crate) peer: Arc<Peer>,
}

/// How a backend lets a request in that speaks one dialect.
#[derive(Debug)]
struct Access {
    credential: Credential,
    /// The lines of a head on HTTP/1.1 that are the same for each request: from behind the path to the
    /// credential.
    lines: Secret,
}

/// What the gateway shows to a backend.
#[derive(Debug)]
enum Credential {
    None,
    Header(HeaderName, HeaderValue),
    /// The caller's own.
    PassThrough,
    /// A token that changes.
    Identity(Arc<proxy_identity::Credential>),
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
    /// Its identity was not looked up.
    #[error("its identity was not looked up")]
    Identity,
}

/// A request that leaves, besides what is the origin's own.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) destination: Destination,
    /// The client's headers.
    pub(crate) client: &'a HeaderMap,
    /// The caller's credential, which some backends are shown.
    pub(crate) shown: Option<&'a Shown<'a>>,
    /// The token, if the backend is shown one that changes.
    pub(crate) bearer: Option<Arc<Bearer>>,
    pub(crate) request_id: &'a HeaderValue,
    /// The length of its body.
    pub(crate) length: usize,
    /// Its body, each time that it is sent; `None` once it was given up.
    pub(crate) body: &'a (dyn Fn() -> Option<Outbound> + Sync),
    /// It can be sent once only: not on a connection that its server may have closed.
    pub(crate) goes_once: bool,
}

/// Where one request goes, and what its body must look like there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    path: PathAndQuery,
    dialect: Dialect,
    /// The deployment is named in the body.
    pub(crate) model_in_body: bool,
    /// The wish for usage is understood there.
    pub(crate) asks_usage: bool,
    /// It is in the dated API, which is older than some members.
    pub(crate) is_dated: bool,
}

// === impl Origin ===

impl Origin {
    /// Prepares a backend for the rows of `apis`, to be shown the token of `identity` if it is declared so.
    /// `peer` finds or makes the peer of a name.
    pub(crate) fn of(
        backend: &Backend,
        apis: &[Api],
        identity: Option<&Arc<proxy_identity::Credential>>,
        peer: impl FnOnce(PeerName) -> Arc<Peer>,
    ) -> Result<Self, InvalidBackend> {
        let parts = backend.endpoint.parse::<Uri>()?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(InvalidBackend::Relative);
        };
        let authority = plain(&scheme, &authority)?;
        let path = parts
            .path_and_query
            .map_or(String::new(), |path| path.path().to_owned());
        let prefix = path.trim_end_matches('/').to_owned();
        let mut undated: Vec<(Upstream, PathAndQuery)> = Vec::new();
        for api in apis {
            if let Answer::Backend(Call { upstream, .. }) = &api.answer
                && upstream.is_fixed()
                && !undated.iter().any(|(known, _)| known == upstream)
            {
                let path = upstream.undated(backend.kind, &prefix, &NOTHING);
                undated.push((*upstream, path.parse()?));
            }
        }
        Ok(Self {
            resource: ResourceId::of(authority.as_str(), &prefix),
            prefix,
            undated,
            deployments: backend
                .deployments
                .iter()
                .map(|one| Arc::clone(&one.name))
                .collect(),
            kind: backend.kind,
            openai: Access::of(backend, &authority, Dialect::OpenAi, identity)?,
            anthropic: Access::of(backend, &authority, Dialect::Anthropic, identity)?,
            api_version: backend.api_version.clone(),
            peer: peer(PeerName {
                scheme,
                authority,
                ca: backend.ca.clone(),
                server_name: backend.server_name.clone(),
                skips_verification: backend.skips_verification,
                connect_timeout: backend.connect_timeout,
            }),
        })
    }

    /// Whether the caller's own credential goes upstream.
    pub(crate) const fn passes_credential(&self) -> bool {
        matches!(self.openai.credential, Credential::PassThrough)
    }

    /// The version of the dated API that it is pinned to, if that does not have the operation.
    pub(crate) fn lacks(&self, upstream: Upstream) -> Option<&str> {
        let pinned = self.api_version.as_deref()?;
        let is_without = self.kind == BackendKind::Foundry && is_dated(pinned);
        (is_without && !upstream.is_in(pinned)).then_some(pinned)
    }

    /// What makes the tokens that it is shown.
    pub(crate) fn identity(&self) -> Option<&proxy_identity::Credential> {
        match &self.openai.credential {
            Credential::Identity(credential) => Some(credential),
            Credential::None | Credential::Header(..) | Credential::PassThrough => None,
        }
    }

    /// Whether it is shown a credential of the gateway, and none of the client.
    pub(crate) const fn shows_own_credential(&self) -> bool {
        match &self.openai.credential {
            Credential::Header(..) | Credential::Identity(_) => true,
            Credential::None | Credential::PassThrough => false,
        }
    }

    const fn access(&self, dialect: Dialect) -> &Access {
        match dialect {
            Dialect::OpenAi => &self.openai,
            Dialect::Anthropic => &self.anthropic,
        }
    }

    /// Whether a client may name a project of it: it has some, and is none itself.
    pub(crate) fn has_projects(&self) -> bool {
        self.kind == BackendKind::Foundry && !self.prefix.contains("/api/projects/")
    }

    /// How an operation is put to this backend. `version` is the client's, and `bound` what its path and query
    /// name besides.
    pub(crate) fn destination(
        &self,
        call: &Call,
        deployment: &str,
        version: Option<&str>,
        bound: Option<(&Named, &str)>,
    ) -> Result<Destination, InvalidUri> {
        let undated = || {
            if let Some((named, query)) = bound {
                let path = call.upstream.undated(self.kind, &self.prefix, named);
                return with_query(path, query).parse();
            }
            let prepared = self
                .undated
                .iter()
                .find(|(known, _)| *known == call.upstream);
            prepared.map_or_else(
                || {
                    let path = call.upstream;
                    path.undated(self.kind, &self.prefix, &NOTHING).parse()
                },
                |(_, path)| Ok(path.clone()),
            )
        };
        let dialect = call.upstream.dialect();
        let by_body = |path| Destination {
            path,
            dialect,
            model_in_body: true,
            asks_usage: call.asks_usage(None),
            is_dated: false,
        };
        if self.kind == BackendKind::OpenAiCompatible || dialect == Dialect::Anthropic {
            return Ok(by_body(undated()?));
        }
        match self.api_version.as_deref().or(version) {
            Some(dated) if is_dated(dated) => {
                let (named, query) = bound.unwrap_or((&NOTHING, ""));
                let path = call.upstream.dated(&self.prefix, deployment, dated, named);
                let Some((path, model_in_body)) = path else {
                    return Ok(by_body(undated()?));
                };
                Ok(Destination {
                    path: with_query(path, query).parse()?,
                    dialect,
                    model_in_body,
                    asks_usage: call.asks_usage(Some(dated)),
                    is_dated: true,
                })
            }
            Some(word) => {
                let version = format!("api-version={}", proxy_api::encode(word));
                let path = with_query(undated()?.to_string(), &version);
                Ok(by_body(path.parse()?))
            }
            None => Ok(by_body(undated()?)),
        }
    }

    /// Writes the head of a request on HTTP/1.1.
    ///
    /// No line can be smuggled in: a path and a header's value hold neither CR nor LF nor NUL, by their types.
    pub(crate) fn write_head(&self, outgoing: &Outgoing<'_>, head: &mut Vec<u8>) {
        head.extend_from_slice(outgoing.method.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(outgoing.destination.path.as_str().as_bytes());
        let access = self.access(outgoing.destination.dialect);
        head.extend_from_slice(access.lines.expose().as_bytes());
        if let Some(bearer) = &outgoing.bearer {
            head.extend_from_slice(bearer.line());
        }
        let mut put = |name: &HeaderName, value: &HeaderValue| {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        };
        if let Some((name, value)) = self.passed(outgoing) {
            put(&name, &value);
        }
        self.forwarded(outgoing, put);
        if outgoing.length > 0 || *outgoing.method == Method::POST {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(itoa::Buffer::new().format(outgoing.length).as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
    }

    /// Builds a request on HTTP/2.
    pub(crate) fn request<B>(&self, outgoing: &Outgoing<'_>, body: B) -> Request<B> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.peer.name.scheme.clone());
        parts.authority = Some(self.peer.name.authority.clone());
        parts.path_and_query = Some(outgoing.destination.path.clone());
        let mut request = Request::new(body);
        request.method_mut().clone_from(outgoing.method);
        // Cannot fail: all three parts are present.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let access = self.access(outgoing.destination.dialect);
        match (&access.credential, self.passed(outgoing)) {
            (_, Some((name, value))) => drop(headers.insert(name, value)),
            (Credential::Header(name, value), None) => {
                headers.insert(name.clone(), value.clone());
            }
            (Credential::Identity(_), None) => {
                if let Some(bearer) = &outgoing.bearer {
                    headers.insert(AUTHORIZATION, bearer.value().clone());
                }
            }
            (Credential::None | Credential::PassThrough, None) => {}
        }
        self.forwarded(outgoing, |name, value| {
            headers.insert(name.clone(), value.clone());
        });
        request
    }

    /// The caller's credential, if this backend is shown it.
    fn passed(&self, outgoing: &Outgoing<'_>) -> Option<(HeaderName, HeaderValue)> {
        let shown = outgoing.shown.filter(|_| self.passes_credential());
        shown.map(Shown::header)
    }

    /// Hands out the headers of the client that go upstream, and the request's id: each once.
    fn forwarded(&self, outgoing: &Outgoing<'_>, mut put: impl FnMut(&HeaderName, &HeaderValue)) {
        let nominated = nominated(outgoing.client);
        let (mut names_itself, mut own) = (false, 0);
        let mut last: Option<(&HeaderName, &HeaderValue)> = None;
        for (name, value) in outgoing.client {
            if !self.is_forwarded(name, value) || nominated.iter().any(|n| n == name.as_str()) {
                continue;
            }
            // Values of one name follow each other, and the last of them goes.
            if last.is_none_or(|(before, _)| before != name) && !is_standard(name) {
                own += 1;
                if own > MOST_OF_CLIENT {
                    continue;
                }
            }
            names_itself |= *name == REQUEST_ID;
            match last.replace((name, value)) {
                Some((before, value)) if before != name => put(before, value),
                Some(_) | None => {}
            }
        }
        if let Some((name, value)) = last {
            put(name, value);
        }
        if !names_itself {
            put(&REQUEST_ID, outgoing.request_id);
        }
    }

    /// Whether a header of the client goes upstream.
    fn is_forwarded(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let known = is_standard(name)
            || match name.as_str() {
                "extra-parameters"
                | "foundry-features"
                | "x-ms-client-request-id"
                | "traceparent"
                | "tracestate"
                | "openai-beta"
                | "x-policy-id" => true,
                // A route decides over deployments: the client may choose among those of its backend.
                images if images == IMAGES.as_str() => {
                    let mut declared = self.deployments.iter();
                    declared.any(|one| one.as_bytes() == value.as_bytes())
                }
                other => other.starts_with("aoai-") || other.starts_with("anthropic-"),
            };
        known && value.to_str().is_ok()
    }
}

fn is_standard(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == ACCEPT
}

// === impl Access ===

impl Access {
    fn of(
        backend: &Backend,
        authority: &Authority,
        dialect: Dialect,
        identity: Option<&Arc<proxy_identity::Credential>>,
    ) -> Result<Self, InvalidBackend> {
        let credential = match (&backend.auth, backend.kind, dialect) {
            (BackendAuth::PassThrough, ..) => Credential::PassThrough,
            (BackendAuth::None, ..) => Credential::None,
            (BackendAuth::Identity(_), ..) => {
                let credential = identity.ok_or(InvalidBackend::Identity)?;
                Credential::Identity(Arc::clone(credential))
            }
            (BackendAuth::ApiKey(key), BackendKind::Foundry, Dialect::OpenAi) => {
                Credential::Header(API_KEY, sensitive(key.expose())?)
            }
            (BackendAuth::ApiKey(key), BackendKind::Foundry, Dialect::Anthropic) => {
                Credential::Header(X_API_KEY, sensitive(key.expose())?)
            }
            (BackendAuth::ApiKey(key), BackendKind::OpenAiCompatible, _) => {
                let bearer = sensitive(&format!("Bearer {}", key.expose()))?;
                Credential::Header(AUTHORIZATION, bearer)
            }
        };
        Ok(Self {
            lines: Secret::new(lines(authority, &credential)),
            credential,
        })
    }
}

fn with_query(mut path: String, query: &str) -> String {
    if !query.is_empty() {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    path
}

/// An authority without a user, and without the port that the scheme has anyway.
fn plain(scheme: &Scheme, authority: &Authority) -> Result<Authority, InvalidUri> {
    let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let host = authority.host();
    match authority.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}").parse(),
        None => host.parse(),
    }
}

fn lines(authority: &Authority, credential: &Credential) -> String {
    let lines = format!(" HTTP/1.1\r\nhost: {authority}\r\naccept-encoding: identity\r\n");
    match credential {
        Credential::Header(name, value) => {
            // Made of text.
            let value = value.to_str().unwrap_or_default();
            format!("{lines}{name}: {value}\r\n")
        }
        Credential::None | Credential::PassThrough | Credential::Identity(_) => lines,
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
