//! The counters of all limits, and the guard that settles what a request has reserved.
//!
//! A [`Charge`] is settled exactly once: by its request's end, or by its `Drop` at the estimate
//! when nobody else did (an aborted client, a cut stream, a panic).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use proxy_core::admit::{Applied, Denial, Permit};
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Moment};
use proxy_core::quota::{
    Carried, Cost, Counter, Entry, Exceeded, Limit, Mode, Stamp, StoreState, Unit, Wait, Window,
    reserve,
};

use smallvec::SmallVec;

use crate::answer::{Refusal, Spent};
use crate::live::Live;
use crate::metrics::SettlementCounters;

mod carried;
mod slot;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use slot::{Counted, Slot, subject};

use carried::CarriedUse;
use slot::Whom;

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
}

#[derive(Debug)]
struct Shard {
    counters: HashMap<u128, Arc<Slot>, RandomState>,
    /// How many counters there may be before the next sweep.
    sweep_at: usize,
}

/// What one request has reserved. Dropping it settles at `estimate`.
#[derive(Debug)]
pub(crate) struct Charge {
    live: Arc<Live>,
    held: SmallVec<[Held; 4]>,
    settled: bool,
    /// What to settle at if nobody settles: the reservation, narrowed as the answer goes on.
    pub(crate) estimate: Cost,
    clock: fn() -> Moment,
    settlements: SettlementCounters,
}

#[derive(Debug)]
struct Held {
    slot: Arc<Slot>,
    /// Index of the limit in the table.
    limit: usize,
    stamp: Stamp,
    asked: u64,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// By the usage that the backend told.
    Measured,
    /// By an estimate: the usage is unknown.
    Estimated,
    /// Given back: the backend bills nothing.
    Released,
}

