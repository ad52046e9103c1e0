//! Calendar periods: start and end of the one that holds a moment, in a time zone.

use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan};

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// Full hours of the wall clock.
    Hour,
    /// Midnight to midnight; 23 or 25 hours when clocks change.
    Day,
    /// Monday to Monday (ISO 8601).
    Week,
    /// The first to the first.
    Month,
}

/// A time zone of the IANA database, which is part of the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// Coordinated Universal Time, the default.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// Finds a zone by its IANA name, such as `Europe/Vienna`; `None` for an unknown name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.is_empty() || name == "UTC" {
            return Some(Self::UTC);
        }
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

/// A span of time, `start` included, `end` not, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// The length of a span that cannot be calculated (year 9999): a limit must hold all the same.
const FALLBACK_MS: i64 = 86_400_000;

impl Period {
    /// The period that holds `unix_ms`.
    pub(super) fn around(self, zone: &TimeZone, unix_ms: i64) -> Span {
        self.exact(zone, unix_ms).unwrap_or_else(|| {
            let start = unix_ms.div_euclid(FALLBACK_MS).saturating_mul(FALLBACK_MS);
            Span {
                start,
                end: start.saturating_add(FALLBACK_MS),
            }
        })
    }

    fn exact(self, zone: &TimeZone, unix_ms: i64) -> Option<Span> {
        let at = Timestamp::from_millisecond(unix_ms)
            .ok()?
            .to_zoned(zone.0.clone());
        if self == Self::Hour {
            // Hours are elapsed time from a full hour of the offset, so the hour that clocks repeat in
            // autumn is two periods, and no period is longer than an hour.
            let offset_ms = i64::from(at.offset().seconds()).checked_mul(1_000)?;
            let local = unix_ms.checked_add(offset_ms)?;
            let start = unix_ms.checked_sub(local.rem_euclid(3_600_000))?;
            return Some(Span {
                start,
                end: start.checked_add(3_600_000)?,
            });
        }
        let today = at.date();
        let (first, next): (Date, Date) = match self {
            Self::Hour | Self::Day => (today, today.checked_add(1.day()).ok()?),
            Self::Week => {
                let since = today.weekday().since(Weekday::Monday);
                let monday = today.checked_sub(i64::from(since).days()).ok()?;
                (monday, monday.checked_add(7.days()).ok()?)
            }
            Self::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        let midnight = |date: Date| {
            date.to_zoned(zone.0.clone())
                .ok()
                .map(|start| start.timestamp().as_millisecond())
        };
        Some(Span {
            start: midnight(first)?,
            end: midnight(next)?,
        })
    }
}
