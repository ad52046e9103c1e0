//! How certificates of backends are checked, and what is wrong with those that are not taken.

use std::io;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use proxy_admin::errors;
use proxy_core::table::Certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore,
    SignatureScheme,
};
use tokio_rustls::TlsConnector;

#[cfg(test)]
mod tests;

/// One store for all peers: most backends have no CA of their own.
static PUBLIC_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    Arc::new(roots.collect())
});

/// The TLS of one peer. Clones share its sessions, so that a new connection can resume one.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) name: ServerName<'static>,
    pub(crate) http1: TlsConnector,
    pub(crate) http2: TlsConnector,
}

/// Which authorities are believed.
#[derive(Clone, Copy)]
pub(crate) enum Roots<'a> {
    /// Those of the Web.
    Public,
    /// These alone.
    Own(&'a Certificates),
    /// Nothing is checked.
    Any,
}

// === impl Trust ===

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Expects a certificate for `name`.
    pub(crate) fn new(name: &str, roots: Roots<'_>) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut http1 = match roots {
            Roots::Public => builder.with_root_certificates(Arc::clone(&PUBLIC_ROOTS)),
            Roots::Own(certificates) => builder.with_root_certificates(own(certificates)?),
            Roots::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unchecked::of(&provider))),
        }
        .with_no_client_auth();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            name: ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?,
            http1: Arc::new(http1).into(),
            http2: Arc::new(http2).into(),
        })
    }
}

fn own(certificates: &Certificates) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates.iter() {
        roots
            .add(CertificateDer::from_slice(certificate))
            .map_err(|error| format!("CA: {error}"))?;
    }
    Ok(roots)
}

/// Takes any certificate. Its owner still has to have the key.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

// === impl Unchecked ===

impl Unchecked {
    const fn of(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What is wrong with a handshake, and what to do, for the log.
pub(crate) fn cause(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|cause| cause.downcast_ref());
    let day = |at: &UnixTime| {
        let second = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(second).map_or_else(|_error| "?".to_owned(), |at| at.to_string())
    };
    match inner {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            format!("the backend's certificate ended at {}; it has to be renewed there", day(not_after))
        }
        Some(Error::InvalidCertificate(CertificateError::Expired)) => {
            "the backend's certificate has ended; it has to be renewed there".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => format!(
            "the backend's certificate begins at {}; compare the clocks of both sides",
            day(not_before)
        ),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the backend's certificate is of an authority that is not trusted; if it is the right one, trust it \
             by tls.caCertificateRef of the AIBackend"
                .to_owned()
        }
        // A CA that was made again has the name of the old one.
        Some(Error::InvalidCertificate(CertificateError::BadSignature)) => {
            "the backend's certificate is not signed by the trusted authority of that name; if the authority was \
             made again, put the new one into the Secret of tls.caCertificateRef"
                .to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        })) => format!(
            "the backend's certificate is for {}, not for {}; if it is the right one, name it by tls.serverName of \
             the AIBackend",
            presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
            expected.to_str()
        ),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answers there does not speak TLS; check the port of the endpoint".to_owned()
        }
        Some(_) | None => errors::chain(error),
    }
}

/// `a.example` of `DnsName("a.example")`.
fn bare(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}
