//! Durations as Gateway API writes them (GEP-2257): `30s`, `1m30s`, `250ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One to four numbers of one to five digits, each with its unit.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// Four parts of five digits and two letters.
const MAX_LENGTH: usize = 28;
/// A gateway waits for nothing longer than a day.
const MAX: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A span of time, more than zero and at most 24 hours, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// A text that isn't a [`Duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDuration {
    /// It isn't one to four numbers with the units h, m, s or ms.
    Syntax,
    /// It is zero, or more than 24 hours.
    Range,
}

// === impl Duration ===

impl Duration {
    /// A duration of whole seconds, for defaults.
    ///
    /// # Panics
    /// At compile time, if used in a constant that is out of range.
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        assert!(
            seconds > 0 && seconds <= MAX.as_secs(),
            "a duration is more than 0s, at most 24h"
        );
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The same span as the standard library's type.
    pub const fn as_std(self) -> std::time::Duration {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl TryFrom<std::time::Duration> for Duration {
    type Error = InvalidDuration;

    /// Truncates to milliseconds, the resolution of the text form.
    fn try_from(value: std::time::Duration) -> Result<Self, InvalidDuration> {
        if value.is_zero() || value > MAX {
            return Err(InvalidDuration::Range);
        }
        let cut = value.subsec_nanos() % 1_000_000;
        let whole = value.saturating_sub(std::time::Duration::from_nanos(u64::from(cut)));
        if whole.is_zero() {
            Err(InvalidDuration::Range)
        } else {
            Ok(Self(whole))
        }
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let mut rest = text;
        let mut total: u64 = 0;
        let mut parts = 0;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or(InvalidDuration::Syntax)?;
            let (digits, tail) = rest.split_at(end);
            if digits.len() > 5 {
                return Err(InvalidDuration::Syntax);
            }
            let number: u64 = digits.parse().map_err(|_empty| InvalidDuration::Syntax)?;
            // `ms` before `m`, or a millisecond would be read as a minute.
            let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
            let (tail, milliseconds) = units
                .into_iter()
                .find_map(|(unit, ms)| tail.strip_prefix(unit).map(|tail| (tail, ms)))
                .ok_or(InvalidDuration::Syntax)?;
            parts += 1;
            total = total.saturating_add(number.saturating_mul(milliseconds));
            rest = tail;
        }
        if parts == 0 || parts > 4 {
            return Err(InvalidDuration::Syntax);
        }
        Self::try_from(std::time::Duration::from_millis(total))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(self.0.subsec_millis()), "ms"),
        ];
        for (number, unit) in parts {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| de::Error::custom(format_args!("duration {text:?}: {error}")))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": "duration(self) > duration('0s') && duration(self) <= duration('24h')",
                "message": "a duration must be more than 0s and at most 24h, for example 30s",
            }],
        })
    }
}

// === impl InvalidDuration ===

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a number with h, m, s or ms, for example 30s or 1m30s",
            Self::Range => "must be more than 0s and at most 24h, for example 30s",
        })
    }
}

impl std::error::Error for InvalidDuration {}

#[cfg(test)]
mod tests;
