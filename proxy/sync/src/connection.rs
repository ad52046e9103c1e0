//! One HTTP/2 connection to one operator, and its three requests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy_admin::task;
use proxy_wire::v1::{Ack, BY_EDITS, BY_SHARDS};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::config::{Config, Operator};

/// Longest wait for connecting, and for the TLS handshake; within a cluster they take milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer's headers. The operator may have to review the token with the API server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of pings: a dead peer is noticed while the stream is idle too.
const PING: Duration = Duration::from_secs(10);

/// A table of a thousand routes is about a megabyte; it arrives without waiting for window updates.
const WINDOW: u32 = 4 * 1024 * 1024;

/// An error body is a line.
const ERROR_LIMIT: usize = 4 * 1024;

/// The pause between heartbeats in seconds, in the answer to a subscription.
const HEARTBEAT: &str = "x-tundish-heartbeat";

/// The default of operators that do not say it.
const HEARTBEAT_BEFORE: Duration = Duration::from_secs(5);

/// The channel could not be opened, or broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The token or the CA could not be read.
    #[error("read {what}: {reason}")]
    File { what: &'static str, reason: String },
    /// Connecting failed.
    #[error("connect: {0}")]
    Connect(String),
    /// A request failed, or the answer broke off.
    #[error("channel: {0}")]
    Http(#[from] hyper::Error),
    /// A request could not be written.
    #[error("request: {0}")]
    Request(#[from] http::Error),
    /// A wait timed out.
    #[error("too slow: {0}")]
    TooSlow(&'static str),
    /// The operator refused a request.
    #[error("the operator answered {status}: {message}")]
    Refused { status: StatusCode, message: String },
    /// The stream does not fit our state; subscribe again.
    #[error("out of step: {0}")]
    OutOfStep(String),
}

/// An open connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: Arc<str>,
    scheme: &'static str,
    config: Arc<Config>,
}

impl Connection {
    pub(crate) async fn open(
        config: &Arc<Config>,
        operator: &Operator,
        address: SocketAddr,
    ) -> Result<Self, ChannelError> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_elapsed| ChannelError::TooSlow("connecting"))?
            .map_err(|error| ChannelError::Connect(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| ChannelError::Connect(error.to_string()))?;
        match &config.ca_file {
            Some(ca) if operator.tls => {
                let name = ServerName::try_from(operator.host.clone())
                    .map_err(|error| ChannelError::Connect(error.to_string()))?;
                let tls = TlsConnector::from(Arc::new(client_config(ca)?));
                let stream = timeout(CONNECT_TIMEOUT, tls.connect(name, stream))
                    .await
                    .map_err(|_elapsed| ChannelError::TooSlow("TLS handshake"))?
                    .map_err(|error| ChannelError::Connect(error.to_string()))?;
                Self::over(config, operator, stream).await
            }
            Some(_) | None => Self::over(config, operator, stream).await,
        }
    }

    /// Uses a connected stream, after the TLS handshake if there is one.
    pub(crate) async fn over<S>(
        config: &Arc<Config>,
        operator: &Operator,
        stream: S,
    ) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = if operator.host.contains(':') {
            format!("[{}]", operator.host)
        } else {
            operator.host.clone()
        };
        Ok(Self {
            sender: handshake(stream).await?,
            authority: format!("{host}:{}", operator.port).into(),
            scheme: if operator.tls { "https" } else { "http" },
            config: Arc::clone(config),
        })
    }

    /// Subscribes; `have` is the revision and the digest of the table that we have. Gives the pause between the operator's
    /// heartbeats too.
    pub(crate) async fn subscribe(
        &mut self,
        instance: &str,
        have: Option<(u64, &str)>,
    ) -> Result<(Incoming, Duration), ChannelError> {
        let path = table_path(&self.config.replica, instance, have);
        let answer = self.send(Method::GET, &path, Bytes::new()).await?;
        let heartbeat = answer.headers().get(HEARTBEAT);
        let heartbeat = heartbeat.and_then(|value| value.to_str().ok()?.parse().ok());
        let heartbeat = heartbeat.map_or(HEARTBEAT_BEFORE, Duration::from_secs);
        Ok((answer.into_body(), heartbeat))
    }

    /// Acknowledges a table.
    pub(crate) async fn acknowledge(mut self, ack: Ack) -> Result<(), ChannelError> {
        let body =
            serde_json::to_vec(&ack).map_err(|error| ChannelError::OutOfStep(error.to_string()))?;
        self.send(Method::POST, "/v1/ack", Bytes::from(body))
            .await?;
        Ok(())
    }

    /// Reports counters.
    pub(crate) async fn report(mut self, report: Bytes) -> Result<(), ChannelError> {
        self.send(Method::POST, "/v1/report", report).await?;
        Ok(())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ChannelError> {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(&*self.authority)
            .path_and_query(path)
            .build()?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(file) = &self.config.token_file {
            request = request.header(AUTHORIZATION, bearer(file)?);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request.body(Full::new(body))?;
        let answer = timeout(ANSWER_TIMEOUT, self.sender.send_request(request))
            .await
            .map_err(|_elapsed| ChannelError::TooSlow("the operator's answer"))??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = timeout(
            ANSWER_TIMEOUT,
            Limited::new(answer.into_body(), ERROR_LIMIT).collect(),
        );
        let message = match body.await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
            Ok(Err(_)) | Err(_) => String::new(),
        };
        Err(ChannelError::Refused { status, message })
    }
}

fn table_path(replica: &str, instance: &str, have: Option<(u64, &str)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("replica", replica);
    query.append_pair("instance", instance);
    query.append_pair("digest", BY_SHARDS);
    query.append_pair("deltas", BY_EDITS);
    if let Some((revision, digest)) = have {
        query.append_pair("have", digest);
        query.append_pair("revision", &revision.to_string());
    }
    format!("/v1/table?{}", query.finish())
}

async fn handshake<S>(stream: S) -> Result<http2::SendRequest<Full<Bytes>>, ChannelError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    task::spawn("channel connection", async move {
        // Requests in flight get the error too.
        if let Err(error) = connection.await {
            debug!(%error, "channel connection ended");
        }
    });
    Ok(sender)
}

fn bearer(file: &Path) -> Result<HeaderValue, ChannelError> {
    let wrong = |reason: String| ChannelError::File {
        what: "token",
        reason,
    };
    let token = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|error| wrong(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Trusts the certificates of `ca` only; there are several during a rotation.
fn client_config(ca: &Path) -> Result<ClientConfig, ChannelError> {
    let wrong = |reason: String| ChannelError::File {
        what: "the operators' CA",
        reason,
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(ca).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ChannelError::Connect(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
