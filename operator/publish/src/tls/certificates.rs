//! The certificate that the server shows, renewed before its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proxy_admin::clock;
use proxy_admin::connection::ALPN_H2;
use proxy_admin::shutdown::Shutdown;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::authorities::{Authorities, StoredAuthorities};
use super::authority::{Authority, Leaf, TlsError};

/// Longest sleep between two looks at the wall clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(600);

/// The current leaf of the server. It can be replaced while connections come in.
pub struct Certificates {
    names: Vec<String>,
    authority: ArcSwap<Authority>,
    pub(super) leaf: Arc<Shown>,
    signer_changed: Notify,
}

#[derive(Debug)]
pub(super) struct Shown(pub(super) ArcSwap<Leaf>);

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
    /// Issues a first leaf for `names`, signed by `authority`.
    ///
    /// # Errors
    /// It could not be issued.
    pub fn new(authority: Authority, names: Vec<String>, now_ms: i64) -> Result<Self, TlsError> {
        let leaf = authority.issue(&names, now_ms)?;
        Ok(Self {
            names,
            authority: ArcSwap::from_pointee(authority),
            leaf: Arc::new(Shown(ArcSwap::from_pointee(leaf))),
            signer_changed: Notify::new(),
        })
    }

    /// The TLS settings of a server that always shows the newest leaf.
    ///
    /// # Errors
    /// The crypto provider supports no protocol version of ours.
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

    /// The time of the leaf's renewal, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn renews_at_ms(&self) -> i64 {
        self.leaf.0.load().renews_at_ms()
    }

    /// Issues a new leaf and shows it from now on.
    ///
    /// # Errors
    /// It could not be issued; the old one stays.
    pub fn renew(&self, now_ms: i64) -> Result<(), TlsError> {
        let leaf = self.authority.load().issue(&self.names, now_ms)?;
        info!(ends_ms = leaf.ends_ms, "server certificate issued");
        self.leaf.0.store(Arc::new(leaf));
        Ok(())
    }

    /// Signs with `authority` from now on, and shows a leaf of it.
    ///
    /// # Errors
    /// It could not issue a leaf; the old authority and leaf stay.
    pub fn sign_with(&self, authority: Authority, now_ms: i64) -> Result<(), TlsError> {
        let leaf = authority.issue(&self.names, now_ms)?;
        self.authority.store(Arc::new(authority));
        self.leaf.0.store(Arc::new(leaf));
        self.signer_changed.notify_one();
        Ok(())
    }

    /// Signs with the authority of `stored` from now on.
    ///
    /// # Errors
    /// Its PEM cannot be parsed, or it could not issue a leaf; the old authority and leaf stay.
    pub fn adopt(&self, stored: &StoredAuthorities, now_ms: i64) -> Result<(), TlsError> {
        self.sign_with(Authorities::load(stored)?.signing()?, now_ms)
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
            // A failed renewal is tried again at the next look.
            let left = left.map_or(LOOK, Duration::from_millis);
            tokio::select! {
                () = sleep(left.clamp(Duration::from_secs(1), LOOK)) => {}
                () = self.signer_changed.notified() => {}
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
