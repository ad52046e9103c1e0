//! What a deployment takes before it answers 429, counted as Azure counts.
//!
//! Standard: tokens are charged on arrival, from an estimate, to a counter that restarts each
//! minute, and are never corrected. Requests count on arrival too, refused ones included, so blind
//! retries make it worse. Provisioned: a leaky bucket takes the estimate, is corrected when the
//! answer is done, and drains all the time. Time is an argument.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{clock, config::Capacity, record::Usage};

const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_MS: u64 = 60_000;
/// Input tokens per minute of one provisioned unit, as documented for gpt-4o.
pub(crate) const TOKENS_PER_UNIT: u64 = 2500;
/// Input tokens that one output token weighs in a provisioned deployment, as for gpt-4o.
pub(crate) const OUTPUT_WEIGHT: u64 = 4;

/// Tokens of one request, estimated or real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// The counters of one deployment.
#[derive(Debug)]
pub(crate) struct Meter {
    capacity: Capacity,
    request_window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tokens: Window,
    requests: Window,
    bucket: Bucket,
}

/// A counter that restarts when its span is over; the span starts with a request.
#[derive(Debug, Default)]
struct Window {
    started: Option<Duration>,
    used: u64,
}

/// Weighted tokens times [`MINUTE_MS`], so that a millisecond's drain is a whole number.
#[derive(Debug, Default)]
struct Bucket {
    level: u64,
    at: Duration,
}

/// One line of rate limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
}

/// Where a deployment stands after a request: the source of its headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) tokens: Option<Rate>,
    pub(crate) requests: Option<Rate>,
    /// Tenths of a percent; provisioned only.
    pub(crate) utilization: Option<u64>,
}

/// Which limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Tokens,
    Requests,
    Utilization,
}

/// A request that did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) limit: Limit,
    pub(crate) retry_after: Duration,
    pub(crate) standing: Standing,
}

impl Cost {
    /// What was really consumed. Cached input weighs nothing in a provisioned deployment.
    pub(crate) fn of(usage: Usage) -> Self {
        Self {
            input: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            output: usage.completion_tokens,
        }
    }

    fn weighted(self) -> u64 {
        let tokens = self
            .output
            .saturating_mul(OUTPUT_WEIGHT)
            .saturating_add(self.input);
        tokens.saturating_mul(MINUTE_MS)
    }
}

impl Meter {
    pub(crate) fn new(capacity: Capacity, request_window: Duration) -> Self {
        Self {
            capacity,
            request_window,
            state: Mutex::default(),
        }
    }

    /// Charges a request on its arrival.
    pub(crate) fn charge(&self, now: Duration, cost: Cost) -> Result<Standing, Refusal> {
        match self.capacity {
            Capacity::Unlimited => Ok(Standing::default()),
            Capacity::Standard { tokens, requests } => {
                self.charge_windows(now, cost, tokens, requests)
            }
            Capacity::Provisioned { units } => {
                let mut state = self.state.lock();
                state
                    .bucket
                    .charge(now, cost, units.saturating_mul(TOKENS_PER_UNIT))
            }
        }
    }

    /// Puts what was produced in the place of what was estimated. Standard deployments never do.
    pub(crate) fn settle(&self, now: Duration, estimated: Cost, actual: Cost) {
        if let Capacity::Provisioned { units } = self.capacity {
            let mut state = self.state.lock();
            state
                .bucket
                .drain(now, units.saturating_mul(TOKENS_PER_UNIT));
            let level = state.bucket.level.saturating_add(actual.weighted());
            state.bucket.level = level.saturating_sub(estimated.weighted());
        }
    }

    fn charge_windows(
        &self,
        now: Duration,
        cost: Cost,
        tokens: Option<u64>,
        requests: Option<u64>,
    ) -> Result<Standing, Refusal> {
        let mut state = self.state.lock();
        state.tokens.roll(now, MINUTE);
        state.requests.roll(now, self.request_window);
        // A shorter span than a minute takes its share of the minute, and at least one request.
        let share = |limit: u64| {
            (limit.saturating_mul(clock::millis(self.request_window)) / MINUTE_MS).max(1)
        };
        let has_request = requests.is_none_or(|limit| state.requests.used < share(limit));
        state.requests.used = state.requests.used.saturating_add(1);
        let sum = cost.input.saturating_add(cost.output);
        let after = state.tokens.used.saturating_add(sum);
        let has_tokens = tokens.is_none_or(|limit| after <= limit);
        if has_request && has_tokens {
            state.tokens.used = after;
        }
        let token_reset = state.tokens.reset(now, MINUTE);
        let request_reset = state.requests.reset(now, self.request_window);
        let standing = Standing {
            tokens: tokens.map(|limit| Rate {
                limit,
                remaining: limit.saturating_sub(state.tokens.used),
                reset: token_reset,
            }),
            requests: requests.map(|limit| Rate {
                limit,
                remaining: share(limit).saturating_sub(state.requests.used),
                reset: request_reset,
            }),
            utilization: None,
        };
        drop(state);
        if !has_request {
            Err(Refusal {
                limit: Limit::Requests,
                retry_after: request_reset,
                standing,
            })
        } else if !has_tokens {
            Err(Refusal {
                limit: Limit::Tokens,
                retry_after: token_reset,
                standing,
            })
        } else {
            Ok(standing)
        }
    }
}

impl Window {
    fn roll(&mut self, now: Duration, span: Duration) {
        let over = self
            .started
            .is_none_or(|started| now.saturating_sub(started) >= span);
        if over {
            *self = Self {
                started: Some(now),
                used: 0,
            };
        }
    }

    fn reset(&self, now: Duration, span: Duration) -> Duration {
        let started = self.started.unwrap_or(now);
        started.saturating_add(span).saturating_sub(now)
    }
}

impl Bucket {
    fn drain(&mut self, now: Duration, rate: u64) {
        let elapsed = clock::millis(now.saturating_sub(self.at));
        self.level = self.level.saturating_sub(rate.saturating_mul(elapsed));
        // Part of a millisecond is kept for the next call.
        self.at = self.at.saturating_add(Duration::from_millis(elapsed));
    }

    /// Full is one minute of the deployment's rate.
    fn charge(&mut self, now: Duration, cost: Cost, rate: u64) -> Result<Standing, Refusal> {
        self.drain(now, rate);
        let full = rate.saturating_mul(MINUTE_MS);
        let standing = |level: u64| {
            let tenths = u128::from(level) * 1000 / u128::from(full.max(1));
            let utilization = Some(u64::try_from(tenths).unwrap_or(u64::MAX));
            Standing {
                utilization,
                ..Standing::default()
            }
        };
        if self.level > full {
            let wait = (self.level - full) / rate.max(1) + 1;
            return Err(Refusal {
                limit: Limit::Utilization,
                retry_after: Duration::from_millis(wait),
                standing: standing(self.level),
            });
        }
        self.level = self.level.saturating_add(cost.weighted());
        Ok(standing(self.level))
    }
}

#[cfg(test)]
mod tests;
