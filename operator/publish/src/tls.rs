//! Certificates of the channel: a CA of the operator's own, and the leaf that the server shows.
//!
//! Words: an `authority` is a CA certificate with its key; `authorities` are the one that signs, the
//! one that will, and those that did; the `bundle` is what proxies trust. Where these are kept, the
//! caller knows: this module gives and takes PEM.
//!
//! Rotation overlaps: a new authority is in the bundle for [`ANNOUNCE_MS`] before it signs anything,
//! and the old one stays in it until its end, so at every moment each proxy that has read a bundle
//! of the last month trusts the leaf it is shown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

mod authorities;
#[cfg(test)]
mod tests;

pub use authorities::{ANNOUNCE_MS, Authorities, Stored};

/// The protocol name of HTTP/2 in TLS.
pub(crate) const ALPN_H2: &[u8] = b"h2";

const DAY_MS: i64 = 86_400_000;

/// Ten years: the authority is trusted by nobody but proxies of the same installation, and is
/// replaced a year before its end.
const AUTHORITY_MS: i64 = 3_650 * DAY_MS;

/// Ninety days: a leaf costs nothing to renew.
const LEAF_MS: i64 = 90 * DAY_MS;

/// Clocks of pods differ by seconds; a certificate that begins now would be refused by some.
const BACKDATE_MS: i64 = 5 * 60_000;

/// Longest sleep between looks at the wall clock, which may be set while we sleep.
const LOOK: Duration = Duration::from_secs(600);

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA could not be made, or its PEM could not be read.
    #[error("certificate authority: {0}")]
    Authority(String),
    /// The leaf could not be made.
    #[error("server certificate: {0}")]
    Leaf(String),
}

/// A CA certificate with its key. `Debug` shows neither.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    ends_ms: i64,
}

/// A server certificate with its key, and its times in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Leaf {
    certified: Arc<CertifiedKey>,
    issued_ms: i64,
    ends_ms: i64,
}

/// The leaf that the server shows now; it can be swapped while connections come in.
pub struct Certificates {
    names: Vec<String>,
    authority: ArcSwap<Authority>,
    leaf: Arc<Shown>,
    authority_changed: Notify,
}

#[derive(Debug)]
struct Shown(ArcSwap<Leaf>);

// === impl Authority ===

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ends_ms", &self.ends_ms)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one that is good for ten years from `now_ms`.
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

    /// Reads one that was made before.
    ///
    /// # Errors
    /// The PEM is not that of a certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Authority(error.to_string());
        let key = KeyPair::from_pem(key).map_err(wrong)?;
        let read = authorities::read(certificate)?;
        if !read.signs_with(&key) {
            return Err(TlsError::Authority(
                "the key is not that of the certificate".to_owned(),
            ));
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, key).map_err(wrong)?,
            certificate: certificate.to_owned(),
            ends_ms: read.ends_ms,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The private key, to be stored as a secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// When it ends, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn ends_ms(&self) -> i64 {
        self.ends_ms
    }

    /// Makes a server certificate for `names` (DNS names or addresses), good for ninety days.
    ///
    /// # Errors
    /// A name is not one, or the key could not be made.
    pub fn issue(&self, names: &[String], now_ms: i64) -> Result<Leaf, TlsError> {
        let wrong = |error: rcgen::Error| TlsError::Leaf(error.to_string());
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(wrong)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "tundish channel");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Tells which of several authorities of one name has signed.
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
    /// When it is to be renewed: at two thirds of its life.
    #[must_use]
    pub const fn renews_at_ms(&self) -> i64 {
        let life = self.ends_ms.saturating_sub(self.issued_ms);
        self.issued_ms.saturating_add(life / 3 * 2)
    }
}

// === impl Certificates ===

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("names", &self.names)
            .field("authority", &self.authority.load())
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Issues a first leaf for `names`.
    ///
    /// # Errors
    /// It could not be issued.
    pub fn new(authority: Authority, names: Vec<String>, now_ms: i64) -> Result<Self, TlsError> {
        let leaf = authority.issue(&names, now_ms)?;
        Ok(Self {
            names,
            authority: ArcSwap::from_pointee(authority),
            leaf: Arc::new(Shown(ArcSwap::from_pointee(leaf))),
            authority_changed: Notify::new(),
        })
    }

    /// The settings of a server that always shows the newest leaf.
    ///
    /// # Errors
    /// The crypto provider has no protocol version in common with us.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&self.leaf);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Leaf(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN_H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the leaf is to be renewed, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn renews_at_ms(&self) -> i64 {
        self.leaf.0.load().renews_at_ms()
    }

    /// Shows a new leaf from now on.
    ///
    /// # Errors
    /// It could not be issued; the old one stays.
    pub fn renew(&self, now_ms: i64) -> Result<(), TlsError> {
        let leaf = self.authority.load().issue(&self.names, now_ms)?;
        info!(ends_ms = leaf.ends_ms, "server certificate issued");
        self.leaf.0.store(Arc::new(leaf));
        Ok(())
    }

    /// Signs with `authority` from now on.
    ///
    /// # Errors
    /// It could not issue a leaf; the old one stays.
    pub fn sign_with(&self, authority: Authority, now_ms: i64) -> Result<(), TlsError> {
        let leaf = authority.issue(&self.names, now_ms)?;
        self.authority.store(Arc::new(authority));
        self.leaf.0.store(Arc::new(leaf));
        self.authority_changed.notify_one();
        Ok(())
    }

    /// Renews the leaf whenever it is due, until `shutdown`.
    pub async fn keep(&self, mut shutdown: Shutdown) {
        loop {
            let now_ms = clock::now().unix_ms;
            if now_ms >= self.renews_at_ms()
                && let Err(error) = self.renew(now_ms)
            {
                warn!(%error, "server certificate cannot be renewed; the old one stays");
            }
            let left = u64::try_from(self.renews_at_ms().saturating_sub(now_ms));
            // A renewal that failed is tried again at the next look.
            let left = left.map_or(LOOK, Duration::from_millis);
            tokio::select! {
                () = sleep(left.clamp(Duration::from_secs(1), LOOK)) => {}
                () = self.authority_changed.notified() => {}
                () = shutdown.requested() => return,
            }
        }
    }
}

// === impl Shown ===

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}
