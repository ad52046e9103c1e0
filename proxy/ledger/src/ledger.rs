//! The counters of all limits: which there are, and where one is found.
//!
//! `reserve` takes from them, a [`Charge`] settles what was taken, a [`Slot`] is one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use proxy_admin::clock;
use proxy_core::names::Moment;
use proxy_core::quota::{Carried, Counter, CounterReading, Escrow, LimitName, StoreState};
use proxy_core::table::{FlatLimit, QuotaFacts};
use tracing::warn;

use crate::carryover::Carryover;
use crate::limit::EnforcedLimit;
use crate::metrics::{Metrics, Settlements};
use crate::slot::{Identity, Slot, State};
use crate::store::Store;
use crate::unproved::Unproved;

/// Locks over the map of counters: requests of different subjects rarely meet.
pub(crate) const SHARDS: usize = 16;
/// How often a process that starts looks whether the store lends.
const STORE_POLL: Duration = Duration::from_millis(5);
/// Counters of one shard at which the unused ones are swept out: callers without a Secret can make any
/// number of them. A counter takes about 600 bytes.
pub(crate) const SWEEP_AT: usize = 4096;

/// Counters by limit and subject. They outlive tables, so a changed limit keeps what was used.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) shards: [RwLock<Shard>; SHARDS],
    /// Two independent keyed hashes make the 128 bits that name a counter.
    hashers: [RandomState; 2],
    pub(crate) settlements: Arc<Settlements>,
    pub(crate) carryover: Carryover,
    pub(crate) unproved: Unproved,
    pub(crate) store: Option<Arc<Store>>,
}

/// Whether a counter is new.
pub(crate) struct Made(pub(crate) bool);

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) counters: HashMap<u128, Arc<Slot>, RandomState>,
    /// How many counters there may be before the next sweep.
    sweep_at: usize,
}

impl Ledger {
    /// Counters of this replica alone.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self::with_store(metrics, None)
    }

    /// Counters that a store lends, if there is one.
    pub(crate) fn with_store(metrics: &Metrics, store: Option<Arc<Store>>) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hashers: [RandomState::default(), RandomState::default()],
            settlements: Arc::new(metrics.settlements()),
            carryover: Carryover::default(),
            unproved: Unproved::default(),
            store,
        }
    }

    /// How many replicas share the store, as far as it and the operators know; `None` without one.
    #[must_use]
    pub fn replicas(&self) -> Option<u64> {
        self.store.as_ref().map(|store| store.replicas())
    }

    /// Takes note of the number of replicas that the operators count; false without a store, where
    /// each replica enforces its part.
    pub fn share_among(&self, replicas: u64) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        // Limits stay whole, as long as the store answers.
        store.set_reported_replicas(replicas.max(1));
        true
    }

    /// Waits until the store lends, but not longer than `within`: until then limits do what
    /// `onStoreLoss` says, by a number of replicas that is not known yet.
    pub async fn opened(&self, within: Duration) {
        let Some(store) = &self.store else { return };
        let open = async {
            while !store.is_open() {
                tokio::time::sleep(STORE_POLL).await;
            }
        };
        if tokio::time::timeout(within, open).await.is_err() {
            warn!("serving before the quota store was reached");
        }
    }

    /// What this replica has counted of the limits that `limit` finds. Waits for no request.
    pub fn readings<'a>(
        &self,
        limit: impl Fn(&LimitName) -> Option<&'a Arc<EnforcedLimit>>,
    ) -> Vec<CounterReading> {
        let now = clock::now();
        let slots = self.slots().into_iter();
        slots
            .filter_map(|slot| slot.reading(&slot.enforced(limit(&slot.limit)?), now))
            .collect()
    }

    /// Whether the shared store answers.
    #[must_use]
    pub fn store_state(&self) -> StoreState {
        let store = self.store.as_ref();
        store.map_or(StoreState::None, |store| store.state())
    }

    /// Takes over what replicas that are gone used; it counts here from now on.
    pub fn carry(&self, carried: Vec<Carried>) {
        self.carryover.replace(carried);
        for slot in self.slots() {
            let counter = &mut slot.state.lock().counter;
            self.carryover.apply(&slot.limit, slot.key, counter);
        }
    }

    pub(crate) fn place(&self, limit: &FlatLimit, facts: &QuotaFacts<'_>) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            limit.name.hash(&mut hasher);
            for part in limit.subject(facts) {
                part.hash(&mut hasher);
            }
            u128::from(hasher.finish())
        });
        (high << 64) | low
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is below the length of the array"
    )]
    fn shard(&self, place: u128) -> &RwLock<Shard> {
        // The upper half: the map inside a shard takes the lower bits.
        let [index, ..] = place.to_be_bytes();
        &self.shards[usize::from(index) % SHARDS]
    }

    pub(crate) fn slot(
        &self,
        place: u128,
        live: &Arc<EnforcedLimit>,
        identity: impl Fn() -> Identity,
        now: Moment,
    ) -> (Arc<Slot>, Made) {
        let shard = self.shard(place);
        if let Some(slot) = shard.read().counters.get(&place) {
            return (Arc::clone(slot), Made(false));
        }
        let (name, limit) = (&live.flat.name, &live.limit);
        let mut shard = shard.write();
        shard.sweep(now);
        let slot = || {
            let identity = identity();
            let mut counter = Counter::new(limit, now);
            self.carryover.apply(name, identity.key, &mut counter);
            let escrow = self.store.is_some().then(|| Escrow::new(limit));
            let state = State::new(counter, Arc::clone(live), escrow);
            Arc::new(Slot::new(place, name.clone(), identity, state))
        };
        match shard.counters.entry(place) {
            Entry::Occupied(known) => (Arc::clone(known.get()), Made(false)),
            Entry::Vacant(free) => (Arc::clone(free.insert(slot())), Made(true)),
        }
    }

    /// Forgets a counter that no request charges; false while one does.
    pub(crate) fn forget(&self, place: u128) -> bool {
        let counters = &mut self.shard(place).write().counters;
        let is_charged = |slot: &Arc<Slot>| Arc::strong_count(slot) > 1;
        if counters.get(&place).is_some_and(is_charged) {
            return false;
        }
        counters.remove(&place);
        true
    }

    /// Every counter, for a look from outside. Waits for no request.
    #[must_use]
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                shard
                    .read()
                    .counters
                    .values()
                    .map(Arc::clone)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The counter that a request would charge; `None` if it has never been charged.
    #[must_use]
    pub fn find(&self, limit: &FlatLimit, facts: &QuotaFacts<'_>) -> Option<Arc<Slot>> {
        let place = self.place(limit, facts);
        self.shard(place)
            .read()
            .counters
            .get(&place)
            .map(Arc::clone)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            counters: HashMap::default(),
            sweep_at: SWEEP_AT,
        }
    }
}

impl Shard {
    /// Forgets what counts nothing any more, each time the number has doubled.
    fn sweep(&mut self, now: Moment) {
        if self.counters.len() < self.sweep_at {
            return;
        }
        // Whoever holds a slot is about to charge it, or has charged it.
        self.counters
            .retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.state.lock().is_untouched(now));
        self.sweep_at = self.counters.len().saturating_mul(2).max(SWEEP_AT);
    }
}
