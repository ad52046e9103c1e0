//! One authority, and the leaves that it issues.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Ten years: only proxies of the same installation trust the authority, and its successor takes
/// over before the end.
pub(super) const AUTHORITY_MS: i64 = 3_650 * DAY_MS;

/// Ninety days: a renewal of the leaf costs nothing.
const LEAF_MS: i64 = 90 * DAY_MS;

/// A proxy whose clock is behind would refuse a certificate that begins now, and nothing depends on the
/// beginning.
const BACKDATE_MS: i64 = DAY_MS;

/// A certificate could not be made or parsed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA could not be made, or its PEM could not be parsed.
    #[error("certificate authority: {0}")]
    Authority(String),
    /// The leaf could not be made.
    #[error("server certificate: {0}")]
    Leaf(String),
}

/// A CA certificate with its key. `Debug` shows neither.
pub struct Authority {
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
    pub(super) ends_ms: i64,
}

/// A server certificate with its key. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub(super) certified: Arc<CertifiedKey>,
    issued_ms: i64,
    pub(super) ends_ms: i64,
}

/// The parts of a CA certificate that matter here.
pub(super) struct Parsed {
    pub(super) ends_ms: i64,
    public_key: Vec<u8>,
}

impl Parsed {
    fn signs_with(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }
}

/// Parses the one certificate in `pem`.
pub(super) fn parse(pem: &str) -> Result<Parsed, TlsError> {
    let wrong = |error: String| TlsError::Authority(error);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|e| wrong(e.to_string()))?;
    let ends_s = certificate.validity().not_after.timestamp();
    Ok(Parsed {
        ends_ms: ends_s.saturating_mul(1_000),
        public_key: certificate.public_key().raw.to_vec(),
    })
}

// === impl Authority ===

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ends_ms", &self.ends_ms)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one, valid for ten years from `now_ms`.
    ///
    /// # Errors
    /// The key could not be made.
    pub fn generate(now_ms: i64) -> Result<Self, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Authority(error.to_string());
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(wrong)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "tundish channel CA");
        // Signs leaves only, no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ends_ms = now_ms.saturating_add(AUTHORITY_MS);
        valid(&mut params, now_ms, ends_ms);
        let certificate = params.self_signed(&key).map_err(wrong)?;
        Ok(Self {
            certificate: certificate.pem(),
            issuer: Issuer::new(params, key),
            ends_ms,
        })
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// The PEM is not a certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Authority(error.to_string());
        let key = KeyPair::from_pem(key).map_err(wrong)?;
        let parsed = parse(certificate)?;
        if !parsed.signs_with(&key) {
            return Err(TlsError::Authority(
                "the key does not belong to the certificate".to_owned(),
            ));
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, key).map_err(wrong)?,
            certificate: certificate.to_owned(),
            ends_ms: parsed.ends_ms,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The private key. Store it as a secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The end of its validity, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn ends_ms(&self) -> i64 {
        self.ends_ms
    }

    /// Issues a server certificate for `names` (DNS names or addresses), valid for ninety days.
    ///
    /// # Errors
    /// A name is invalid, or the key could not be made.
    pub fn issue(&self, names: &[String], now_ms: i64) -> Result<Leaf, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Leaf(error.to_string());
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(wrong)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "tundish channel");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // All authorities have one name; the identifier distinguishes them.
        params.use_authority_key_identifier_extension = true;
        let ends_ms = now_ms.saturating_add(LEAF_MS).min(self.ends_ms);
        valid(&mut params, now_ms, ends_ms);
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| TlsError::Leaf(error.to_string()))?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        Ok(Leaf {
            certified: Arc::new(CertifiedKey::new(chain, key)),
            issued_ms: now_ms,
            ends_ms,
        })
    }
}

fn valid(params: &mut CertificateParams, from_ms: i64, to_ms: i64) {
    let at = |unix_ms: i64| {
        let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or_default());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = at(from_ms.saturating_sub(BACKDATE_MS));
    params.not_after = at(to_ms);
}

// === impl Leaf ===

impl Leaf {
    /// The time of its renewal: at two thirds of its life.
    #[must_use]
    pub const fn renews_at_ms(&self) -> i64 {
        let life = self.ends_ms.saturating_sub(self.issued_ms);
        self.issued_ms.saturating_add(life / 3 * 2)
    }
}
