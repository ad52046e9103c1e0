//! The sizes of earlier requests without a bound, so that the next one holds no more than it needs: a
//! fixed hold of 512 tokens starves callers whose answers have 16.
//!
//! Refuses to be a mean, which would be too little for half of all requests. Words: a
//! [`Distribution`] counts values, [`ObservedSizes`] keeps two or three of them for one kind of request.

use std::time::Duration;

use super::estimate::{Expected, Shape};
use crate::names::Usage;

#[cfg(test)]
mod tests;

/// Steps of one octave, as in HDR histograms: exact below 16, then within a sixteenth. A hold is the
/// upper end of a step, so at most 6 % above the quantile.
const STEPS: usize = 16;
const STEP_BITS: u32 = 4;
/// No request has more tokens than this (16.8 million); larger values count as this value.
const LARGEST: u64 = (1 << 24) - 1;
/// The first octave holds 0..16, each of the 20 others doubles.
const BUCKETS: usize = STEPS * 21;
/// All counts are halved after this many observations, so that old ones weigh 3 % after five times as
/// many.
const HALVE_EVERY: u16 = 1_000;

/// Of a thousand requests, how many hold enough; the others overspend, which is charged as debt.
const QUANTILE_PER_MILLE: u32 = 950;
/// With fewer observations the 95th percentile would be the largest of them.
const ENOUGH: u32 = 20;
/// Up to this number of values each changes the quantile at once, later every eighth does.
const FEW: u32 = 10 * ENOUGH;
const RARELY: u16 = 8;
/// The longest and the fastest answer are forgotten by this part with each other one: half of it after 700
/// answers, so no burst of short or slow ones hides it.
const FORGOTTEN: u64 = 1_024;
/// The shortest answer that says how fast its model writes: of a shorter one most of the time is the wait for
/// its first token.
const TIMED: u64 = 64;
/// Plausible input tokens per thousand bytes: values below are not text (images in base64), and only
/// bodies without text are above.
const PER_MILLE: std::ops::RangeInclusive<u64> = 50..=1_000;

/// Counts of values in logarithmic buckets; older values weigh less. Fixed size (680 bytes) and no
/// clock: the same observations in the same order give the same answer.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: [u16; BUCKETS],
    total: u32,
    since_halving: u16,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            since_halving: 0,
        }
    }
}

impl Distribution {
    /// Counts one value.
    pub fn observe(&mut self, value: u64) {
        if self.since_halving >= HALVE_EVERY {
            self.halve();
        }
        self.since_halving = self.since_halving.saturating_add(1);
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    /// The weight of all observations: their number, until the first halving.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// The smallest known bound that `per_mille` of a thousand values do not exceed; `None` without
    /// values. Never below the exact quantile, and at most a sixteenth above it.
    #[must_use]
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        let rank = u64::from(self.total).saturating_mul(u64::from(per_mille.min(1_000)));
        let rank = rank.div_ceil(1_000).max(1);
        let mut seen = 0;
        // Octaves first: the sum of sixteen counts is one or two instructions.
        for (octave, counts) in self.counts.chunks_exact(STEPS).enumerate() {
            let sum: u64 = counts.iter().copied().map(u64::from).sum();
            if seen + sum < rank {
                seen += sum;
                continue;
            }
            for (step, count) in counts.iter().enumerate() {
                seen += u64::from(*count);
                if seen >= rank {
                    return Some(largest_of(octave, step));
                }
            }
        }
        None
    }

    fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
        self.total = self.counts.iter().copied().map(u32::from).sum();
        self.since_halving = 0;
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min(LARGEST);
    let octave = value.checked_ilog2().unwrap_or(0).max(STEP_BITS - 1) - (STEP_BITS - 1);
    let shift = octave.saturating_sub(1);
    // The leading bit gives the octave, the next four bits the step.
    let step = usize::try_from(value >> shift).unwrap_or(0) % STEPS;
    usize::try_from(octave).unwrap_or(0) * STEPS + step
}

