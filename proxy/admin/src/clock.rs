//! The one place that reads the time; everything inside takes a [`Moment`].

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_core::names::Moment;

/// Where monotonic milliseconds count from. Shared by all threads of the process.
static START: LazyLock<Instant> = LazyLock::new(instant);
/// The wall clock at [`START`], as it was last seen, in milliseconds since the Unix epoch.
static EPOCH: AtomicI64 = AtomicI64::new(0);
/// When the wall clock is read again, in milliseconds since [`START`].
static RENEWAL: AtomicU64 = AtomicU64::new(0);
/// A wall clock that someone sets is followed after at most this long.
const RENEWAL_MS: u64 = 1_000;

/// The present instant, for measuring durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
pub fn instant() -> Instant {
    Instant::now()
}

/// The present moment.
#[must_use]
pub fn now() -> Moment {
    moment(instant())
}

/// The moment of an instant that was read just now. Reads the wall clock once a second.
#[must_use]
pub fn moment(instant: Instant) -> Moment {
    let monotonic_ms = millis(instant.saturating_duration_since(*START));
    // No thread sees the renewal before the epoch that it stands for.
    if monotonic_ms >= RENEWAL.load(Ordering::Acquire) {
        EPOCH.store(wall_clock_at_start(), Ordering::Relaxed);
        RENEWAL.store(monotonic_ms.saturating_add(RENEWAL_MS), Ordering::Release);
    }
    let since_start = i64::try_from(monotonic_ms).unwrap_or(i64::MAX);
    Moment {
        monotonic_ms,
        unix_ms: EPOCH.load(Ordering::Relaxed).saturating_add(since_start),
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn wall_clock_at_start() -> i64 {
    // A wall clock before 1970 is a broken one; expiry dates and calendars then read as 1970.
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let since_start = millis(instant().saturating_duration_since(*START));
    let signed = |millis| i64::try_from(millis).unwrap_or(i64::MAX);
    signed(millis(unix)).saturating_sub(signed(since_start))
}

/// Whole milliseconds. `Duration::as_millis` divides 128 bits.
fn millis(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000);
    whole.saturating_add(duration.subsec_millis().into())
}
