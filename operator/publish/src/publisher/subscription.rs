//! One follower of the table: it is told of the newest one, however many it missed while it was busy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proxy_admin::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Publisher;

/// Holds a replica in the fleet until it is dropped. Nothing is queued for it: a line is made when
/// the one before has been taken, so a slow reader costs one line.
pub(crate) struct Subscription {
    publisher: Publisher,
    follower: Follower,
    changes: watch::Receiver<u64>,
    shutdown: Shutdown,
    heartbeat: Duration,
    ends: Instant,
    /// Digest of the table that the follower has.
    has: Option<Arc<str>>,
    /// When the last line was given, and the publication and the number of replicas it told of.
    told: Option<(Instant, (u64, u64))>,
    /// Which version of what is carried it was told.
    told_carried: Option<u64>,
}

/// Who follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// The identity to count; nobody is counted without one.
    pub(crate) replica: Option<String>,
    /// Which life of it. Who tells this knows what a `carried` line is.
    pub(crate) instance: Option<String>,
    /// Digest of the table that it has.
    pub(crate) have: Option<String>,
}

impl Subscription {
    /// `life` bounds the subscription, so that the follower's credential is looked at again.
    pub(crate) fn new(
        publisher: &Publisher,
        follower: Follower,
        (heartbeat, life): (Duration, Duration),
        shutdown: Shutdown,
    ) -> Self {
        publisher.join(&follower);
        publisher.0.metrics.subscribers.inc();
        Self {
            changes: publisher.0.changes.subscribe(),
            publisher: publisher.clone(),
            shutdown,
            heartbeat,
            ends: Instant::now() + life,
            has: follower.have.as_deref().map(Arc::from),
            follower,
            told: None,
            told_carried: None,
        }
    }

    /// The next line; `None` when the follower should come again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.borrow_and_update();
            if let Some(line) = self.due() {
                return Some(line);
            }
            let beat = self.told.map_or(self.ends, |(at, _)| at + self.heartbeat);
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(beat) => {}
                () = sleep_until(self.ends) => return None,
                () = self.shutdown.requested() => return None,
            }
        }
    }

    /// The line that is to be sent now, if any.
    fn due(&mut self) -> Option<Bytes> {
        let mut state = self.publisher.0.state.lock();
        let newest = Arc::clone(&state.kept.back()?.digest);
        // Before everything else: a table must not be in force without what belongs to it.
        let carried = state.carries.version;
        if self.follower.instance.is_some() && self.told_carried != Some(carried) {
            self.told_carried = Some(carried);
            return state.carries.line();
        }
        let now = Instant::now();
        let news = (state.newest_sequence(), state.members.count());
        let line = if self.has.as_ref() == Some(&newest) {
            let quiet = self
                .told
                .is_some_and(|(at, told)| now < at + self.heartbeat && told == news);
            if quiet {
                return None;
            }
            state.heartbeat()?
        } else {
            state.leading(self.has.as_ref())?
        };
        drop(state);
        self.has = Some(newest);
        self.told = Some((now, news));
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
