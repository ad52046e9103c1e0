//! The counters of all limits: which there are, and where one is found.
//!
//! `reserve` takes from them, a [`Charge`] settles what was taken, a [`Slot`] is one of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use proxy_core::auth::Caller;
use proxy_core::names::Moment;
use proxy_core::quota::{Carried, Counter, Escrow, StoreState};
use proxy_core::table::{FlatLimit, Route};

use crate::live::LiveLimit;
use crate::metrics::SettlementCounters;
use crate::store::Store;

mod carried;
mod charge;
mod reserve;
mod slot;
#[cfg(test)]
pub(crate) mod tests;
mod told;

pub(crate) use charge::{Charge, Settled};
pub(crate) use reserve::Asking;
pub(crate) use slot::{Counted, Slot};

use carried::CarriedUse;
use slot::{State, Whom};

/// Locks over the map of counters: requests of different subjects rarely meet.
const SHARDS: usize = 16;
/// Counters of one shard at which those that count nothing any more are swept out; callers whom no
/// Secret names can make new ones without end. A counter takes about 600 bytes.
const SWEEP_AT: usize = 4096;

/// Counters by limit and subject. They outlive tables, so a changed limit keeps what was used.
#[derive(Debug)]
pub(crate) struct Ledger {
    shards: [RwLock<Shard>; SHARDS],
    /// Two independent keyed hashes make the 128 bits that name a counter.
    hashers: [RandomState; 2],
    settlements: SettlementCounters,
    carried: CarriedUse,
    store: Option<Arc<Store>>,
}

#[derive(Debug)]
struct Shard {
    counters: HashMap<u128, Arc<Slot>, RandomState>,
    /// How many counters there may be before the next sweep.
    sweep_at: usize,
}

impl Ledger {
    /// Counters of this replica's own, or lent by a shared store.
    pub(crate) fn new(settlements: SettlementCounters, store: Option<Arc<Store>>) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hashers: [RandomState::default(), RandomState::default()],
            settlements,
            carried: CarriedUse::default(),
            store,
        }
    }

    /// Whether the shared store answers.
    pub(crate) fn store_state(&self) -> StoreState {
        let store = self.store.as_ref();
        store.map_or(StoreState::None, |store| store.state())
    }

    /// Takes over what replicas that are gone used; it counts here from now on.
    pub(crate) fn carry(&self, carried: Vec<Carried>) {
        self.carried.replace(carried);
        for slot in self.slots() {
            let counter = &mut slot.state.lock().counter;
            self.carried.apply(&slot.limit, slot.key, counter);
        }
    }

    fn place(
        &self,
        limit: &FlatLimit,
        caller: &Caller,
        model: Option<&str>,
        route: &Route,
    ) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            limit.name.hash(&mut hasher);
            for part in limit.subject(caller, model, route) {
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

    fn slot(
        &self,
        place: u128,
        live: &LiveLimit,
        whom: impl Fn() -> Whom,
        now: Moment,
    ) -> Arc<Slot> {
        let shard = self.shard(place);
        if let Some(slot) = shard.read().counters.get(&place) {
            return Arc::clone(slot);
        }
        let (name, limit) = (&live.flat.name, &live.limit);
        let mut shard = shard.write();
        shard.sweep(now);
        let slot = || {
            let whom = whom();
            let mut counter = Counter::new(limit, now);
            self.carried.apply(name, whom.key, &mut counter);
            let escrow = self.store.is_some().then(|| Escrow::new(limit));
            let state = State::new(counter, limit.clone(), escrow);
            Arc::new(Slot::new(place, name.clone(), whom, state))
        };
        Arc::clone(shard.counters.entry(place).or_insert_with(slot))
    }

    /// Every counter, for a look from outside. Waits for no request.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
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

    /// The counter that a request would charge; `None` if nobody has charged it.
    pub(crate) fn find(
        &self,
        limit: &FlatLimit,
        caller: &Caller,
        model: Option<&str>,
        route: &Route,
    ) -> Option<Arc<Slot>> {
        let place = self.place(limit, caller, model, route);
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
