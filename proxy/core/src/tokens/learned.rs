//! What requests without a bound of their own turned out to be, so that the next one holds no more
//! than it needs: a guess of 512 tokens starves callers whose answers have 16.
//!
//! Refuses to be a mean: half of all requests would be held at too little. Words: a
//! [`Distribution`] counts values, [`Learned`] keeps two of them for one kind of request.

use super::{Expected, Shape};
use crate::names::Usage;

#[cfg(test)]
mod tests;

/// Steps of one octave (as in HDR histograms: exact below 16, then within a sixteenth). A hold is
/// the upper end of a step, so at most 6 % above the quantile.
const STEPS: usize = 16;
const STEP_BITS: u32 = 4;
/// No request has more tokens than this (16.8 million); larger values count as this one.
const LARGEST: u64 = (1 << 24) - 1;
/// The first octave holds 0..16, each of the 20 others doubles.
const BUCKETS: usize = STEPS * 21;
/// After so many observations all counts are halved: after five times as many, what was is 3 %.
const HALVE_EVERY: u16 = 1_000;

/// Requests in a hundred that hold enough; the others overspend, which is charged as debt.
const QUANTILE_PER_MILLE: u32 = 950;
/// Below so many observations a 95th percentile is only their largest.
const ENOUGH: u32 = 20;
/// Input tokens per thousand bytes: below lies only what is no text (images in base64), above only
/// bodies without any.
const PER_MILLE: std::ops::RangeInclusive<u64> = 50..=1_000;

/// Counts of values in logarithmic buckets, older ones with less weight. Fixed size (680 bytes),
/// no clock: the same observations in the same order always give the same answer.
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

    /// The weight of what was observed: the number of values, until the first are forgotten.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// The smallest known bound that `per_mille` of a thousand values do not exceed; none without
    /// values. Not below the exact quantile, and not above it by more than a sixteenth.
    #[must_use]
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        let rank = u64::from(self.total).saturating_mul(u64::from(per_mille.min(1_000)));
        let rank = rank.div_ceil(1_000).max(1);
        let mut seen = 0;
        // By octaves first: the sum of sixteen counts is one instruction or two.
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
    // The leading bit is the octave's, the four after it are the step.
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

/// What was learned of one kind of request: those of one model on one rule.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    output: Distribution,
    per_mille: Distribution,
    expected: Expected,
}

impl Learned {
    /// Counts a request that was answered in full and measured by its provider.
    ///
    /// Its output says something only if the client set no bound: what a bound cut off is unknown.
    pub fn observe(&mut self, shape: Shape, usage: Usage) {
        if shape.max_output_tokens.is_none() {
            let choices = shape.choices.max(1);
            self.output.observe(usage.output_tokens.div_ceil(choices));
            self.expected.output_tokens = known(&self.output).map(|tokens| tokens.max(1));
        }
        let thousandfold = usage.input_tokens.saturating_mul(1_000);
        if thousandfold > 0 && shape.body_bytes > 0 {
            let ratio = thousandfold.div_ceil(shape.body_bytes);
            self.per_mille.observe(ratio);
            self.expected.input_per_mille =
                known(&self.per_mille).map(|n| n.clamp(*PER_MILLE.start(), *PER_MILLE.end()));
        }
    }

    /// What to expect of the next request.
    #[must_use]
    pub const fn expected(&self) -> Expected {
        self.expected
    }
}

fn known(distribution: &Distribution) -> Option<u64> {
    (distribution.total() >= ENOUGH)
        .then(|| distribution.quantile(QUANTILE_PER_MILLE))
        .flatten()
}
