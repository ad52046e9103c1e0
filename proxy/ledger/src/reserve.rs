//! Reserving: from every limit that applies to a request, or from none.
//!
//! Without a store this never waits. With one it waits only for a counter whose grants are too small,
//! and then for the answer of one call, its own or another request's.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use proxy_core::names::Moment;
use proxy_core::quota::{
    Backing, Cost, Counter, Entry, Escrow, Exceeded, Loss, Mode, Shortfall, Wait, reserve,
};
use smallvec::SmallVec;
use tokio::sync::futures::OwnedNotified;

use crate::charge::{Charge, Held};
use crate::counters::{Counters, Slots};
use crate::ledger::Ledger;
use crate::level::{Level, Levels};
use crate::refusal::{Refused, Spent};
use crate::slot::{Slot, State};
use crate::store::{Asked, Call};

#[cfg(test)]
pub(crate) mod tests;

/// Longest wait of a request for a store that answers. Then it is refused: other requests took every
/// grant. Longer than the deadline of one call, after which the store is away.
const PATIENCE: Duration = Duration::from_millis(500);
/// When such a request may be retried.
const BUSY: Wait = Wait::Millis(1_000);

/// A request that asks the limits of its rule.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// What it charges.
    pub counters: &'a Arc<Counters>,
    /// Its cost, as far as it is known.
    pub cost: Cost,
    /// The present moment.
    pub now: Moment,
    /// Reads the time: after a wait, and when a charge is dropped.
    pub clock: fn() -> Moment,
}

type Guards<'a> = SmallVec<[MutexGuard<'a, State>; 4]>;

#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart at once: a box costs more than the move"
)]
enum Attempt {
    Reserved(Charge),
    Exceeded(Box<Refused>),
    /// The grants are too small: try again after this.
    Waits(Waiting),
}

/// A request that waits for the answer to a call.
struct Waiting {
    answered: Pin<Box<OwnedNotified>>,
    /// Its shortfall is counted there, so that the next call asks for all waiting requests.
    counted: Option<(Arc<Slot>, u64)>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((slot, ask)) = &self.counted {
            slot.wait_for(*ask, false);
        }
    }
}

impl Ledger {
    /// Reserves the cost from every limit that applies, or refuses and reserves nothing. `recount` is
    /// asked for a better estimate before a request is refused for its cost.
    ///
    /// # Errors
    /// The limit that refused, of several the one with the longest wait.
    pub async fn reserve(
        &self,
        asking: Asking<'_>,
        recount: impl FnOnce() -> Option<Cost>,
    ) -> Result<Charge, Box<Refused>> {
        let mut asking = asking;
        if asking.counters.all().is_empty() {
            return Ok(self.charge(&asking, SmallVec::new(), Levels::default()));
        }
        let mut recount = Some(recount);
        let mut deadline = None;
        let mut patient = true;
        loop {
            match self.attempt(&asking, patient) {
                Attempt::Reserved(charge) => return Ok(charge),
                Attempt::Exceeded(refused) => match recount.take().and_then(|recount| recount()) {
                    Some(better) if better != asking.cost => asking.cost = better,
                    Some(_) | None => {
                        if let Some(spent) = &refused.limit {
                            spent.limit.denials.inc();
                        }
                        return Err(refused);
                    }
                },
                Attempt::Waits(mut waiting) => {
                    let deadline =
                        *deadline.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
                    let answered = waiting.answered.as_mut();
                    patient = tokio::time::timeout_at(deadline, answered).await.is_ok();
                    asking.now = (asking.clock)();
                }
            }
        }
    }

    fn charge(&self, asking: &Asking<'_>, held: SmallVec<[Held; 4]>, levels: Levels) -> Charge {
        Charge {
            counters: Arc::clone(asking.counters),
            held,
            settled: false,
            estimate: asking.cost,
            levels,
            clock: asking.clock,
            settlements: Arc::clone(&self.settlements),
            store: self.store.clone(),
        }
    }

