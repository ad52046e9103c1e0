//! Certificates of authorities that a backend's certificate must come from.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why a text holds no authorities. Quotes nothing: a Secret may hold a private key too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidCertificates {
    /// There is no PEM certificate in it.
    Absent,
    /// The PEM or the DER of one is damaged, or it cannot be a trust anchor.
    Damaged {
        /// Its number in the text, from 1.
        number: usize,
    },
}

/// Reads the certificates in a PEM text, as DER. Other sections are skipped. The gateway accepts
/// every result: the check of each certificate is the one that rustls makes.
///
/// # Errors
/// There is no certificate, or one of them cannot be a trust anchor.
pub(crate) fn parse(pem: &str) -> Result<Arc<[Arc<[u8]>]>, InvalidCertificates> {
    let mut certificates: Vec<Arc<[u8]>> = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let number = certificates.len().saturating_add(1);
        let damaged = InvalidCertificates::Damaged { number };
        let der = der.map_err(|_quotes_the_text| damaged)?;
        webpki::anchor_from_trusted_cert(&der).map_err(|_details| damaged)?;
        certificates.push(Arc::from(&*der));
    }
    if certificates.is_empty() {
        return Err(InvalidCertificates::Absent);
    }
    Ok(certificates.into())
}

#[cfg(test)]
mod tests;
