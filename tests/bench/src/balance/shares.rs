//! Three endpoints of one tier with different weights, whose calls take differently long.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proxy_core::balance::{Candidate, Turn, choose};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const WEIGHTS: [u32; 3] = [1, 2, 5];
const CALLS: u64 = 40_000;
/// Milliseconds between two calls.
const PAUSE: u64 = 10;

/// The expected and the measured shares, in per cent.
pub(super) fn simulated() -> Vec<(f64, f64)> {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut candidates = WEIGHTS.map(|weight| Candidate {
        priority: 0,
        weight,
        turn: Turn::Usual,
        load: 0,
        first_byte_us: 0,
    });
    let mut calls = [0u32; WEIGHTS.len()];
    let mut ends = BinaryHeap::new();
    for call in 0..CALLS {
        let now = call * PAUSE;
        while let Some(Reverse((end, index))) = ends.peek().copied()
            && end <= now
        {
            ends.pop();
            if let Some(one) = candidates.get_mut::<usize>(index) {
                one.load -= 1;
            }
        }
        let Some(index) = choose(&candidates, rng) else {
            continue;
        };
        if let (Some(one), Some(count)) = (candidates.get_mut(index), calls.get_mut(index)) {
            (one.load, *count) = (one.load + 1, *count + 1);
        }
        ends.push(Reverse((now + rng.random_range(200..2_000), index)));
    }
    let (sum, all) = (WEIGHTS.iter().sum::<u32>(), calls.iter().sum::<u32>());
    let part = |part: u32, of: u32| 100.0 * f64::from(part) / f64::from(of);
    let shares = WEIGHTS.iter().zip(calls);
    shares
        .map(|(weight, count)| (part(*weight, sum), part(count, all)))
        .collect()
}
