//! How long a key lives, on the command line: `90d`, `36h`, or a time of RFC 3339.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// At this time.
    Until(Timestamp),
    /// After this time.
    For(SignedDuration),
}

/// A text is no lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "write a number of days or hours such as 90d or 36h, or a time such as 2027-01-31T00:00:00Z"
)]
pub struct InvalidLifetime;

/// The key would never be good, or its end cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key would expire before it is made, or beyond the year 9999")]
pub struct Unusable;

impl Lifetime {
    /// When a key that is made `now` expires, in whole seconds.
    ///
    /// # Errors
    /// That is not after `now`, or beyond the calendar.
    pub fn end(self, now: Timestamp) -> Result<Timestamp, Unusable> {
        let end = match self {
            Self::Until(end) => end,
            Self::For(span) => now.checked_add(span).map_err(|_beyond| Unusable)?,
        };
        let end = Timestamp::from_second(end.as_second()).map_err(|_beyond| Unusable)?;
        if end > now { Ok(end) } else { Err(Unusable) }
    }
}

impl FromStr for Lifetime {
    type Err = InvalidLifetime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(time) = text.parse() {
            return Ok(Self::Until(time));
        }
        let hours = |number: &str, each: i64| {
            let is_number = number.bytes().all(|c| c.is_ascii_digit());
            let number = is_number.then(|| number.parse::<u32>().ok()).flatten()?;
            Some(SignedDuration::from_hours(i64::from(number) * each))
        };
        let days = text.strip_suffix('d').and_then(|days| hours(days, 24));
        days.or_else(|| text.strip_suffix('h').and_then(|some| hours(some, 1)))
            .map(Self::For)
            .ok_or(InvalidLifetime)
    }
}

#[cfg(test)]
mod tests;
