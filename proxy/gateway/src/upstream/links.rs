//! The connections on HTTP/2 of one core to one peer: as many as the load needs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use proxy_admin::host::Host;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::failure::Failed;
use super::http2::Link;
use super::idle::Idle;
use super::term::Term;

/// Connections of one core to one peer. Servers take a hundred streams on each, so that these carry more calls
/// than one core can. Beyond it, streams wait for their turn within a connection.
const MOST_LINKS: usize = 64;
/// What servers usually take, before one has said it (RFC 9113, section 6.5.2: no fewer than this).
const USUAL_STREAMS: usize = 100;

/// The connections.
#[derive(Debug)]
pub(super) struct Links {
    state: Mutex<State>,
    /// A connection was opened, could not be, or has room again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    links: Vec<Idle<(Arc<Link>, Term)>>,
    /// Being opened.
    openings: usize,
    /// Calls that wait for these.
    waiting: usize,
    /// How many streams the last one took that was opened.
    usual: usize,
    failures: u64,
    last_failure: Option<Failed>,
}

/// A stream on a connection. Dropped, it makes room for another one.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) link: Arc<Link>,
    links: Arc<Links>,
}

/// A call without a stream.
#[derive(Debug)]
pub(super) struct Queued {
    links: Arc<Links>,
    /// Failures before it came.
    failures: u64,
}

/// What a call has to do for its stream.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing.
    Lease(Lease),
    /// Open another connection.
    Open(Opening),
    /// Wait for those that others are opening.
    Wait(Waiting),
    /// What it waited for failed.
    Failed(Failed),
}

/// A connection that is being opened. Dropped before that, another call opens it.
#[derive(Debug)]
pub(super) struct Opening(Arc<Links>);

/// A call that waits.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Links>);

// === impl Links ===

impl Links {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                links: Vec::new(),
                openings: 0,
                waiting: 0,
                usual: USUAL_STREAMS,
                failures: 0,
                last_failure: None,
            }),
            changed: Notify::new(),
        })
    }

    /// A stream on the connection that has the fewest, if one has room.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.state.lock();
        state.free(self)
    }

    /// A call enters that has found no room.
    pub(super) fn queue(self: &Arc<Self>) -> Queued {
        Queued {
            links: Arc::clone(self),
            failures: self.state.lock().failures,
        }
    }

    /// Takes no new streams on those that were idle for too long, or lead where the peer is no more. Whether
    /// one is left.
    pub(super) fn prune(&self, host: &Host, now: Instant) -> bool {
        let mut state = self.state.lock();
        // Streams that still run keep a connection open without its link here.
        state.links.retain_mut(|idle| {
            if idle.connection.0.load() > 0 {
                idle.touch();
            }
            let is_old = idle.is_old(now);
            let (link, term) = &mut idle.connection;
            link.is_open() && !is_old && !term.is_over(host, now)
        });
        !state.links.is_empty()
    }

    /// Closes what is idle.
    pub(super) fn close_idle(&self) {
        let mut state = self.state.lock();
        state.links.retain(|idle| idle.connection.0.load() > 0);
    }
}

// === impl State ===

impl State {
    /// A stream where there is room.
    fn free(&mut self, links: &Arc<Links>) -> Option<Lease> {
        self.least(|link| link.load() < link.most(), links)
    }

    /// A stream that waits for its turn within its connection.
    fn crowded(&mut self, links: &Arc<Links>) -> Option<Lease> {
        self.least(|_link| true, links)
    }

    /// A stream on the one with the fewest of those that fit.
    fn least(&mut self, fits: impl Fn(&Link) -> bool, links: &Arc<Links>) -> Option<Lease> {
        let open = self.links.iter_mut();
        let fitting = open.filter(|idle| {
            let (link, _) = &idle.connection;
            link.is_open() && fits(link)
        });
        let idle = fitting.min_by_key(|idle| idle.connection.0.load())?;
        idle.touch();
        Some(Lease::on(&idle.connection.0, links))
    }
}

// === impl Queued ===

impl Queued {
    /// To be called before [`Queued::turn`]: what changes meanwhile is not missed.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.links.changed.notified()
    }

    /// What to do now.
    pub(super) fn turn(&self) -> Turn {
        let mut state = self.links.state.lock();
        if let Some(lease) = state.free(&self.links) {
            return Turn::Lease(lease);
        }
        if state.links.len() + state.openings >= MOST_LINKS
            && let Some(lease) = state.crowded(&self.links)
        {
            return Turn::Lease(lease);
        }
        if state.failures != self.failures
            && state.openings == 0
            && let Some(failed) = &state.last_failure
        {
            return Turn::Failed(failed.clone());
        }
        if state.waiting < state.openings.saturating_mul(state.usual) {
            state.waiting += 1;
            return Turn::Wait(Waiting(Arc::clone(&self.links)));
        }
        state.openings += 1;
        Turn::Open(Opening(Arc::clone(&self.links)))
    }
}

// === impl Opening ===

impl Opening {
    /// It is open, and has a stream for the call that opened it.
    pub(super) fn opened(self, link: Link, term: Term) -> Lease {
        let link = Arc::new(link);
        let lease = Lease::on(&link, &self.0);
        let mut state = self.0.state.lock();
        state.usual = link.most().max(1);
        state.links.push(Idle::new((link, term)));
        drop(state);
        lease
    }

    /// It cannot be opened. Those that wait for it fail, too: each would have to wait as long again.
    pub(super) fn failed(self, failed: &Failed) {
        let mut state = self.0.state.lock();
        state.failures += 1;
        state.last_failure = Some(failed.clone());
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.state.lock().openings -= 1;
        self.0.changed.notify_waiters();
    }
}

// === impl Waiting ===

impl Waiting {
    /// Waits for a change.
    pub(super) async fn for_change(self, changed: Pin<&mut Notified<'_>>) {
        changed.await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

// === impl Lease ===

impl Lease {
    fn on(link: &Arc<Link>, links: &Arc<Links>) -> Self {
        link.begin();
        Self {
            link: Arc::clone(link),
            links: Arc::clone(links),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.end();
        self.links.changed.notify_waiters();
    }
}
