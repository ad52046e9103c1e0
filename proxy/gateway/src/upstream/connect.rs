//! New connections to a backend: TCP, TLS, and the choice of a protocol.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy_admin::clock;
use proxy_admin::dial::{DialError, Dialer};
use proxy_admin::host::Host;
use proxy_core::reach::Reach;
use rustls::AlertDescription;

use super::failure::Failed;
use super::stream::{Stream, Tcp};
use super::term::Term;
use crate::peer::Peer;
use crate::trust::{self, Trust};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Opens connections to one peer.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) host: Host,
    port: u16,
    tcp: Dialer,
    tls: Option<Trust>,
    /// For the name, TCP, TLS and the greeting of HTTP/2 together.
    pub(super) timeout: Duration,
}

/// A connection on which nothing was said yet.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) protocol: Protocol,
    pub(super) term: Term,
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
        let usual = if tls.is_some() { 443 } else { 80 };
        Ok(Self {
            host: peer.host.clone(),
            port: peer.name.authority.port_u16().unwrap_or(usual),
            tcp: Dialer::new(Arc::clone(reach)),
            tls,
            timeout: peer.name.connect_timeout,
        })
    }

    /// Opens a connection for a protocol. Without TLS it is one on HTTP/1.1.
    pub(super) async fn open(&self, wanted: Protocol) -> Result<Opened, Unopened> {
        let epoch = self.host.epoch();
        let tcp = self.tcp.connect(&self.host, self.port).await;
        let tcp = tcp.map_err(Unopened::Tcp)?;
        let address = tcp.peer_addr().map_err(Unopened::Tls)?.ip();
        let term = Term::new(address, epoch, clock::instant());
        let tcp = Tcp::new(tcp);
        let Some(tls) = &self.tls else {
            return Ok(Opened {
                stream: Stream::Plain(tcp),
                protocol: Protocol::Http1,
                term,
            });
        };
        let connector = match wanted {
            Protocol::Http1 => &tls.http1,
            Protocol::Http2 => &tls.http2,
        };
        let stream = connector.connect(tls.name.clone(), tcp).await;
        let stream = stream.map_err(Unopened::of_tls)?;
        // A server without ALPN speaks HTTP/1.1.
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        Ok(Opened {
            stream: Stream::Tls(Box::new(stream)),
            protocol,
            term,
        })
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
            Unopened::Tcp(DialError::Connect(cause)) => Self::unreachable(cause),
            Unopened::Tcp(DialError::Local(cause)) => Self::local(cause),
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
