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
    /// For TCP and TLS together.
    timeout: Duration,
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
            Unopened::Tls(error) => Self::unreachable(trust::cause(&error)),
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
