//! The one place where the simulator reads time.

use std::time::Duration;

use tokio::time::Instant;

/// Time since the simulator started, and the calendar time of that start.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator's edge to the calendar"
    )]
    pub(crate) fn start() -> Self {
        let started_unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_unix,
        }
    }

    /// Monotonic time since the start: what limits count in.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Calendar time of a moment, as time since 1970.
    pub(crate) fn unix(&self, now: Duration) -> Duration {
        self.started_unix.saturating_add(now)
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds, rounded up, so that a caller that waits that long does not come too early.
pub(crate) fn seconds_up(duration: Duration) -> u64 {
    millis(duration).div_ceil(1000)
}