    fn attempt(&self, asking: &Asking<'_>, patient: bool) -> Attempt {
        let (counters, cost, now) = (asking.counters.all(), &asking.cost, asking.now);
        let mut guards: Guards<'_> = counters.iter().map(|(slot, _)| slot.state.lock()).collect();
        self.adapt(counters, &mut guards, now);
        let mut entries = self.entries(counters, &mut guards);
        match reserve::<SmallVec<[_; 4]>>(&mut entries, cost, now) {
            Ok(taken) => {
                let levels = Levels::of(&mut entries, now);
                drop(entries);
                let mut held = SmallVec::with_capacity(counters.len());
                for (((_, live), guard), taken) in counters.iter().zip(&mut guards).zip(taken) {
                    let ask = cost.of(live.limit.unit);
                    guard.reserved = guard.reserved.saturating_add(ask);
                    if taken.over && live.mode() == Mode::Shadow {
                        live.shadow_denials.inc();
                    }
                    held.push(Held { taken, asked: ask });
                }
                self.borrow_ahead(counters, guards, now);
                Attempt::Reserved(self.charge(asking, held, levels))
            }
            Err(shortfall) => {
                let exceeded = match &shortfall {
                    Shortfall::Exceeded(exceeded) => *exceeded,
                    Shortfall::Lacking(lacking) if patient => {
                        drop(entries);
                        return self.borrow(cost, counters, guards, lacking, now);
                    }
                    Shortfall::Lacking(_) => Exceeded {
                        wait: BUSY,
                        ..shortfall.exceeded()
                    },
                };
                let refused = refused(counters, &mut entries, exceeded, cost, now);
                Attempt::Exceeded(Box::new(refused))
            }
        }
    }

    /// Replaces counters whose window has another kind by now, and adopts changed limits.
    fn adapt(&self, counters: &Slots, guards: &mut Guards<'_>, now: Moment) {
        for (guard, (slot, live)) in guards.iter_mut().zip(counters) {
            if guard.counts_like(&live.limit) {
                continue;
            }
            if !guard.counter.suits(&live.limit) {
                guard.counter = Counter::new(&live.limit, now);
                let counter = &mut guard.counter;
                self.carryover.apply(&live.flat.name, slot.key, counter);
                guard.escrow = self.store.is_some().then(|| Escrow::new(&live.limit));
            }
            guard.limit = live.limit.clone();
        }
    }

