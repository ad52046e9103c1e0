//! The connections of one core to one peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proxy_core::reach::Reach;

use super::connect::{Connector, Protocol};
use super::failure::Failed;
use super::http1::Connection;
use super::http2::{self, Sender};
use crate::peer::Peer;

/// Idle connections are closed before the front ends of Foundry and of load balancers close them
/// (60 s at the earliest), or a request could meet a connection that is just going away.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// Connections to one peer.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    /// The last one kept is the first one used, so that a quiet hour lets the others go.
    idle: Mutex<Vec<Idle<Box<Connection>>>>,
    /// The server refused HTTP/1.1.
    is_http2: AtomicBool,
    http2: Mutex<Option<Idle<Sender>>>,
}

/// A connection, and when it was first seen idle. It is seen once a second, which is exact enough, and
/// spares a look at the clock for each exchange.
#[derive(Debug)]
struct Idle<T> {
    connection: T,
    seen: Option<Instant>,
}

/// A new connection.
#[derive(Debug)]
pub(super) enum Connected {
    Http1(Box<Connection>),
    Http2(Sender),
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(peer: &Peer, reach: &Arc<Reach>) -> Result<Self, String> {
        Ok(Self {
            connector: Connector::new(peer, reach)?,
            idle: Mutex::default(),
            is_http2: AtomicBool::new(false),
            http2: Mutex::default(),
        })
    }

    /// A kept connection on HTTP/1.1. Those that were closed meanwhile, or carry what was not asked for,
    /// are thrown away.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            if idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
    }

    /// Closes the kept connections that their peer has closed: one has just shown that it does.
    pub(super) fn drop_closed(&self) {
        self.idle
            .lock()
            .retain_mut(|idle| idle.connection.is_quiet());
    }

    /// Keeps the connection of an exchange that has ended, if it can carry another one.
    pub(super) fn put(&self, connection: Box<Connection>) {
        if let Some(connection) = connection.into_idle() {
            self.idle.lock().push(Idle::new(connection));
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.idle.lock().len()
    }

    /// The open connection on HTTP/2.
    pub(super) fn sender(&self) -> Option<Sender> {
        if !self.is_http2.load(Ordering::Relaxed) {
            return None;
        }
        let mut known = self.http2.lock();
        let open = known
            .as_mut()
            .filter(|known| !known.connection.is_closed())?;
        open.seen = None;
        Some(open.connection.clone())
    }

    /// Opens a connection; on HTTP/2, the one for all requests.
    pub(super) async fn connect(&self) -> Result<Connected, Failed> {
        let wanted = if self.is_http2.load(Ordering::Relaxed) {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        let (stream, spoken) = self.connector.connect(wanted).await?;
        self.is_http2
            .store(spoken == Protocol::Http2, Ordering::Relaxed);
        Ok(match spoken {
            Protocol::Http1 => Connected::Http1(Box::new(Connection::new(stream))),
            Protocol::Http2 => {
                let greeted = http2::greet(stream).await;
                let sender = greeted.map_err(Failed::unreachable)?;
                // Of several that were opened at once, the last one stays.
                *self.http2.lock() = Some(Idle::new(sender.clone()));
                Connected::Http2(sender)
            }
        })
    }

    /// Closes what is idle.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    /// Closes what was idle for too long, or was closed by the peer.
    pub(super) fn prune(&self, now: Instant) {
        self.idle
            .lock()
            .retain_mut(|idle| !idle.is_old(now) && idle.connection.is_quiet());
        let mut http2 = self.http2.lock();
        // Streams that still run keep a connection open without its sender here.
        if http2
            .as_mut()
            .is_some_and(|known| known.is_old(now) || known.connection.is_closed())
        {
            *http2 = None;
        }
    }
}

// === impl Idle ===

impl<T> Idle<T> {
    const fn new(connection: T) -> Self {
        Self {
            connection,
            seen: None,
        }
    }

    fn is_old(&mut self, now: Instant) -> bool {
        let seen = *self.seen.get_or_insert(now);
        now.saturating_duration_since(seen) >= IDLE_CONNECTION
    }
}
