//! A simulator inside the process of a test.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use crate::{
    config::Config,
    entra::{AccessToken, Directory, InvalidToken, Rotation, issuer},
    faults::{self, Fault, InvalidFault},
    foundry::Foundry,
    record::{Billed, Record},
    server::Server,
};

/// A running simulator. It has threads of its own, so it starts and stops in any context; dropping
/// it closes the port and every connection.
#[derive(Debug)]
pub struct Sim {
    foundry: Arc<Foundry>,
    server: Server,
}

impl Sim {
    /// Binds and serves. The port is open when this returns.
    ///
    /// # Errors
    /// The address cannot be bound, or no thread can be started.
    pub fn start(config: &Config) -> io::Result<Self> {
        let foundry = Arc::new(Foundry::new(config));
        let server = Server::start(config, &foundry)?;
        Ok(Self { foundry, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The resource's endpoint, such as `http://127.0.0.1:41234`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// What was received, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.foundry.log.all()
    }

    /// Forgets what was received.
    pub fn clear_requests(&self) {
        self.foundry.log.clear();
    }

    /// Requests and tokens that were really produced.
    #[must_use]
    pub fn billed(&self) -> Billed {
        self.foundry.settle_background();
        self.foundry.billed.lock().clone()
    }

    /// Replaces the faults; an empty list ends them.
    ///
    /// # Errors
    /// A fault that cannot be played; then the old ones stay.
    pub fn faults(&self, faults: Vec<Fault>) -> Result<(), InvalidFault> {
        faults::check(&faults)?;
        self.foundry.faults.replace(faults);
        Ok(())
    }

    /// Replaces the accepted API keys.
    pub fn keys(&self, keys: &[String]) {
        self.foundry.keys.replace(keys);
    }

    /// Replaces what Entra knows. Tokens that it made stay good while their app is there.
    pub fn directory(&self, directory: Directory) {
        self.foundry.entra.replace(directory);
    }

    /// Replaces the faults of Entra and of the machine's endpoints: `Entra_Token`, `Entra_Discovery`,
    /// `Entra_Keys`, `Imds_Token` and `AppService_Token` are their operations.
    ///
    /// # Errors
    /// A fault that cannot be played; then the old ones stay.
    pub fn entra_faults(&self, faults: Vec<Fault>) -> Result<(), InvalidFault> {
        faults::check(&faults)?;
        self.foundry.entra.faults.replace(faults);
        Ok(())
    }

    /// From now on Foundry refuses every token that Entra made so far.
    pub fn revoke_tokens(&self) {
        self.foundry.entra.revoke_all();
    }

    /// A token of Entra, as if a caller had got it.
    ///
    /// # Errors
    /// Entra makes no such token.
    pub fn access_token(&self, wanted: &AccessToken) -> Result<String, InvalidToken> {
        self.foundry.entra.make(self.foundry.now(), wanted)
    }

    /// Entra's name in its tokens of this version, 1 or 2.
    #[must_use]
    pub fn issuer(&self, version: u8) -> String {
        let tenant = self.foundry.entra.directory.lock().tenant.clone();
        issuer(&self.url(), &tenant, version)
    }

    /// Entra signs by another key from now on.
    ///
    /// # Errors
    /// No key could be made.
    pub fn rotate_keys(&self, rotation: Rotation) -> Result<(), InvalidToken> {
        let rotated = self.foundry.entra.signing.rotate(rotation);
        rotated.map_err(|error| InvalidToken::Key(error.to_string()))
    }

    /// A token of the cluster for a ServiceAccount, as the kubelet projects it into a pod.
    #[must_use]
    pub fn projected_token(&self, subject: &str, audience: &str, lifetime: Duration) -> String {
        let clock = &self.foundry.clock;
        let now = clock.unix(clock.now()).as_secs();
        let issuer = &self.foundry.entra.issuer;
        issuer.assertion(subject, audience, now, lifetime.as_secs())
    }

    /// Waits until `condition` holds; false if it doesn't within `limit`. It is asked whenever a
    /// request has come in, or has come to its end.
    pub async fn wait_until(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> bool {
        let wait = async {
            loop {
                let mut changed = pin!(self.foundry.changed.notified());
                // Before asking, so that no end between the two is missed.
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}
