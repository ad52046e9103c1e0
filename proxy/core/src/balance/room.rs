//! How full an endpoint is, and which class of requests takes how much of what is left.
//!
//! Parts are in thousandths. Nothing here is exact: other proxies call the same endpoint. What it says of itself
//! corrects what was reckoned.

use rand::{Rng, RngExt};

use crate::names::{Class, Moment, Usage};

use super::health::{OutReason, Standing};
use super::turn::Turn;

#[cfg(test)]
mod tests;

/// The whole of anything here.
pub const WHOLE: u32 = 1_000;
/// With this part free or more, each class sends all of its calls.
pub const ROOMY: u32 = 200;
/// The part of its calls that a class without a higher one sends at least: their answers tell when there is room
/// again.
pub const LEAST: u32 = 50;
const MINUTE_MS: u64 = 60_000;

/// How much of an endpoint is used: a bucket that its calls fill and time empties, as Azure counts for provisioned
/// deployments. Full is what it takes in a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Tokens times [`MINUTE_MS`], so that what a millisecond empties is a whole number.
    level: u64,
    at_ms: u64,
}

/// The turn of a class at an endpoint in this standing, of which `free` is free. `has_higher`: requests of a higher class
/// use it too, so that this class gives way, and is not served at their cost where there is no other endpoint.
pub fn turn(
    standing: Standing,
    class: Class,
    has_higher: bool,
    free: u32,
    rng: &mut impl Rng,
) -> Turn {
    let part = part(class, has_higher, free);
    let part = match standing {
        Standing::In => part,
        // The answer to the probe of a higher class decides.
        Standing::Due(OutReason::Throttled) if has_higher => 0,
        Standing::Due(_) => return Turn::Usual,
        Standing::Ramp(share) if rng.random_bool(share.clamp(0.0, 1.0)) => part,
        Standing::Ramp(_) => 0,
        Standing::Out(reason, _) if reason.leaves_hope() => return Turn::Last,
        Standing::Out(..) => return Turn::Never,
    };
    if part == WHOLE || rng.random_range(0..WHOLE) < part {
        Turn::Usual
    } else if has_higher {
        Turn::Yields
    } else {
        Turn::Spare
    }
}

/// The part of its calls that a class sends to an endpoint of which `free` is free.
#[must_use]
pub fn part(class: Class, has_higher: bool, free: u32) -> u32 {
    // All of them above the first, none below the second.
    let (all, none) = match (class, has_higher) {
        (Class::Interactive, _) => (70, 0),
        (Class::Standard | Class::Batch, false) => (100, 0),
        (Class::Standard, true) => (130, 70),
        (Class::Batch, true) => (ROOMY, 130),
    };
    let least = if has_higher { 0 } else { LEAST };
    let part = free.saturating_sub(none).saturating_mul(WHOLE) / (all - none);
    part.clamp(least, WHOLE)
}

/// The part of what an endpoint takes in a minute that `tokens` are, the whole at most.
#[must_use]
pub fn part_of(tokens: u64, rate: u64) -> u32 {
    let part = tokens.saturating_mul(WHOLE.into()) / rate.max(1);
    u32::try_from(part).unwrap_or(WHOLE).min(WHOLE)
}

/// What a call takes of a provisioned deployment, where a token of output weighs `output_weight` tokens of input:
/// what was cached takes nothing.
#[must_use]
pub fn taken(usage: Usage, output_weight: u64) -> u64 {
    let input = usage.input_tokens.saturating_sub(usage.cached_input_tokens);
    let output = usage.output_tokens.saturating_mul(output_weight);
    input.saturating_add(output)
}

// === impl Bucket ===

impl Bucket {
    /// The part that is free, of `capacity` tokens in a minute.
    #[must_use]
    pub fn free(self, capacity: u64, now: Moment) -> u32 {
        let level = self.emptied(capacity, now).level;
        let full = capacity.saturating_mul(MINUTE_MS).max(1);
        let used = u128::from(level).saturating_mul(u128::from(WHOLE)) / u128::from(full);
        WHOLE.saturating_sub(u32::try_from(used).unwrap_or(WHOLE))
    }

    /// A call begins, for `tokens`.
    pub fn takes(&mut self, tokens: u64, capacity: u64, now: Moment) {
        *self = self.emptied(capacity, now);
        self.level = self.level.saturating_add(tokens.saturating_mul(MINUTE_MS));
    }

    /// A call that was reckoned with `before` tokens has taken `tokens`.
    pub fn corrects(&mut self, before: u64, tokens: u64, capacity: u64, now: Moment) {
        self.takes(tokens, capacity, now);
        self.level = self.level.saturating_sub(before.saturating_mul(MINUTE_MS));
    }

    /// The endpoint says that `used` thousandths of it are used.
    pub fn told(&mut self, used: u32, capacity: u64, now: Moment) {
        let full = capacity.saturating_mul(MINUTE_MS);
        let level = u128::from(full).saturating_mul(used.into()) / u128::from(WHOLE);
        self.level = u64::try_from(level).unwrap_or(u64::MAX);
        self.at_ms = now.monotonic_ms;
    }

    fn emptied(self, capacity: u64, now: Moment) -> Self {
        let passed = now.monotonic_ms.saturating_sub(self.at_ms);
        Self {
            level: self.level.saturating_sub(capacity.saturating_mul(passed)),
            at_ms: self.at_ms.max(now.monotonic_ms),
        }
    }
}
