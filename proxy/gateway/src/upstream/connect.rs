//! New connections to a backend: TCP, TLS, and the choice of a protocol.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use proxy_admin::dial::{DialError, Dialer};
use proxy_admin::errors;
use proxy_core::reach::Reach;
use proxy_core::table::Certificates;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::failure::Failed;
use super::stream::{Stream, Tcp};
use crate::origin::PeerName;

/// Finds dead peers behind a load balancer that drops idle flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// One store for all peers and cores: most backends have no CA of their own.
static PUBLIC_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    Arc::new(roots.collect())
});

/// Opens connections to one peer.
#[derive(Debug)]
pub(super) struct Connector {
    uri: Uri,
    tcp: Dialer,
    tls: Option<Tls>,
    /// For TCP and TLS together.
    timeout: Duration,
}

struct Tls {
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error(transparent)]
    Tcp(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] io::Error),
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(peer: &PeerName, reach: &Arc<Reach>) -> Result<Self, String> {
        let timeout = Some(peer.connect_timeout);
        let tcp = Dialer::new(Arc::clone(reach), timeout, Some(TCP_KEEPALIVE));
        let tls = match &peer.scheme {
            scheme if *scheme == Scheme::HTTP => None,
            scheme if *scheme == Scheme::HTTPS => Some(Tls::new(peer)?),
            other => return Err(format!("the scheme {other} is not supported")),
        };
        let uri = Uri::builder()
            .scheme(peer.scheme.clone())
            .authority(peer.authority.clone())
            .path_and_query(PathAndQuery::from_static("/"))
            .build();
        Ok(Self {
            uri: uri.map_err(|error| error.to_string())?,
            tcp,
            tls,
            timeout: peer.connect_timeout,
        })
    }

    /// Opens a connection for a protocol, or for the other one if the server refuses this one.
    pub(super) async fn connect(&self, wanted: Protocol) -> Result<(Stream, Protocol), Failed> {
        let opened = async {
            match self.open(wanted).await {
                Err(Unopened::Tls(error)) if refuses_protocol(&error) => {
                    self.open(wanted.other()).await
                }
                opened => opened,
            }
        };
        match tokio::time::timeout(self.timeout, opened).await {
            Ok(opened) => opened.map_err(Failed::from),
            Err(_elapsed) => Err(Failed::unreachable("no connection in time".to_owned())),
        }
    }

    async fn open(&self, wanted: Protocol) -> Result<(Stream, Protocol), Unopened> {
        let tcp = Tcp::new(self.tcp.connect(&self.uri).await?);
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(tcp), Protocol::Http1));
        };
        let connector = match wanted {
            Protocol::Http1 => &tls.http1,
            Protocol::Http2 => &tls.http2,
        };
        let stream = connector.connect(tls.name.clone(), tcp).await?;
        // A server without ALPN speaks HTTP/1.1.
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        Ok((Stream::Tls(Box::new(stream)), spoken))
    }
}

// === impl Unopened ===

impl From<Unopened> for Failed {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Tcp(DialError::OutOfReach(why)) => Self::out_of_reach(&why),
            Unopened::Tcp(error @ DialError::Connect(_)) => {
                Self::unreachable(errors::chain(&error))
            }
            Unopened::Tls(error) => Self::unreachable(errors::chain(&error)),
        }
    }
}

// === impl Protocol ===

impl Protocol {
    const fn other(self) -> Self {
        match self {
            Self::Http1 => Self::Http2,
            Self::Http2 => Self::Http1,
        }
    }
}

fn refuses_protocol(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let alert = AlertDescription::NoApplicationProtocol;
    cause == Some(&rustls::Error::AlertReceived(alert))
}

fn private_roots(certificates: &Certificates) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates.iter() {
        roots
            .add(CertificateDer::from_slice(certificate))
            .map_err(|error| format!("CA: {error}"))?;
    }
    Ok(roots)
}

// === impl Tls ===

impl Tls {
    fn new(peer: &PeerName) -> Result<Self, String> {
        let roots = match &peer.ca {
            Some(certificates) => Arc::new(private_roots(certificates)?),
            None => Arc::clone(&PUBLIC_ROOTS),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut http1 = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let host = peer.authority.host();
        // An IPv6 address is in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = peer.server_name.as_deref().unwrap_or(host);
        Ok(Self {
            name: ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?,
            http1: Arc::new(http1).into(),
            http2: Arc::new(http2).into(),
        })
    }
}
