//! What may come of a try that another endpoint can mend, and how long a throttled backend asks to wait.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use proxy_core::balance::OutReason;
use proxy_core::names::{Code, Moment};
use proxy_core::table::Retry;

use crate::upstream::Failure;

#[cfg(test)]
mod tests;

/// A longer wait is no wait, but a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// Why a try has no answer for the client, if another endpoint has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// 429.
    Throttled,
    /// 5xx, 408, 421 or 424.
    ServerError,
    /// Without an answer.
    Failed(Failure),
    /// No such deployment, or a retired model.
    NotThere,
    /// An item of the request was sealed by another resource.
    Sealed,
}

// === impl Trouble ===

impl Trouble {
    /// Whether a rule wants another try then.
    pub(crate) const fn is_retried(self, retry: Retry) -> bool {
        match self {
            Self::Throttled => retry.on_too_many_requests,
            Self::ServerError | Self::Failed(Failure::Stray) => retry.on_server_error,
            Self::Failed(Failure::Unreachable | Failure::BrokeOff) => retry.on_connect_failure,
            Self::Failed(Failure::Timeout) => retry.on_timeout,
            Self::Failed(Failure::NoToken | Failure::Refused) => retry.on_credential_refused,
            Self::Failed(Failure::OutOfReach) => true,
            Self::Failed(Failure::Local) => false,
            Self::NotThere => retry.on_not_there,
            // Which resource has sealed it, only the resources know.
            Self::Sealed => true,
        }
    }

    /// Whether the backend may have worked on the request: such tries are limited.
    pub(crate) const fn was_worked_on(self) -> bool {
        match self {
            Self::ServerError
            | Self::Failed(Failure::BrokeOff | Failure::Timeout | Failure::Stray) => true,
            Self::Throttled
            | Self::NotThere
            | Self::Sealed
            | Self::Failed(
                Failure::Unreachable
                | Failure::Local
                | Failure::NoToken
                | Failure::Refused
                | Failure::OutOfReach,
            ) => false,
        }
    }

    /// Whether it lasts until a person mends it.
    pub(crate) const fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::NotThere
                | Self::Failed(Failure::NoToken | Failure::Refused | Failure::OutOfReach)
        )
    }

    /// What the gateway answers if all endpoints are in this trouble.
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Throttled => Code::BackendThrottled,
            Self::ServerError => Code::NoBackend,
            Self::Failed(how) => how.code(),
            Self::NotThere => Code::ModelNotFound,
            Self::Sealed => Code::InvalidEncryptedContent,
        }
    }

    /// The word of it in metrics and in the log.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::ServerError => "upstream_error",
            Self::Throttled | Self::Failed(_) | Self::NotThere | Self::Sealed => {
                self.code().as_str()
            }
        }
    }
}

impl From<OutReason> for Trouble {
    fn from(reason: OutReason) -> Self {
        match reason {
            OutReason::Throttled => Self::Throttled,
            OutReason::Failing => Self::ServerError,
            OutReason::Silent => Self::Failed(Failure::Timeout),
            OutReason::CredentialRefused => Self::Failed(Failure::Refused),
            OutReason::NotThere => Self::NotThere,
            OutReason::OutOfReach => Self::Failed(Failure::OutOfReach),
        }
    }
}

/// The wait that a throttled backend asks for, in each of the forms that Foundry and others have.
pub(crate) fn named_wait(headers: &HeaderMap, now: Moment) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = |name: &str| text(name)?.parse::<f64>().ok().and_then(seconds_of(0.001));
    let found = millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| text("retry-after").and_then(|text| seconds_or_date(text, now)))
        .or_else(|| {
            // Only what is used up says when to come again.
            let resets = ["requests", "tokens"].into_iter().filter(|unit| {
                text(&format!("x-ratelimit-remaining-{unit}")).is_some_and(|left| left == "0")
            });
            let resets = resets.filter_map(|unit| text(&format!("x-ratelimit-reset-{unit}")));
            resets.filter_map(seconds_or_units).max()
        });
    // A wait of nothing, and a date that has passed, say nothing.
    let found = found.filter(|wait| !wait.is_zero());
    found.map(|wait| wait.clamp(Duration::from_millis(1), LONGEST_WAIT))
}

fn seconds_of(unit: f64) -> impl Fn(f64) -> Option<Duration> {
    move |number| Duration::try_from_secs_f64(number * unit).ok()
}

/// `5`, `0.5`, or `Fri, 27 Nov 2026 12:00:00 GMT`.
fn seconds_or_date(text: &str, now: Moment) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds_of(1.0)(number);
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let now = Duration::from_millis(u64::try_from(now.unix_ms).ok()?);
    Some(date.duration_since(UNIX_EPOCH + now).unwrap_or_default())
}

/// `5`, `0.5`, `20ms`, or `6m0s` as the units of OpenAI's own API are.
fn seconds_or_units(text: &str) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds_of(1.0)(number);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let end = tail.find(|one: char| !one.is_ascii_alphabetic());
        let (unit, tail) = tail.split_at_checked(end.unwrap_or(tail.len()))?;
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = seconds_of(unit)(number.parse().ok()?)?;
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    Some(sum)
}