impl Ledger {
    pub(crate) fn new(settlements: SettlementCounters) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hashers: [RandomState::default(), RandomState::default()],
            settlements,
            carried: CarriedUse::default(),
        }
    }

    /// Whether the shared store answers.
    pub(crate) const fn store_state(&self) -> StoreState {
        StoreState::None
    }

    /// Takes over what replicas that are gone used; it counts here from now on.
    pub(crate) fn carry(&self, carried: Vec<Carried>) {
        self.carried.replace(carried);
        for slot in self.slots() {
            let counter = &mut slot.state.lock().counter;
            self.carried.apply(&slot.limit, slot.key, counter);
        }
    }

    /// Reserves `cost` from every limit that applies, or refuses and reserves nothing.
    pub(crate) fn reserve(
        &self,
        live: &Arc<Live>,
        permit: &Permit<'_>,
        caller: &Caller,
        model: Option<&str>,
        cost: Cost,
        clock: fn() -> Moment,
    ) -> Result<Charge, Box<Refusal>> {
        let now = clock();
        let mut asked: SmallVec<[(Arc<Slot>, Applied<'_>); 4]> = permit
            .limits(caller, model)
            .filter_map(|applied| {
                let place = self.place(&applied, caller, model, permit);
                let whom = || Whom {
                    key: applied.subject_key(caller, model, permit.route),
                    subject: subject(&applied, caller, model, permit),
                };
                Some((self.slot(place, live, &applied, whom, now)?, applied))
            })
            .collect();
        let charge = |held| Charge {
            live: Arc::clone(live),
            held,
            settled: false,
            estimate: cost,
            clock,
            settlements: self.settlements.clone(),
        };
        if asked.is_empty() {
            return Ok(charge(SmallVec::new()));
        }
        // One order for all requests, or two of them could wait for each other.
        asked.sort_unstable_by_key(|(slot, _)| slot.place);
        let mut guards: SmallVec<[_; 4]> =
            asked.iter().map(|(slot, _)| slot.state.lock()).collect();
        let mut entries: SmallVec<[Entry<'_>; 4]> = guards
            .iter_mut()
            .zip(&asked)
            .filter_map(|(guard, (slot, applied))| {
                let limit = &live.limits.get(applied.index)?.limit;
                if !guard.counter.suits(limit) {
                    guard.counter = Counter::new(limit, now);
                    let name = &applied.flat.name;
                    self.carried.apply(name, slot.key, &mut guard.counter);
                }
                Some(Entry {
                    limit,
                    mode: applied.quota.mode,
                    counter: &mut guard.counter,
                })
            })
            .collect();
        match reserve(&mut entries, &cost, now) {
            Ok(stamps) => {
                drop(entries);
                for (guard, (_, applied)) in guards.iter_mut().zip(&asked) {
                    let ask = cost.of(applied.flat.limit.unit);
                    guard.reserved = guard.reserved.saturating_add(ask);
                }
                drop(guards);
                let held = asked
                    .into_iter()
                    .zip(stamps)
                    .map(|((slot, applied), stamp)| {
                        if stamp.over && applied.quota.mode == Mode::Shadow {
                            count(live, applied.index, |limit| {
                                limit.counters.shadow_denials.inc()
                            });
                        }
                        Held {
                            slot,
                            limit: applied.index,
                            stamp,
                            asked: cost.of(applied.flat.limit.unit),
                        }
                    });
                Ok(charge(held.collect()))
            }
            Err(exceeded) => {
                let refusal = refusal(live, &asked, &mut entries, exceeded, &cost, now);
                Err(Box::new(refusal))
            }
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
            Arc::new(Slot::new(place, applied.flat.name.clone(), whom, counter))
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
        self.counters.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || !slot.state.lock().counter.is_untouched(now)
        });
        self.sweep_at = self.counters.len().saturating_mul(2).max(SWEEP_AT);
    }
}

fn count(live: &Live, limit: usize, counter: impl FnOnce(&crate::live::LiveLimit) -> u64) {
    if let Some(limit) = live.limits.get(limit) {
        counter(limit);
    }
}

fn refusal(
    live: &Live,
    asked: &[(Arc<Slot>, Applied<'_>)],
    entries: &mut [Entry<'_>],
    exceeded: Exceeded,
    cost: &Cost,
    now: Moment,
) -> Refusal {
    let (Some((_, applied)), Some(entry)) =
        (asked.get(exceeded.entry), entries.get_mut(exceeded.entry))
    else {
        return Refusal::new(Code::QuotaExceeded, "a limit is spent");
    };
    count(live, applied.index, |limit| limit.counters.denials.inc());
    let limit = entry.limit;
    let code = code(limit);
    let name = applied.flat.name.clone();
    let (used, ask) = (entry.counter.used(limit, now), cost.of(limit.unit));
    let (amount, unit) = (limit.amount, limit.unit.as_str());
    let message = match exceeded.wait {
        Wait::Never => format!(
            "limit {name} allows {amount} {unit} in all, this request needs {ask}; lower max_tokens \
             or shorten the input"
        ),
        Wait::Millis(wait) => format!(
            "limit {name} is spent: {used} of {amount} {unit} used, this request needs {ask}; \
             retry in {} s",
            wait.div_ceil(1_000)
        ),
    };
    Refusal {
        denial: Denial::new(code, message),
        limit: Some(Spent {
            name,
            unit: limit.unit,
            amount,
            used,
            reset_ms: entry.counter.reset_ms(limit, now),
        }),
        wait: Some(exceeded.wait),
        close: false,
    }
}

impl Charge {
    /// Replaces the reservation by what was used. Later calls and the drop do nothing.
    pub(crate) fn settle(&mut self, actual: Cost, how: Settled) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        match how {
            Settled::Measured => self.settlements.measured.inc(),
            Settled::Estimated => self.settlements.estimated.inc(),
            Settled::Released => self.settlements.released.inc(),
        };
        let now = (self.clock)();
        for held in self.held.drain(..) {
            let Some(live) = self.live.limits.get(held.limit) else {
                continue;
            };
            let mut state = held.slot.state.lock();
            state.reserved = state.reserved.saturating_sub(held.asked);
            let counter = &mut state.counter;
            if !counter.suits(&live.limit) {
                // Another table counts by another window, and began anew.
                continue;
            }
            match how {
                Settled::Released => counter.release(&live.limit, held.stamp, now),
                Settled::Measured | Settled::Estimated => {
                    counter.settle(&live.limit, held.stamp, actual.of(live.limit.unit), now);
                }
            }
        }
    }

    /// Gives everything back: nothing was sent, or the backend bills nothing.
    pub(crate) fn release(&mut self) {
        self.settle(Cost::default(), Settled::Released);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle(self.estimate, Settled::Estimated);
    }
}
