//! One request to a token endpoint, on a connection of its own: there are two in an hour.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proxy_admin::dial::Dialer;
use proxy_admin::errors;
use proxy_admin::host::Host;
use proxy_core::reach::Reach;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::config::Roots;

/// Longest wait for a connection. Away from Azure nothing answers at the metadata service's address.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for the whole exchange. The metadata service takes up to a second, Entra less.
const WHOLE: Duration = Duration::from_secs(15);
/// A token with many groups and roles has some kilobytes.
const BODY: usize = 128 << 10;

/// Opens connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    public: Arc<RootCertStore>,
    dialer: Dialer,
}

/// A server that makes tokens, and how its certificate is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) address: &'a Address,
    /// Not the address's host.
    pub(crate) server_name: Option<&'a str>,
    /// Not the public authorities.
    pub(crate) roots: Option<&'a Roots>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl<'a> Peer<'a> {
    /// A server that proves the host of its address to public authorities.
    pub(crate) const fn at(address: &'a Address) -> Self {
        Self {
            address,
            server_name: None,
            roots: None,
        }
    }
}

impl Client {
    /// Connects to what `reach` leaves open.
    pub(crate) fn new(reach: Arc<Reach>) -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Self {
            public: Arc::new(roots.collect()),
            dialer: Dialer::new(reach),
        }
    }

    /// Connects to any address: for those that the installation names.
    pub(crate) fn unbounded() -> Self {
        Self::new(Arc::new(Reach::everywhere()))
    }

    /// Sends a request, and reads the whole answer. `request` has the path as its URI.
    pub(crate) async fn exchange(
        &self,
        peer: Peer<'_>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let exchange = async {
            let connected = tokio::time::timeout(CONNECT, self.tcp(peer.address)).await;
            let stream = connected.map_err(|_elapsed| "no connection in time".to_owned())??;
            if !peer.address.is_tls {
                return send(peer.address, stream, request).await;
            }
            let name = peer.server_name.unwrap_or(&peer.address.host);
            let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
            let tls = TlsConnector::from(Arc::new(self.tls(peer.roots)?));
            let stream = tls.connect(name, stream).await;
            send(
                peer.address,
                stream.map_err(|error| errors::chain(&error))?,
                request,
            )
            .await
        };
        match tokio::time::timeout(WHOLE, exchange).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err("no answer in time".to_owned()),
        }
    }

    async fn tcp(&self, address: &Address) -> Result<TcpStream, String> {
        let authority = &address.authority;
        let usual = if address.is_tls { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let host = Host::new(authority.host());
        let connected = self.dialer.connect(&host, port).await;
        connected.map_err(|error| error.to_string())
    }

    fn tls(&self, roots: Option<&Roots>) -> Result<ClientConfig, String> {
        let roots = match roots {
            Some(roots) => Arc::new(private(roots)?),
            None => Arc::clone(&self.public),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

fn private(roots: &Roots) -> Result<RootCertStore, String> {
    let text = match roots {
        Roots::File(file) => {
            std::fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))?
        }
        Roots::Text(text) => text.as_bytes().to_vec(),
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("the CA: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("the CA: {error}"))?;
    }
    if store.is_empty() {
        return Err("the CA holds no certificate".to_owned());
    }
    Ok(store)
}

async fn send<S>(
    address: &Address,
    stream: S,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = HeaderValue::from_str(address.authority.as_str());
    request
        .headers_mut()
        .insert(HOST, host.map_err(|error| error.to_string())?);
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| errors::chain(&error))?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(answer.into_body(), BODY).collect().await;
        Ok::<_, hyper::Error>((status, retry_after.map(Duration::from_secs), body))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    let answered = tokio::select! {
        biased;
        answered = &mut answered => answered,
        ended = &mut connection => {
            if let Err(error) = ended {
                return Err(errors::chain(&error));
            }
            // All of the answer has come.
            answered.await
        }
    };
    let (status, retry_after, body) = answered.map_err(|error| errors::chain(&error))?;
    let body = body.map_err(|_error| "the answer is too long, or broke off".to_owned())?;
    Ok(Answer {
        status,
        retry_after,
        body: body.to_bytes(),
    })
}
