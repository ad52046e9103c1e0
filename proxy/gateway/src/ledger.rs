//! The counters of all limits: which there are, and where one is found.
//!
//! `reserve` takes from them, a [`Charge`] settles what was taken, a [`Slot`] is one of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use proxy_core::admit::{Applied, Permit};
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Moment};
use proxy_core::quota::{Carried, Counter, Escrow, Limit, StoreState, Unit, Window};

use crate::live::Live;
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
pub(crate) use slot::{Counted, Slot, subject};

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
    shards: Vec<RwLock<Shard>>,
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
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
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
        applied: &Applied<'_>,
        caller: &Caller,
        model: Option<&str>,
        permit: &Permit<'_>,
    ) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            applied.flat.name.hash(&mut hasher);
            for part in applied.subject(caller, model, permit.route) {
                part.hash(&mut hasher);
            }
            u128::from(hasher.finish())
        });
        (high << 64) | low
    }

    fn shard(&self, place: u128) -> Option<&RwLock<Shard>> {
        let index = usize::try_from(place >> 64).ok()?;
        self.shards.get(index.checked_rem(self.shards.len())?)
    }

    fn slot(
        &self,
        place: u128,
        live: &Live,
        applied: &Applied<'_>,
        whom: impl Fn() -> Whom,
        now: Moment,
    ) -> Option<Arc<Slot>> {
        let shard = self.shard(place)?;
        if let Some(slot) = shard.read().counters.get(&place) {
            return Some(Arc::clone(slot));
        }
        let limit = &live.limits.get(applied.index)?.limit;
        let mut shard = shard.write();
        shard.sweep(now);
        let slot = || {
            let whom = whom();
            let mut counter = Counter::new(limit, now);
            self.carried
                .apply(&applied.flat.name, whom.key, &mut counter);
            let escrow = self.store.is_some().then(|| Escrow::new(limit));
            let state = State::new(counter, limit.clone(), escrow);
            Arc::new(Slot::new(place, applied.flat.name.clone(), whom, state))
        };
        Some(Arc::clone(shard.counters.entry(place).or_insert_with(slot)))
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
        applied: &Applied<'_>,
        caller: &Caller,
        model: Option<&str>,
        permit: &Permit<'_>,
    ) -> Option<Arc<Slot>> {
        let place = self.place(applied, caller, model, permit);
        self.shard(place)?
            .read()
            .counters
            .get(&place)
            .map(Arc::clone)
    }
}

/// The reason word of a refusal by `limit`.
pub(crate) const fn code(limit: &Limit) -> Code {
    match (limit.unit, &limit.window) {
        (Unit::Concurrency, _) => Code::ConcurrencyExceeded,
        (Unit::Requests, Window::Second | Window::Minute) => Code::RateLimited,
        _ => Code::QuotaExceeded,
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
