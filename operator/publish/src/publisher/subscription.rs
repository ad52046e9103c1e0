//! One follower of the table. It receives the newest one, however many it missed while it was busy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Publisher;
use super::state::Form;

/// Keeps a replica in the fleet until it is dropped. Nothing is queued: a line is made after the
/// one before was taken, so a slow reader costs one line.
pub(crate) struct Subscription {
    publisher: Publisher,
    follower: Follower,
    changes: watch::Receiver<u64>,
    shutdown: Shutdown,
    heartbeat: Duration,
    ends: Instant,
    /// Digest of the table that the follower has.
    has: Option<Arc<str>>,
    /// The time of the last line, and its publication and number of replicas.
    sent: Option<(Instant, (u64, u64))>,
    /// The epoch of the newest table at the last look.
    epoch: u16,
    /// The version of the last carryover that was sent.
    sent_carryover: Option<u64>,
}

/// The other end of a subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// The identity in the fleet; without one the follower is not counted.
    pub(crate) replica: Option<String>,
    /// The process of the replica. A follower that names it understands `carried` lines.
    pub(crate) instance: Option<String>,
    /// Digest of the table that it has.
    pub(crate) have: Option<String>,
    /// What it understands.
    pub(crate) form: Form,
}

impl Subscription {
    /// `life` bounds the subscription, so that the follower has to show its credential again.
    pub(crate) fn new(
        publisher: &Publisher,
        follower: Follower,
        (heartbeat, life): (Duration, Duration),
        shutdown: Shutdown,
    ) -> Self {
        if let Some(replica) = &follower.replica {
            publisher.join(replica, follower.instance.as_deref());
        }
        publisher.0.metrics.subscribers.inc();
        Self {
            changes: publisher.0.changes.subscribe(),
            publisher: publisher.clone(),
            shutdown,
            heartbeat,
            ends: Instant::now() + life,
            has: follower.have.as_deref().map(Arc::from),
            follower,
            sent: None,
            epoch: 0,
            sent_carryover: None,
        }
    }

    /// The next line; `None` when the follower should subscribe again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.borrow_and_update();
            if let Some(line) = self.due() {
                return Some(line);
            }
            let beat = self.sent.map_or(self.ends, |(at, _)| at + self.heartbeat);
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(beat) => {}
                () = sleep_until(self.ends) => return None,
                () = self.shutdown.requested() => return None,
            }
        }
    }

    /// The line to send now, if any.
    fn due(&mut self) -> Option<Bytes> {
        let mut state = self.publisher.0.state.lock();
        let form = self.follower.form;
        let newest = Arc::clone(state.kept.back()?.digest(form.by_shards));
        // First: a table must not be in force without its carryover.
        let carryover = state.carryover.version;
        if self.follower.instance.is_some() && self.sent_carryover != Some(carryover) {
            self.sent_carryover = Some(carryover);
            return state.carryover.line();
        }
        // It may have ignored the tables of the epoch before.
        let epoch = state.epoch();
        if std::mem::replace(&mut self.epoch, epoch) < epoch {
            self.has = None;
        }
        let now = Instant::now();
        let news = (state.newest_sequence(), state.members.count());
        let line = if self.has.as_ref() == Some(&newest) {
            let quiet = self
                .sent
                .is_some_and(|(at, sent)| now < at + self.heartbeat && sent == news);
            if quiet {
                return None;
            }
            state.heartbeat(form.by_shards)?
        } else {
            state.leading(form, self.has.as_ref())?
        };
        drop(state);
        self.has = Some(newest);
        self.sent = Some((now, news));
        Some(line)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(replica) = &self.follower.replica {
            self.publisher.leave(replica);
        }
        self.publisher.0.metrics.subscribers.dec();
    }
}