    fn entries<'g>(
        &self,
        counters: &Slots,
        guards: &'g mut Guards<'_>,
    ) -> SmallVec<[Entry<'g>; 4]> {
        let store = self.store.as_ref();
        let open = store.is_some_and(|store| store.is_open());
        let replicas = store.map_or(1, |store| store.replicas());
        guards
            .iter_mut()
            .zip(counters)
            .map(|(guard, (_, live))| {
                let State {
                    counter,
                    escrow,
                    limit,
                    ..
                } = &mut **guard;
                let share = limit.amount.checked_div(replicas);
                let loss = Loss {
                    on: live.flat.quota.on_store_loss,
                    share: share.unwrap_or(limit.amount),
                };
                let backing = match (escrow, open) {
                    (None, _) => Backing::Own,
                    (Some(escrow), true) => Backing::Lent(escrow),
                    (Some(escrow), false) => Backing::Cut(escrow, loss),
                };
                Entry {
                    limit,
                    mode: live.mode(),
                    counter,
                    backing,
                }
            })
            .collect()
    }

    /// Asks for the shortfall, or waits for a call that is under way.
    fn borrow(
        &self,
        cost: &Cost,
        counters: &Slots,
        mut guards: Guards<'_>,
        lacking: &[usize],
        now: Moment,
    ) -> Attempt {
        let mut waits: Option<Waiting> = None;
        let mut asked = Vec::new();
        let replicas = self.store.as_ref().map_or(1, |store| store.replicas());
        let busy = lacking.iter().copied().find(|&index| {
            let escrow = guards.get(index).and_then(|guard| guard.escrow.as_ref());
            escrow.is_some_and(Escrow::is_asking)
        });
        for (index, ((slot, live), guard)) in counters.iter().zip(&mut guards).enumerate() {
            let ask = cost.of(live.limit.unit);
            let State { escrow, limit, .. } = &mut **guard;
            let Some(escrow) = escrow else { continue };
            if Some(index) == busy {
                escrow.wait_for(ask, true);
                waits = Some(Waiting {
                    answered: Box::pin(Arc::clone(&slot.answered).notified_owned()),
                    counted: Some((Arc::clone(slot), ask)),
                });
            } else if busy.is_none() {
                let lacks = lacking.contains(&index);
                if !lacks && (live.mode() == Mode::Shadow || !escrow.joins(replicas, now)) {
                    continue;
                }
                if lacks && waits.is_none() {
                    waits = Some(Waiting {
                        answered: Box::pin(Arc::clone(&slot.answered).notified_owned()),
                        counted: None,
                    });
                }
                asked.push(Asked {
                    ask: escrow.request(if lacks { ask } else { 0 }, replicas, now),
                    slot: Arc::clone(slot),
                    limit: limit.clone(),
                });
            }
        }
        self.send(counters, guards, asked);
        match waits {
            Some(waiting) => Attempt::Waits(waiting),
            // Unreachable: some entry is lacking, so one of them must be asked for. Fail closed.
            None => Attempt::Exceeded(Box::new(Refused {
                limit: None,
                wait: BUSY,
                store_lost: false,
            })),
        }
    }

    /// Asks for more before a grant is used up, in one call for all counters that run low or soon will. No
    /// request waits for it.
    fn borrow_ahead(&self, counters: &Slots, mut guards: Guards<'_>, now: Moment) {
        let Some(store) = &self.store else { return };
        let mut asked = Vec::new();
        if store.is_open() {
            let replicas = store.replicas();
            let low = guards.iter().zip(counters).any(|(guard, (_, live))| {
                let escrow = guard.escrow.as_ref();
                live.mode() == Mode::Enforce
                    && escrow.is_some_and(|escrow| escrow.runs_low(replicas, now))
            });
            for ((slot, live), guard) in counters.iter().zip(&mut guards) {
                let State { escrow, limit, .. } = &mut **guard;
                if let Some(escrow) = escrow
                    && low
                    && live.mode() == Mode::Enforce
                    && escrow.joins(replicas, now)
                {
                    asked.push(Asked {
                        ask: escrow.request(0, replicas, now),
                        slot: Arc::clone(slot),
                        limit: limit.clone(),
                    });
                }
            }
        }
        self.send(counters, guards, asked);
    }

    fn send(&self, counters: &Slots, mut guards: Guards<'_>, asked: Vec<Asked>) {
        let Some(store) = &self.store else { return };
        let unlisted: SmallVec<[_; 4]> = counters
            .iter()
            .zip(&mut guards)
            .filter_map(|((slot, _), guard)| {
                let listed = std::mem::replace(&mut guard.listed, true);
                (!listed).then_some(slot)
            })
            .collect();
        drop(guards);
        for slot in unlisted {
            store.list(slot);
        }
        if !asked.is_empty() {
            store.send(Call(asked));
        }
    }
}

fn refused(
    counters: &Slots,
    entries: &mut [Entry<'_>],
    exceeded: Exceeded,
    cost: &Cost,
    now: Moment,
) -> Refused {
    let refusing = counters
        .get(exceeded.entry)
        .zip(entries.get_mut(exceeded.entry));
    Refused {
        limit: refusing.map(|((_, limit), entry)| Spent {
            limit: Arc::clone(limit),
            level: Level::of(entry, now),
            asked: cost.of(entry.limit.unit),
        }),
        wait: exceeded.wait,
        store_lost: exceeded.store_lost,
    }
}
