//! HTTPS for clients: a certificate from files, read again when they change.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use proxy_admin::clock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config::TlsFiles;

#[cfg(test)]
mod tests;

/// How often the files are looked at: kubelet renews a mounted Secret within a minute or two.
const LOOK_EVERY_MS: u64 = 5_000;

/// Accepts TLS with the newest good certificate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<Files>);

struct Files {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    looked: Mutex<Looked>,
}

struct Looked {
    at_ms: u64,
    changed: [Option<SystemTime>; 2],
}

impl Acceptor {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, String> {
        let config = read(files)?;
        Ok(Self(Arc::new(Files {
            files: files.clone(),
            current: ArcSwap::new(Arc::new(config)),
            looked: Mutex::new(Looked {
                at_ms: clock::now().monotonic_ms,
                changed: modified(files),
            }),
        })))
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.renew(clock::now().monotonic_ms);
        TlsAcceptor::from(self.0.current.load_full())
            .accept(stream)
            .await
    }

    /// Reads the files again if they have changed; a broken pair leaves the old one in use.
    fn renew(&self, now_ms: u64) {
        let Some(mut looked) = self.0.looked.try_lock() else {
            return;
        };
        if now_ms.saturating_sub(looked.at_ms) < LOOK_EVERY_MS {
            return;
        }
        looked.at_ms = now_ms;
        let changed = modified(&self.0.files);
        if changed == looked.changed {
            return;
        }
        match read(&self.0.files) {
            Ok(config) => {
                self.0.current.store(Arc::new(config));
                looked.changed = changed;
                info!("TLS certificate renewed");
            }
            Err(cause) => warn!(
                cause,
                "the changed TLS certificate cannot be used; keeping the old"
            ),
        }
    }
}

fn modified(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    let of = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    [of(&files.certificate), of(&files.key)]
}

fn read(files: &TlsFiles) -> Result<ServerConfig, String> {
    let named = |path: &Path, cause: String| format!("{}: {cause}", path.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| named(&files.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| named(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| named(&files.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
