//! What replicas tell each other about their counters, through the operators.

use proxy_admin::clock;
use proxy_core::quota::{Carried, CounterReading, StoreState};

use crate::server::Gateway;

impl Gateway {
    /// What this replica has counted, of every limit in force. Waits for no request.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterReading> {
        let shared = self.shared();
        let Some(live) = shared.live() else {
            return Vec::new();
        };
        let now = clock::now();
        let slots = shared.ledger.slots().into_iter();
        slots
            .filter_map(|slot| {
                let live = live.limits.get(&slot.limit)?;
                slot.reading(&live.limit, now)
            })
            .collect()
    }

    /// Whether the shared store of counters answers.
    #[must_use]
    pub fn store_state(&self) -> StoreState {
        self.shared().ledger.store_state()
    }

    /// Takes over what replicas that are gone used of calendar periods: this replica's part of it.
    /// Everything that is carried, each time; what is told twice counts once.
    pub fn carry(&self, carried: Vec<Carried>) {
        self.shared().ledger.carry(carried);
    }
}
