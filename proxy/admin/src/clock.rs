//! The one place that reads the time; everything inside takes a [`Moment`].

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proxy_core::names::Moment;

/// Where monotonic milliseconds count from. Shared by all threads of the process.
static START: LazyLock<Instant> = LazyLock::new(instant);

/// The present instant, for measuring durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
pub fn instant() -> Instant {
    Instant::now()
}

/// The present moment. Two clock reads, about 50 ns.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
pub fn now() -> Moment {
    let monotonic = instant().saturating_duration_since(*START);
    // A wall clock before 1970 is a broken one; expiry dates and calendars then read as 1970.
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment {
        monotonic_ms: u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX),
        unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
    }
}
