//! The channel's HTTP side: the port, its connections and their requests.
//!
//! HTTP/1.1, and HTTP/2 where TLS has negotiated it. Every wait for a peer has a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy_admin::errors::chain;
use proxy_admin::shutdown::Shutdown;
use proxy_admin::task;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep};
use tracing::{debug, info};

use crate::publisher::Publisher;
use crate::review::{Gate, Reviewer};

mod channel;
mod connection;

use channel::Channel;
use connection::Connections;

/// Most open connections. A proxy keeps two, and a fleet has a few hundred proxies at most.
const CONNECTIONS: usize = 2_048;

/// Pause between two searches for departed replicas.
const SWEEP: Duration = Duration::from_millis(250);

/// The settings of the channel.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Pause between heartbeats. A proxy that misses three takes the connection for dead.
    pub heartbeat: Duration,
    /// Longest life of a subscription. The proxy then subscribes again with a fresh token, which is
    /// cheap: it names the table that it has.
    pub subscription_life: Duration,
}

/// An open port, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections: Arc<Connections>,
    publisher: Publisher,
}

impl Server {
    /// Opens the port. Without `tls` the channel is plain text: for tests, and for a sidecar that
    /// terminates TLS.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(
        config: Config,
        publisher: Publisher,
        reviewer: Arc<dyn Reviewer>,
        tls: Option<Arc<ServerConfig>>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        info!(%address, tls = tls.is_some(), "channel open");
        let channel = Channel {
            publisher: publisher.clone(),
            gate: Gate::new(reviewer),
            heartbeat: config.heartbeat,
            subscription_life: config.subscription_life,
        };
        Ok(Self {
            listener,
            address,
            connections: Arc::new(Connections::new(channel, tls)),
            publisher,
        })
    }

    /// The address of the open port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then ends every subscription so that proxies turn to other
    /// operators.
    pub async fn serve(self, mut shutdown: Shutdown) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut sweep = interval(SWEEP);
        loop {
            let accepted = tokio::select! {
                () = shutdown.requested() => return,
                _ = sweep.tick() => {
                    self.publisher.sweep();
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors: wait until some are closed.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                debug!(%peer, "too many connections");
                continue;
            };
            let connections = Arc::clone(&self.connections);
            let shutdown = shutdown.clone();
            task::spawn("channel connection", async move {
                if let Err(error) = connections.serve(stream, shutdown).await {
                    debug!(%peer, error = %chain(&error), "channel connection ended");
                }
                drop(slot);
            });
        }
    }
}
