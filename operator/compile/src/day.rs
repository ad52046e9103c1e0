//! Days in UTC. The clock is the caller's.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

// === impl Day ===

impl Day {
    /// The day of a Unix time; the first one of the epoch if the time is out of range.
    #[must_use]
    pub fn at(unix_ms: i64) -> Self {
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or_default();
        Self(time.to_zoned(TimeZone::UTC).date())
    }

    /// Reads `2027-10-01`. `None` if this is no day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let day: Date = text.parse().ok()?;
        // Other forms of ISO 8601 are none of RFC 3339.
        (day.to_string() == text).then_some(Self(day))
    }

    /// The days from this one to `later`; negative if that is earlier.
    #[must_use]
    pub fn until(self, later: Self) -> i64 {
        let days = self.0.until(later.0).map(|span| span.get_days());
        // Unreachable error: both are days that the library knows.
        days.map_or(i64::MAX, i64::from)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