/// The largest value of a bucket.
fn largest_of(octave: usize, step: usize) -> u64 {
    let within = |n: usize| u64::try_from(n).unwrap_or(LARGEST);
    match octave.checked_sub(1) {
        None => within(step),
        Some(shift) => (within(STEPS + step + 1) << shift) - 1,
    }
}

/// The sizes of one kind of request: those for one model on one rule.
#[derive(Clone, Debug, Default)]
pub struct ObservedSizes {
    output: Distribution,
    per_mille: Distribution,
    /// Made by the first answer with reasoning: most models have none.
    reasoning: Option<Box<Distribution>>,
    expected: Expected,
}

impl ObservedSizes {
    /// Counts a request whose answer is complete and whose provider reported its usage.
    ///
    /// Its output counts only if the client set no bound: what a bound cut off is unknown. `lasted` is how long
    /// the backend has worked at it.
    pub fn observe(&mut self, shape: Shape, usage: Usage, lasted: Duration) {
        self.observe_reasoning(shape, usage.reasoning_tokens);
        self.observe_speed(usage.output_tokens.div_ceil(shape.choices.max(1)), lasted);
        if shape.max_output_tokens.is_none() {
            let choices = shape.choices.max(1);
            let output = usage.output_tokens.div_ceil(choices);
            self.output.observe(output);
            self.expected.longest_output = Some(peak(self.expected.longest_output, output));
            if is_due(&self.output) {
                self.expected.output_tokens = known(&self.output).map(|tokens| tokens.max(1));
            }
        }
        let text = usage.input_tokens.saturating_sub(shape.overhead);
        let thousandfold = text.saturating_mul(1_000);
        // Of a prompt with images no one can tell which tokens were text.
        if thousandfold > 0 && shape.body_bytes > 0 && shape.media_tokens == 0 {
            let ratio = thousandfold.div_ceil(shape.body_bytes);
            self.per_mille.observe(ratio);
            if is_due(&self.per_mille) {
                self.expected.input_per_mille =
                    known(&self.per_mille).map(|n| n.clamp(*PER_MILLE.start(), *PER_MILLE.end()));
            }
        }
    }

    fn observe_reasoning(&mut self, shape: Shape, tokens: u64) {
        if tokens == 0 && self.reasoning.is_none() {
            self.expected.reasoning_tokens = Some(0);
            return;
        }
        let reasoning = self.reasoning.get_or_insert_default();
        reasoning.observe(tokens.div_ceil(shape.choices.max(1)));
        // Too much from a few answers rather than too little: see who reads it.
        self.expected.reasoning_tokens = known(reasoning).or_else(|| reasoning.quantile(1_000));
    }

    fn observe_speed(&mut self, tokens: u64, lasted: Duration) {
        if tokens >= TIMED {
            let millis = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
            let speed = tokens.saturating_mul(1_000) / millis.max(1);
            self.expected.tokens_per_second = Some(peak(self.expected.tokens_per_second, speed));
        }
    }

    /// What to expect of the next request.
    #[must_use]
    pub const fn expected(&self) -> Expected {
        self.expected
    }
}

/// The largest of some values, the older ones of which fade.
fn peak(so_far: Option<u64>, value: u64) -> u64 {
    let so_far = so_far.unwrap_or(0);
    let kept = so_far.saturating_sub(so_far.div_ceil(FORGOTTEN));
    value.min(LARGEST).max(kept)
}

/// Whether the quantile is looked for again. Of many values one changes little, and a look costs as much as all
/// else that a request is counted by.
const fn is_due(distribution: &Distribution) -> bool {
    distribution.total() <= FEW || distribution.since_halving.is_multiple_of(RARELY)
}

fn known(distribution: &Distribution) -> Option<u64> {
    (distribution.total() >= ENOUGH)
        .then(|| distribution.quantile(QUANTILE_PER_MILLE))
        .flatten()
}
