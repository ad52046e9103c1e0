//! The one place that reads the time; everything inside takes a [`Moment`].

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
pub fn now() -> Moment {
    let monotonic = instant().saturating_duration_since(*START);
    Moment {
        monotonic_ms: u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX),
        unix_ms: i64::try_from(unix().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Microseconds since the Unix epoch, for the time stamp of a line.
#[must_use]
pub fn unix_micros() -> i64 {
    i64::try_from(unix().as_micros()).unwrap_or(i64::MAX)
}

/// Time since the Unix epoch. A wall clock before 1970 is a broken one; expiry dates and calendars then
/// read as 1970.
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn unix() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
