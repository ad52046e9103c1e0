//! The connections of one core to one peer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use proxy_admin::clock;
use proxy_core::reach::Reach;
use tokio::time::{Instant as Deadline, timeout_at};

use super::connect::{Connector, Opened, Protocol, Unopened};
use super::failure::Failed;
use super::http1::Connection;
use super::http2::Link;
use super::idle::Idle;
use super::links::{Lease, Links, Turn};
use super::term::Term;
use crate::peer::Peer;

/// The most idle connections on HTTP/1.1. More than a core needs for calls that begin within a moment; the rest
/// of a wave of streams that end together would stay until it is too old.
const MOST_IDLE: usize = 256;

/// Connections to one peer.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    kept: Mutex<Kept>,
    /// The server refused HTTP/1.1.
    is_http2: AtomicBool,
    links: Arc<Links>,
}

/// The idle connections on HTTP/1.1.
#[derive(Debug, Default)]
struct Kept {
    /// The last one kept is the first one used, so that a quiet hour lets the others go.
    idle: Vec<Idle<Box<Connection>>>,
    /// A connection was opened or kept since the last second.
    is_used: bool,
}

/// A connection for one call.
#[derive(Debug)]
pub(super) enum Connected {
    Http1(Box<Connection>),
    Http2(Lease),
}

/// What a server agreed to that was asked for HTTP/2.
enum Greeted {
    Http1(Opened),
    Http2(Link, Term),
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(peer: &Peer, reach: &Arc<Reach>) -> Result<Self, String> {
        Ok(Self {
            connector: Connector::new(peer, reach)?,
            kept: Mutex::default(),
            is_http2: AtomicBool::new(false),
            links: Links::new(),
        })
    }

    /// A kept connection on HTTP/1.1. Those that were closed meanwhile, carry what was not asked for, or lead
    /// where the peer is no more, are thrown away.
    pub(super) fn take(&self, now: Instant) -> Option<Box<Connection>> {
        loop {
            let Idle { mut connection, .. } = self.kept.lock().idle.pop()?;
            let is_over = connection.term.is_over(&self.connector.host, now);
            if !is_over && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Closes the kept connections that their peer has closed: one has just shown that it does.
    pub(super) fn drop_closed(&self) {
        let mut kept = self.kept.lock();
        kept.idle.retain_mut(|idle| idle.connection.is_quiet());
    }

    /// Keeps the connection of an exchange that has ended, if it can carry another one. Beyond the most that
    /// are kept, the oldest one goes.
    pub(super) fn put(&self, connection: Box<Connection>) {
        if let Some(connection) = connection.into_idle() {
            let mut kept = self.kept.lock();
            kept.is_used = true;
            if kept.idle.len() >= MOST_IDLE {
                kept.idle.remove(0);
            }
            kept.idle.push(Idle::new(connection));
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().idle.len()
    }

    /// A stream on an open connection, if one has room.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.is_http2().then(|| self.links.lease()).flatten()
    }

    /// Opens a connection, or waits for a stream on one that is opened for others. All of it, from the name
    /// to the greeting, within the peer's time.
    pub(super) async fn connect(&self) -> Result<Connected, Failed> {
        self.kept.lock().is_used = true;
        let end = clock::instant() + self.connector.timeout;
        self.open(end.into()).await
    }

    async fn open(&self, end: Deadline) -> Result<Connected, Failed> {
        let mut is_refused = false;
        loop {
            let (wanted, opened) = if self.is_http2() {
                (Protocol::Http2, self.stream(end).await)
            } else {
                (Protocol::Http1, self.exclusive(end).await)
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

    /// A connection on HTTP/1.1.
    async fn exclusive(&self, end: Deadline) -> Result<Connected, Unopened> {
        let opened = timeout_at(end, self.connector.open(Protocol::Http1)).await;
        opened.unwrap_or_else(|_elapsed| Err(late())).map(http1)
    }

    /// A stream, on HTTP/2; or a connection on HTTP/1.1 if the server speaks that now.
    async fn stream(&self, end: Deadline) -> Result<Connected, Unopened> {
        let queued = self.links.queue();
        loop {
            if !self.is_http2() {
                return self.exclusive(end).await;
            }
            let mut changed = pin!(queued.changed());
            changed.as_mut().enable();
            let opening = match queued.turn() {
                Turn::Lease(lease) => return Ok(Connected::Http2(lease)),
                Turn::Failed(failed) => return Err(failed.into()),
                Turn::Wait(waiting) => {
                    let waited = timeout_at(end, waiting.for_change(changed)).await;
                    waited.map_err(|_elapsed| late())?;
                    continue;
                }
                Turn::Open(opening) => opening,
            };
            let greeted = timeout_at(end, self.greet()).await;
            return match greeted.unwrap_or_else(|_elapsed| Err(late())) {
                Ok(Greeted::Http2(link, term)) => Ok(Connected::Http2(opening.opened(link, term))),
                Ok(Greeted::Http1(opened)) => {
                    self.is_http2.store(false, Ordering::Relaxed);
                    Ok(http1(opened))
                }
                Err(unopened @ Unopened::Protocol(_)) => Err(unopened),
                Err(unopened) => {
                    let failed = unopened.into();
                    opening.failed(&failed);
                    Err(failed.into())
                }
            };
        }
    }

    /// Opens a connection on HTTP/2, if the server agrees.
    async fn greet(&self) -> Result<Greeted, Unopened> {
        let opened = self.connector.open(Protocol::Http2).await?;
        if opened.protocol == Protocol::Http1 {
            return Ok(Greeted::Http1(opened));
        }
        match Link::greet(opened.stream).await {
            Ok(link) => Ok(Greeted::Http2(link, opened.term)),
            Err(cause) => Err(Failed::unreachable(cause).into()),
        }
    }

    /// Closes what is idle.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.kept.lock().idle);
        drop(idle);
        self.links.close_idle();
    }

    /// Closes what was idle for too long, was closed by the peer, or leads where the peer is no more. While
    /// there are connections, it is looked up where that is.
    pub(super) fn prune(&self, now: Instant) {
        let host = &self.connector.host;
        let is_used = {
            let mut kept = self.kept.lock();
            kept.idle.retain_mut(|idle| {
                let is_old = idle.is_old(now) || idle.connection.term.is_over(host, now);
                !is_old && idle.connection.is_quiet()
            });
            std::mem::take(&mut kept.is_used) || !kept.idle.is_empty()
        };
        if self.links.prune(host, now) || is_used {
            host.refresh(now);
        }
    }

    fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }
}

fn late() -> Unopened {
    Failed::unreachable("no connection in time".to_owned()).into()
}

fn http1(opened: Opened) -> Connected {
    let connection = Connection::new(opened.stream, opened.term);
    Connected::Http1(Box::new(connection))
}
