//! File descriptors: as many as the system allows, and what a listener does once they are spent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::clock;
use crate::reminder::Reminder;

/// Below this a gateway refuses callers at some 2,000 of them, since each may take a connection to a
/// backend too.
const ENOUGH: u64 = 4_096;
/// Pause of a listener that cannot accept.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a caller's first bytes before it is turned away: a socket that is closed with
/// unread bytes may take the answer with it.
const FIRST_BYTES: Duration = Duration::from_millis(50);

/// How many files this process may have open at once.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the soft limit of open files to the hard one, and says so in the log if it is still low.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, "the limit of open files could not be raised");
        }
    }
    // No limit at all is `None`.
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < ENOUGH
    {
        warn!(
            limit,
            wanted = ENOUGH,
            "few files may be open at once, so connections will be refused early; raise the hard limit \
             (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// What the listeners of a process share about a shortage of descriptors.
#[derive(Debug, Default)]
pub struct Shortage(Reminder);

/// A descriptor in reserve: given up, it lets a listener accept one more caller and turn it away.
#[derive(Debug)]
pub struct Reserve(Mutex<Option<OwnedFd>>);

/// Descriptors in reserve for a listener that serves its callers even when no other is left.
#[derive(Debug)]
pub struct Spares(Mutex<Vec<OwnedFd>>);

/// A descriptor of the spares that a caller has. Drop it right behind the caller's connection.
#[derive(Debug)]
pub struct Lent(Arc<Spares>);

impl Reserve {
    /// Takes a descriptor, if there is one.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(spare()))
    }

    /// Handles the error of an accept. Without descriptors one waiting caller gets the answer that is made for
    /// it, so that it does not wait for its own deadline, and the log says so once a minute at most.
    pub async fn handle(
        &self,
        error: &io::Error,
        listener: &TcpListener,
        answer: impl FnOnce(IpAddr) -> Bytes,
        shortage: &Shortage,
    ) {
        if !is_spent(error) {
            // The peer is gone already, or the system lacks memory.
            debug!(%error, "accept failed");
            sleep(PAUSE).await;
            return;
        }
        if shortage.0.is_due(clock::instant()) {
            warn!(%error, "no file descriptor is left: new connections are turned away");
        }
        let Some(held) = self.0.lock().take() else {
            sleep(PAUSE).await;
            *self.0.lock() = spare();
            return;
        };
        drop(held);
        // Bounded: another thread may have taken the descriptor.
        if let Ok(Ok((stream, peer))) = timeout(PAUSE, listener.accept()).await {
            turn_away(&stream, &answer(peer.ip()), FIRST_BYTES).await;
        }
        *self.0.lock() = spare();
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Spares ===

impl Spares {
    /// Takes this many descriptors, or those that are left.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(
            (0..count).map_while(|_| spare()).collect(),
        )))
    }

    /// Handles the error of an accept: without descriptors a waiting caller gets one of these. `None` if that
    /// is not why, or all are lent.
    pub async fn accept(
        self: &Arc<Self>,
        error: &io::Error,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, Lent)> {
        if !is_spent(error) {
            return None;
        }
        drop(self.0.lock().pop()?);
        let lent = Lent(Arc::clone(self));
        // Bounded: another thread may have taken the descriptor, or the caller is gone.
        let (stream, peer) = timeout(PAUSE, listener.accept()).await.ok()?.ok()?;
        Some((stream, peer, lent))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(spare) = spare() {
            self.0.0.lock().push(spare);
        }
    }
}

/// Whether the process or the system has no descriptor left.
fn is_spent(error: &io::Error) -> bool {
    let spent = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    spent.contains(&error.raw_os_error())
}

/// Answers a caller without reading its request, whose first bytes are awaited for `wait` at most; the
/// connection ends when `stream` is dropped.
pub async fn turn_away(stream: &TcpStream, answer: &[u8], wait: Duration) {
    if timeout(wait, stream.readable()).await.is_ok() {
        // Only taken out of the socket.
        stream.try_read(&mut [0; 4_096]).ok();
    }
    // A fresh socket takes it at once, or its peer is gone.
    stream.try_write(answer).ok();
}

/// Any descriptor serves: this one is there in every container.
fn spare() -> Option<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned().ok()
}
