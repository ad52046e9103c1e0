//! The span over which a limit counts, here and in the shared store.

use std::fmt;

use super::calendar::{Period, TimeZone};
use super::ring::{MINUTE_BUCKETS, SECOND_BUCKETS};

/// The span over which a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Any second: rolling, ten sub-buckets.
    Second,
    /// Any minute: rolling, sixty sub-buckets.
    Minute,
    /// A calendar period in a time zone.
    Calendar(Period, TimeZone),
    /// No span: what is held at one time (`Concurrency`).
    Held,
}

/// How the shared store counts a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreWindow {
    /// A ring of sub-buckets by the store's clock.
    Rolling {
        /// Length of a sub-bucket in milliseconds.
        tau_ms: u64,
        /// Sub-buckets that together stay within the limit: K + 2.
        buckets: u64,
        /// The most sub-buckets that a grant may last.
        reach: u64,
    },
    /// The one of these periods that holds the store's time.
    Calendar {
        /// How long a grant may be spent, in milliseconds.
        lease_ms: u64,
        /// Start, included, and end, excluded, in milliseconds since the Unix epoch; the present one
        /// first.
        periods: Vec<(i64, i64)>,
    },
    /// The permits of each replica.
    Permits {
        /// How long a replica keeps them without a report, in milliseconds.
        lease_ms: u64,
    },
}

impl Window {
    /// How long a grant may be spent. In a rolling window this is a sub-bucket. A calendar period
    /// needs no such bound; there it is how soon a replica returns what it does not use. A replica
    /// keeps a permit this long without a report.
    #[must_use]
    pub const fn lease_ms(&self) -> u64 {
        match self {
            Self::Second => 100,
            Self::Minute => 1_000,
            Self::Calendar(..) => 5_000,
            Self::Held => 30_000,
        }
    }

    /// How many leases a grant may last while less than half of the limit is charged. More than one
    /// for a second, so that a replica need not call the store ten times a second.
    #[must_use]
    pub const fn reach(&self) -> u64 {
        match self {
            Self::Second => 5,
            Self::Minute | Self::Calendar(..) | Self::Held => 1,
        }
    }

    /// How the store counts this window. `unix_ms` approximates its time, and may be wrong by a period.
    #[must_use]
    pub fn in_store(&self, unix_ms: i64) -> StoreWindow {
        let rolling = |count: u64| StoreWindow::Rolling {
            tau_ms: self.lease_ms(),
            buckets: count.saturating_add(2),
            reach: self.reach(),
        };
        match self {
            Self::Second => rolling(SECOND_BUCKETS),
            Self::Minute => rolling(MINUTE_BUCKETS),
            Self::Calendar(period, zone) => {
                let now = period.around(zone, unix_ms);
                let before = period.around(zone, now.start.saturating_sub(1));
                let after = period.around(zone, now.end);
                let periods = [now, before, after].map(|span| (span.start, span.end));
                StoreWindow::Calendar {
                    lease_ms: self.lease_ms(),
                    periods: periods.to_vec(),
                }
            }
            Self::Held => StoreWindow::Permits {
                lease_ms: self.lease_ms(),
            },
        }
    }
}

impl fmt::Display for Window {
    /// The words of the object, with the time zone unless that is UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (period, zone) = match self {
            Self::Second => return f.write_str("Second"),
            Self::Minute => return f.write_str("Minute"),
            Self::Held => return f.write_str("Held"),
            Self::Calendar(period, zone) => (period, zone.name()),
        };
        f.write_str(match period {
            Period::Hour => "Hour",
            Period::Day => "Day",
            Period::Week => "Week",
            Period::Month => "Month",
        })?;
        if zone == "UTC" {
            return Ok(());
        }
        write!(f, " {zone}")
    }
}
