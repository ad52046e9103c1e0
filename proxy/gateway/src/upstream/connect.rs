//! New connections to a backend: TCP, TLS, and the choice of a protocol.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use proxy_admin::dial::{DialError, Dialer};
use proxy_admin::errors;
use proxy_core::reach::Reach;
use rustls::AlertDescription;

use super::failure::Failed;
use super::stream::{Stream, Tcp};
use crate::peer::Peer;
use crate::trust::{self, Trust};

/// Finds dead peers behind a load balancer that drops idle flows.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Opens connections to one peer.
#[derive(Debug)]
pub(super) struct Connector {
    uri: Uri,
    tcp: Dialer,
    tls: Option<Trust>,
    /// For the name, TCP, TLS and the greeting of HTTP/2 together.
    pub(super) timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unopened {
    Tcp(DialError),
    Tls(io::Error),
    /// The server refuses the protocol.
    Protocol(io::Error),
    /// It was opened for this call and others.
    Failed(Failed),
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(peer: &Peer, reach: &Arc<Reach>) -> Result<Self, String> {
        let tls = peer.trust()?;
        let peer = &peer.name;
        let timeout = Some(peer.connect_timeout);
        let tcp = Dialer::new(Arc::clone(reach), timeout, Some(TCP_KEEPALIVE));
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

    /// Opens a connection for a protocol. Without TLS it is one on HTTP/1.1.
    pub(super) async fn open(&self, wanted: Protocol) -> Result<(Stream, Protocol), Unopened> {
        let tcp = self.tcp.connect(&self.uri).await;
        let tcp = Tcp::new(tcp.map_err(Unopened::Tcp)?);
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(tcp), Protocol::Http1));
        };
        let connector = match wanted {
            Protocol::Http1 => &tls.http1,
            Protocol::Http2 => &tls.http2,
        };
        let stream = connector.connect(tls.name.clone(), tcp).await;
        let stream = stream.map_err(Unopened::of_tls)?;
        // A server without ALPN speaks HTTP/1.1.
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        Ok((Stream::Tls(Box::new(stream)), spoken))
    }
}

// === impl Unopened ===

impl Unopened {
    fn of_tls(error: io::Error) -> Self {
        if refuses_protocol(&error) {
            Self::Protocol(error)
        } else {
            Self::Tls(error)
        }
    }
}

impl From<Failed> for Unopened {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Unopened> for Failed {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Tcp(DialError::OutOfReach(why)) => Self::out_of_reach(&why),
            Unopened::Tcp(error @ DialError::Connect(_)) => {
                Self::unreachable(errors::chain(&error))
            }
            Unopened::Tls(error) | Unopened::Protocol(error) => {
                Self::unreachable(trust::cause(&error))
            }
            Unopened::Failed(failed) => failed,
        }
    }
}

fn refuses_protocol(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let alert = AlertDescription::NoApplicationProtocol;
    cause == Some(&rustls::Error::AlertReceived(alert))
}
