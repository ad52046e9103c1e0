//! A simulator inside the process of a test.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use crate::{
    config::Config,
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
