//! A TLS server in front of a backend, with a certificate of a kind.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What the server shows, to clients that call it by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    OtherName,
    Expired,
    /// Of an authority that its clients do not trust.
    OtherRoot,
}

/// Speaks TLS until it is dropped.
pub(crate) struct Front {
    pub(crate) port: u16,
    /// What its clients trust, in PEM.
    pub(crate) root: String,
    _tasks: JoinSet<()>,
}

impl Front {
    /// Joins clients with `server`, a port of this machine.
    pub(crate) async fn start(server: u16, certificate: Certificate) -> Result<Self> {
        let (own, other) = (authority("own")?, authority("other")?);
        let acceptor = acceptor(&own, certificate)?;
        let root = match certificate {
            Certificate::Good | Certificate::OtherName | Certificate::Expired => own.pem(),
            Certificate::OtherRoot => other.pem(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        connections.spawn(join(client, server, acceptor.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            port,
            root,
            _tasks: tasks,
        })
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("make an authority")
}

fn acceptor(
    authority: &CertifiedIssuer<'_, KeyPair>,
    certificate: Certificate,
) -> Result<TlsAcceptor> {
    let name = match certificate {
        Certificate::OtherName => "other.example",
        Certificate::Good | Certificate::Expired | Certificate::OtherRoot => "127.0.0.1",
    };
    let mut params = CertificateParams::new([name.to_owned()])?;
    if certificate == Certificate::Expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.into()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves one client. Whatever breaks ends it.
async fn join(client: TcpStream, server: u16, acceptor: TlsAcceptor) {
    let Ok(mut client) = acceptor.accept(client).await else {
        return;
    };
    if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await {
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
