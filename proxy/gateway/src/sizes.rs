//! The observed sizes of requests, by rule and model. They outlive tables, as the counters do: a new
//! table must not make every caller hold the default again.
//!
//! Only answers make entries: a request without an answer leaves none, so that made-up names of models
//! cost no memory and displace no real one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock};
use proxy_core::names::{ObjectName, Usage};
use proxy_core::tokens::{Expected, ObservedSizes, Shape};

#[cfg(test)]
mod tests;

/// Most models of one rule with an entry of their own, since callers choose the names that a pattern
/// matches. Further models share one entry.
const MODELS_PER_RULE: usize = 64;
/// Entries of all rules; one takes about 1.4 KB, of a model that reasons 2.1.
const ENTRIES: usize = 10_000;

/// The sizes of all rules, of the table in force and of those before it.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    rules: Mutex<HashMap<RuleName, Arc<RuleSizes>, RandomState>>,
    /// The number of entries of all rules.
    entries: Arc<AtomicUsize>,
}

/// The identity of a rule from table to table.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RuleName {
    route: ObjectName,
    rule: Arc<str>,
}

/// The sizes of the requests that one rule serves.
#[derive(Debug)]
pub(crate) struct RuleSizes {
    models: RwLock<HashMap<Arc<str>, Box<Mutex<ObservedSizes>>, RandomState>>,
    /// Of all models without an entry of their own; made when the first is needed.
    others: OnceLock<Box<Mutex<ObservedSizes>>>,
    entries: Arc<AtomicUsize>,
}

impl Sizes {
    /// The sizes of a rule; new ones for a new rule. Locks: for the publication of a table only.
    pub(crate) fn rule(&self, route: &ObjectName, rule: &Arc<str>) -> Arc<RuleSizes> {
        let mut rules = self.rules.lock();
        if self.entries.load(Ordering::Relaxed) >= ENTRIES {
            // Rules that are in no table.
            rules.retain(|_, sizes| Arc::strong_count(sizes) > 1);
        }
        let sizes = rules
            .entry(RuleName {
                route: route.clone(),
                rule: Arc::clone(rule),
            })
            .or_insert_with(|| Arc::new(RuleSizes::new(Arc::clone(&self.entries))));
        Arc::clone(sizes)
    }
}

impl RuleSizes {
    fn new(entries: Arc<AtomicUsize>) -> Self {
        Self {
            models: RwLock::default(),
            others: OnceLock::new(),
            entries,
        }
    }

    /// What a request for `model` is expected to need. Two short locks, no allocation.
    pub(crate) fn expected(&self, model: &str) -> Expected {
        match self.models.read().get(model) {
            Some(sizes) => sizes.lock().expected(),
            None => self
                .others
                .get()
                .map_or_else(Expected::default, |sizes| sizes.lock().expected()),
        }
    }

    /// Learns from a request that was answered in full and measured, and took its backend as long.
    pub(crate) fn observe(&self, model: &Arc<str>, shape: Shape, usage: Usage, lasted: Duration) {
        if let Some(sizes) = self.models.read().get(model) {
            sizes.lock().observe(shape, usage, lasted);
            return;
        }
        let mut models = self.models.write();
        // Another core may have made it meanwhile.
        if !models.contains_key(model) && (models.len() >= MODELS_PER_RULE || !self.take_entry()) {
            drop(models);
            let others = self.others.get_or_init(Box::default);
            others.lock().observe(shape, usage, lasted);
            return;
        }
        let sizes = models.entry(Arc::clone(model)).or_default();
        sizes.lock().observe(shape, usage, lasted);
    }

    fn take_entry(&self) -> bool {
        let more = |taken: usize| (taken < ENTRIES).then_some(taken + 1);
        self.entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl Drop for RuleSizes {
    fn drop(&mut self) {
        let models = self.models.get_mut().len();
        self.entries.fetch_sub(models, Ordering::Relaxed);
    }
}
