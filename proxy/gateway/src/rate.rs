//! The least rate of a body on its way in.

use std::time::{Duration, Instant};

use proxy_core::names::Code;

use crate::answer::Refusal;

#[cfg(test)]
mod tests;

/// In each interval of this length, up to the last one, a body must bring at least [`LEAST`]: 1 KB/s, and
/// none of it on credit for what came before.
const INTERVAL: Duration = Duration::from_secs(10);
const LEAST: usize = 10_000;

/// Whether a body keeps its rate.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the interval began.
    since: Instant,
    /// What it brought.
    bytes: usize,
}

impl Pace {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
        }
    }

    pub(crate) fn end(&self) -> Instant {
        self.since + INTERVAL
    }

    /// For this long nothing was wanted.
    pub(crate) fn pause(&mut self, time: Duration) {
        self.since += time;
    }

    /// Whether an interval is over that brought too little. A good one is followed by another.
    pub(crate) fn is_lost(&mut self, now: Instant) -> bool {
        if now < self.end() {
            return false;
        }
        let is_lost = self.bytes < LEAST;
        *self = Self::new(now);
        is_lost
    }

    /// Takes bytes that arrived, which may be after the end of an interval that brought too little.
    pub(crate) fn is_broken(&mut self, bytes: usize, now: Instant) -> bool {
        let is_lost = self.is_lost(now);
        self.bytes = self.bytes.saturating_add(bytes);
        is_lost
    }
}

pub(crate) fn too_slow() -> Box<Refusal> {
    let message = "the body did not arrive in time";
    Box::new(Refusal::new(Code::RequestTimeout, message).closing())
}
