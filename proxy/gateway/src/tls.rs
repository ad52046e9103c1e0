//! HTTPS for clients: one setting of TLS for all cores, with the newest good certificates.
//!
//! It outlives its certificates, so that sessions can be resumed on any core, and after a renewal. Early data
//! (0-RTT) stays off: a request in it could be sent twice.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_admin::shutdown::Shutdown;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsSource;

mod choice;
mod ends;
mod files;
mod pair;
#[cfg(test)]
mod tests;

use choice::Choice;
pub(crate) use ends::Ends;
use files::Files;

/// How often the files are looked at: kubelet renews a mounted Secret within a minute or two.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Accepts TLS with the newest good certificates. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    choice: Arc<Choice>,
    files: Arc<Mutex<Files>>,
}

impl Acceptor {
    /// Reads the certificates. One that cannot be used is logged; without any there is no HTTPS.
    pub(crate) fn load(source: &TlsSource, ends: &Ends) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut files = Files::new(source, Arc::clone(&provider), ends);
        files.look(now_s())?;
        let choice = Arc::new(Choice::new(files.pairs()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Choice>::clone(&choice));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // What a resumption needs is in the client's ticket, so it costs no memory here.
        config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Self {
            tls: Arc::new(config).into(),
            choice,
            files: Arc::new(Mutex::new(files)),
        })
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls.accept(stream).await
    }

    /// Reads the files again when they change, until `shutdown`.
    pub(crate) async fn follow(self, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => self.renew(now_s()),
                () = shutdown.requested() => return,
            }
        }
    }

    /// Reads the files again. What is broken leaves the certificate from before in use.
    fn renew(&self, now_s: i64) {
        let mut files = self.files.lock();
        if files.look(now_s) == Ok(true) {
            self.choice.renew(files.pairs());
        }
    }
}

fn now_s() -> i64 {
    clock::now().unix_ms / 1_000
}
