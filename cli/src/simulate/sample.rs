//! The usual request of a consumer for a model. It stands in for requests that were refused in the
//! log, whose usage is unknown.

use std::collections::HashMap;
use std::sync::Arc;

use proxy_core::names::Usage;

use crate::access_log::Record;

/// Requests kept per consumer and model: the median is exact up to this number, and that of an evenly
/// spaced sample beyond. Even, so that halving keeps the spacing.
const KEPT: usize = 512;

/// A usual request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    pub(super) usage: Usage,
    pub(super) held: Option<Usage>,
    pub(super) lasted_us: i64,
}

/// Usual requests by consumer and model.
#[derive(Debug, Default)]
pub(super) struct Samples {
    by_pair: HashMap<(Arc<str>, Arc<str>), Sample>,
}

#[derive(Debug)]
struct Sample {
    kept: Vec<Usual>,
    /// One of this many is kept.
    every: u64,
    seen: u64,
}

impl Samples {
    /// Adds a request that was answered.
    pub(super) fn add(&mut self, record: &Record) {
        let (Some(consumer), Some(model)) = (&record.consumer, &record.model) else {
            return;
        };
        let key = (Arc::clone(consumer), Arc::clone(model));
        self.by_pair.entry(key).or_default().add(Usual {
            usage: record.usage,
            held: record.held,
            lasted_us: record.end_us.saturating_sub(record.start_us),
        });
    }

    /// Sorts the samples; [`Samples::median`] needs it.
    pub(super) fn sort(&mut self) {
        for sample in self.by_pair.values_mut() {
            sample
                .kept
                .sort_by_key(|usual| (usual.usage.total_tokens(), usual.lasted_us));
        }
    }

    /// The request of `consumer` for `model` with the median number of tokens; of two the smaller.
    pub(super) fn median(&self, consumer: &Arc<str>, model: &Arc<str>) -> Option<Usual> {
        let key = (Arc::clone(consumer), Arc::clone(model));
        let kept = &self.by_pair.get(&key)?.kept;
        kept.get(kept.len().saturating_sub(1) / 2).copied()
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            every: 1,
            seen: 0,
        }
    }
}

impl Sample {
    fn add(&mut self, usual: Usual) {
        if self.seen.is_multiple_of(self.every) {
            if self.kept.len() == KEPT {
                let mut index = 0_usize;
                self.kept.retain(|_| {
                    index = index.saturating_add(1);
                    !index.is_multiple_of(2)
                });
                self.every = self.every.saturating_mul(2);
            }
            if self.seen.is_multiple_of(self.every) {
                self.kept.push(usual);
            }
        }
        self.seen = self.seen.saturating_add(1);
    }
}
