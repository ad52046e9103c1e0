//! The size of a measurement, and its progress.

use std::time::Instant;

use proxy_admin::clock;

use super::rig::Counters;
use crate::figures::float;
use crate::page::progress;

/// The size of the measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) quick: bool,
    pub(super) rounds: usize,
    pub(super) store: bool,
}

impl Scope {
    pub(super) fn counters(&self) -> Vec<Counters> {
        match self.store {
            true => vec![Counters::Memory, Counters::Store],
            false => vec![Counters::Memory],
        }
    }
}

/// Writes progress to standard error, with the time since the start.
#[derive(Debug)]
pub(super) struct Progress(pub(super) Instant);

impl Progress {
    pub(super) fn tell(&self, text: &str) {
        let elapsed = clock::instant().saturating_duration_since(self.0);
        progress(&format!("[quota {:4} s] {text}", elapsed.as_secs()));
    }
}

/// A part of a limit, to three digits.
pub(super) fn ratio(part: u64, limit: u64) -> String {
    format!("{:.3}", float(part) / float(limit))
}
