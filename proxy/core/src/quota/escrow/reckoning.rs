//! How the shared store is to count a window.

use super::super::Window;
use super::super::ring::{MINUTE_BUCKETS, SECOND_BUCKETS};

/// How the store counts a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reckoning {
    /// A ring of sub-buckets by the store's clock.
    Rolling {
        /// Length of a sub-bucket in milliseconds.
        tau_ms: u64,
        /// How many hold the limit together: K + 2.
        buckets: u64,
        /// The most of them that a grant may last.
        reach: u64,
    },
    /// One of these periods, from a start to before an end: the one that holds the store's time.
    Calendar {
        /// How long a grant may be spent, in milliseconds.
        lease_ms: u64,
        /// In milliseconds since the Unix epoch: the present one first.
        periods: Vec<(i64, i64)>,
    },
    /// What each replica holds, for so long without a word.
    Places {
        /// In milliseconds.
        lease_ms: u64,
    },
}

impl Window {
    /// How long a grant may be spent: a sub-bucket of a rolling window. A calendar period needs no
    /// such bound; there it is how soon a replica gives back what it does not use. A place is held
    /// this long without a word.
    #[must_use]
    pub const fn lease_ms(&self) -> u64 {
        match self {
            Self::Second => 100,
            Self::Minute => 1_000,
            Self::Calendar(..) => 5_000,
            Self::Held => 30_000,
        }
    }

    /// How many leases a grant may last while less than half of the limit is charged: for a second
    /// more than one, so that a replica need not ask ten times a second.
    #[must_use]
    pub const fn reach(&self) -> u64 {
        match self {
            Self::Second => 5,
            Self::Minute | Self::Calendar(..) | Self::Held => 1,
        }
    }

    /// How the store is to count; `unix_ms` is about its time, and may be wrong by a period.
    #[must_use]
    pub fn reckoning(&self, unix_ms: i64) -> Reckoning {
        let rolling = |count: u64| Reckoning::Rolling {
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
                Reckoning::Calendar {
                    lease_ms: self.lease_ms(),
                    periods: periods.to_vec(),
                }
            }
            Self::Held => Reckoning::Places {
                lease_ms: self.lease_ms(),
            },
        }
    }
}
