//! A listener that has no room for another connection.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};

/// On loopback a connection opens at once, or its first packet was dropped.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The kernel drops the first packets of clients while this stands.
#[derive(Debug)]
pub(super) struct Full {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

// === impl Full ===

impl Full {
    /// Fills the backlog with connections that are never accepted.
    pub(super) async fn new(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().context("read the port")?;
        let mut waiting = Vec::new();
        while let Ok(connected) = tokio::time::timeout(AT_ONCE, TcpStream::connect(address)).await {
            waiting.push(connected.context("fill the backlog")?);
        }
        Ok(Self {
            _listener: listener,
            _waiting: waiting,
        })
    }
}
