//! The connections to backends, kept per core, and what comes of a call.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use proxy_admin::errors;
use proxy_core::names::Code;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::origin::{Origin, Trust, TrustName};

/// Idle connections are closed before the front ends of Foundry and of load balancers close them
/// (60 s at the earliest), or a request could meet a connection that is just going away.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);
/// Window of one stream: the most of an answer that a slow client may leave in our memory.
const H2_STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection. Large, since h2 gives small frames (SSE) half of it as a budget before it
/// treats them as a flood.
const H2_CONNECTION_WINDOW: u32 = 8 << 20;
/// Finds dead peers behind a load balancer that drops idle flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The upstream connections of one core.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// By the number of their trust.
    clients: Mutex<HashMap<u64, (Weak<Trust>, HttpClient), foldhash::fast::RandomState>>,
}

/// The body of a backend's answer, whatever the connection speaks.
#[derive(Debug)]
pub(crate) struct AnswerBody(Incoming);

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Why a try has no answer.
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

/// A try without an answer.
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
    ) -> Result<Response<AnswerBody>, Failed> {
        let client = self.client(&origin.trust)?;
        match tokio::time::timeout(first_byte, client.request(request)).await {
            Ok(Ok(response)) => Ok(response.map(AnswerBody)),
            Ok(Err(error)) => {
                let how = if error.is_connect() {
                    Failure::Unreachable
                } else {
                    Failure::BrokeOff
                };
                Err(Failed {
                    how,
                    cause: errors::chain(&error),
                })
            }
            Err(_elapsed) => Err(Failed {
                how: Failure::Timeout,
                cause: format!("no answer within {} ms", first_byte.as_millis()),
            }),
        }
    }

    fn client(&self, trust: &Arc<Trust>) -> Result<HttpClient, Failed> {
        let mut clients = self.clients.lock();
        if let Some((_, client)) = clients.get(&trust.number) {
            return Ok(client.clone());
        }
        let client = connect(&trust.name).map_err(|cause| Failed {
            how: Failure::Unreachable,
            cause,
        })?;
        // Drop the clients of backends that are gone.
        clients.retain(|_, (trust, _)| trust.strong_count() > 0);
        clients.insert(trust.number, (Arc::downgrade(trust), client.clone()));
        Ok(client)
    }
}

fn connect(key: &TrustName) -> Result<HttpClient, String> {
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
