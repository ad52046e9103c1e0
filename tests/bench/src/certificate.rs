//! A certificate of the run: backends and fronts show it, peers and the generator trust it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in it.
pub(crate) const NAME: &str = "localhost";

/// Its files.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes one, self-signed.
    pub(crate) fn write(folder: &Path) -> Result<Self> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).context("make a certificate")?;
        let files = Self {
            file: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        std::fs::write(&files.file, cert.pem()).context("write the certificate")?;
        std::fs::write(&files.key, signing_key.serialize_pem()).context("write the key")?;
        Ok(files)
    }

    pub(crate) fn pem(&self) -> Result<String> {
        std::fs::read_to_string(&self.file).context("read the certificate")
    }

    /// A server that offers one protocol.
    pub(crate) fn acceptor(&self, protocol: &str) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::from_pem_file(&self.key).context("read the key")?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.read()?], key)
            .context("use the certificate")?;
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A client that trusts this certificate alone and speaks HTTP/1.1.
    pub(crate) fn connector(&self) -> Result<TlsConnector> {
        let config = self.client(ALL_VERSIONS)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The settings of such a client, for some versions of TLS.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.read()?)
            .context("trust the own certificate")?;
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn read(&self) -> Result<CertificateDer<'static>> {
        CertificateDer::from_pem_file(&self.file).context("read the certificate")
    }
}
