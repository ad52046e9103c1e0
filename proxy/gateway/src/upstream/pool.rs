//! The connections of one core to one peer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use proxy_core::reach::Reach;

use super::connect::{Connector, Protocol, Unopened};
use super::failure::Failed;
use super::http1::Connection;
use super::http2::Link;
use super::idle::Idle;
use super::links::{Lease, Links, Turn};
use super::stream::Stream;
use crate::peer::Peer;

/// Connections to one peer.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    /// The last one kept is the first one used, so that a quiet hour lets the others go.
    idle: Mutex<Vec<Idle<Box<Connection>>>>,
    /// The server refused HTTP/1.1.
    is_http2: AtomicBool,
    links: Arc<Links>,
}

/// A connection for one call.
#[derive(Debug)]
pub(super) enum Connected {
    Http1(Box<Connection>),
    Http2(Lease),
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(peer: &Peer, reach: &Arc<Reach>) -> Result<Self, String> {
        Ok(Self {
            connector: Connector::new(peer, reach)?,
            idle: Mutex::default(),
            is_http2: AtomicBool::new(false),
            links: Links::new(),
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

    /// A stream on an open connection, if one has room.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.is_http2().then(|| self.links.lease()).flatten()
    }

    /// Opens a connection, or waits for a stream on one that is opened for others. All of it, from the name
    /// to the greeting, within the peer's time.
    pub(super) async fn connect(&self) -> Result<Connected, Failed> {
        let connected = tokio::time::timeout(self.connector.timeout, self.open());
        match connected.await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(Failed::unreachable("no connection in time".to_owned())),
        }
    }

    async fn open(&self) -> Result<Connected, Failed> {
        let mut is_refused = false;
        loop {
            let (wanted, opened) = if self.is_http2() {
                (Protocol::Http2, self.stream().await)
            } else {
                let opened = self.connector.open(Protocol::Http1).await;
                (Protocol::Http1, opened.map(|(stream, _)| http1(stream)))
            };
            match opened {
                // The server may speak the other one.
                Err(Unopened::Protocol(_)) if !is_refused => {
                    is_refused = true;
                    self.is_http2
                        .store(wanted == Protocol::Http1, Ordering::Relaxed);
                }
                opened => return Ok(opened?),
            }
        }
    }

    /// A stream, on HTTP/2; or a connection on HTTP/1.1 if the server speaks that now.
    async fn stream(&self) -> Result<Connected, Unopened> {
        let queued = self.links.queue();
        loop {
            if !self.is_http2() {
                let (stream, _) = self.connector.open(Protocol::Http1).await?;
                return Ok(http1(stream));
            }
            let mut changed = pin!(queued.changed());
            changed.as_mut().enable();
            let opening = match queued.turn() {
                Turn::Lease(lease) => return Ok(Connected::Http2(lease)),
                Turn::Failed(failed) => return Err(failed.into()),
                Turn::Wait(waiting) => {
                    waiting.for_change(changed).await;
                    continue;
                }
                Turn::Open(opening) => opening,
            };
            let opened = match self.connector.open(Protocol::Http2).await {
                Ok((stream, Protocol::Http1)) => {
                    self.is_http2.store(false, Ordering::Relaxed);
                    return Ok(http1(stream));
                }
                Ok((stream, Protocol::Http2)) => {
                    let greeted = Link::greet(stream).await;
                    greeted.map_err(|cause| Failed::unreachable(cause).into())
                }
                Err(unopened) => Err(unopened),
            };
            return match opened {
                Ok(link) => Ok(Connected::Http2(opening.opened(link))),
                Err(unopened @ Unopened::Protocol(_)) => Err(unopened),
                Err(unopened) => {
                    let failed = unopened.into();
                    opening.failed(&failed);
                    Err(failed.into())
                }
            };
        }
    }

    /// Closes what is idle.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
        self.links.close_idle();
    }

    /// Closes what was idle for too long, or was closed by the peer.
    pub(super) fn prune(&self, now: Instant) {
        self.idle
            .lock()
            .retain_mut(|idle| !idle.is_old(now) && idle.connection.is_quiet());
        self.links.prune(now);
    }

    fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }
}

fn http1(stream: Stream) -> Connected {
    Connected::Http1(Box::new(Connection::new(stream)))
}
