//! How long a connection has been idle.

use std::time::{Duration, Instant};

/// Idle connections are closed before the front ends of Foundry and of load balancers close them
/// (60 s at the earliest), or a request could meet a connection that is just going away.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// A connection, and when it was first seen idle. It is seen once a second, which is exact enough, and
/// spares a look at the clock for each exchange.
#[derive(Debug)]
pub(super) struct Idle<T> {
    pub(super) connection: T,
    seen: Option<Instant>,
}

impl<T> Idle<T> {
    pub(super) const fn new(connection: T) -> Self {
        Self {
            connection,
            seen: None,
        }
    }

    /// It is in use.
    pub(super) const fn touch(&mut self) {
        self.seen = None;
    }

    /// Whether it was idle for too long.
    pub(super) fn is_old(&mut self, now: Instant) -> bool {
        let seen = *self.seen.get_or_insert(now);
        now.saturating_duration_since(seen) >= IDLE_CONNECTION
    }
}
