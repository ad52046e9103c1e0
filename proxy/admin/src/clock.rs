//! The one place that reads the time; everything inside takes a [`Moment`].

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_core::names::Moment;

/// Where monotonic time counts from. Shared by all threads of the process.
static START: LazyLock<Instant> = LazyLock::new(instant);
/// The wall clock at [`START`], as it was last seen, in microseconds since the Unix epoch.
static EPOCH: AtomicI64 = AtomicI64::new(0);
/// When the wall clock is read again, in microseconds since [`START`].
static RENEWAL: AtomicU64 = AtomicU64::new(0);
/// A wall clock that someone sets is followed after at most this long.
const RENEWAL_MICROS: u64 = 1_000_000;

thread_local! {
    /// The last instant whose moment was asked for: a request asks several times for that of each of its steps.
    static LAST: Cell<Option<(Instant, Moment)>> = const { Cell::new(None) };
}

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
    if let Some((last, moment)) = LAST.get()
        && last == instant
    {
        return moment;
    }
    let monotonic = micros(instant.saturating_duration_since(*START));
    let moment = Moment {
        monotonic_ms: monotonic / 1_000,
        unix_ms: wall(monotonic).div_euclid(1_000),
    };
    LAST.set(Some((instant, moment)));
    moment
}

/// Microseconds since the Unix epoch at an instant that was read just now, for the time stamp of a line.
#[must_use]
pub fn unix_micros(instant: Instant) -> i64 {
    wall(micros(instant.saturating_duration_since(*START)))
}

/// The wall clock at this number of microseconds after [`START`].
fn wall(monotonic: u64) -> i64 {
    // No thread sees the renewal before the epoch that it stands for.
    if monotonic >= RENEWAL.load(Ordering::Acquire) {
        EPOCH.store(wall_at_start(), Ordering::Relaxed);
        RENEWAL.store(monotonic.saturating_add(RENEWAL_MICROS), Ordering::Release);
    }
    EPOCH
        .load(Ordering::Relaxed)
        .saturating_add(signed(monotonic))
}

#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn wall_at_start() -> i64 {
    // A wall clock before 1970 is a broken one; expiry dates and calendars then read as 1970.
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let monotonic = instant().saturating_duration_since(*START);
    signed(micros(unix.unwrap_or_default())).saturating_sub(signed(micros(monotonic)))
}

/// Whole microseconds, without the 128 bits of `Duration::as_micros`.
fn micros(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000);
    whole.saturating_add(duration.subsec_micros().into())
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}
