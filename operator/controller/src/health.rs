//! Which kinds are watched at present, for `/readyz` and the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use operator_compile::Kind;
use parking_lot::Mutex;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// The kinds whose watches fail, each since when. Cheap to clone: every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<Kind, Instant>>>);

// === impl Health ===

impl Health {
    /// What `/readyz` says.
    #[must_use]
    pub fn text(&self) -> String {
        let failing = self.0.lock();
        if failing.is_empty() {
            return "every kind is watched".to_owned();
        }
        let each = failing.iter().map(|(kind, since)| {
            let seconds = since.elapsed().as_secs();
            format!("{kind} has not been watched for {seconds} s, its objects may have changed")
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// A watch has failed; true if it is the first time since it worked.
    pub(crate) fn failed(&self, kind: Kind) -> bool {
        let mut failing = self.0.lock();
        let before = failing.len();
        failing.entry(kind).or_insert_with(Instant::now);
        before != failing.len()
    }

    /// A watch works; true if it had failed.
    pub(crate) fn works(&self, kind: Kind) -> bool {
        self.0.lock().remove(&kind).is_some()
    }
}
