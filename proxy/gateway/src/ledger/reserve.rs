//! Reserving: from every limit that applies to a request, or from none.
//!
//! Without a store this never waits. With one it waits only for a counter of which too little is
//! lent, and then for the answer of one call, its own or another request's.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use proxy_core::auth::Caller;
use proxy_core::names::{Code, Moment};
use proxy_core::quota::{
    Backing, Cost, Counter, Entry, Escrow, Exceeded, Loss, Mode, Shortfall, Wait, reserve,
};
use proxy_core::table::Route;
use smallvec::SmallVec;
use tokio::sync::futures::OwnedNotified;

use super::charge::{Charge, Held};
use super::slot::{State, Whom};
use super::told::{levels, refusal};
use super::{Ledger, Slot};
use crate::answer::{Levels, Refusal};
use crate::live::LiveLimit;
use crate::store::{Asked, Call};

/// A request waits so long for a store that answers, then it is refused: others took what was lent
/// each time. More than the deadline of one call, after which the store is away.
const PATIENCE: Duration = Duration::from_millis(500);
/// When it may come again.
const BUSY: Wait = Wait::Millis(1_000);

/// For whom is to be reserved, and by which table.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// What may apply, by its rule.
    pub(crate) limits: &'a [Arc<LiveLimit>],
    pub(crate) route: &'a Route,
    pub(crate) caller: &'a Caller,
    pub(crate) model: &'a str,
    pub(crate) clock: fn() -> Moment,
}

/// The counters of a request, in the one order that all requests lock them in: otherwise two of them
/// could wait for each other.
pub(super) type Counters<'a> = SmallVec<[(Arc<Slot>, &'a Arc<LiveLimit>); 4]>;
type Guards<'a> = SmallVec<[MutexGuard<'a, State>; 4]>;

#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart at once: a box costs more than the move"
)]
enum Attempt {
    Reserved(Charge),
    Exceeded(Box<Refusal>),
    /// Too little is lent: try again after this.
    Waits(Waiting),
}

/// A request that waits for the answer to a call.
struct Waiting {
    answered: Pin<Box<OwnedNotified>>,
    /// What it lacks is counted there, so that the next call asks for all who wait.
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
    pub(crate) async fn reserve(
        &self,
        asking: &Asking<'_>,
        cost: Cost,
        recount: impl FnOnce() -> Option<Cost>,
    ) -> Result<Charge, Box<Refusal>> {
        let mut cost = cost;
        let counters = self.counters(asking);
        if counters.is_empty() {
            return Ok(self.charge(asking, cost, SmallVec::new(), Levels::default()));
        }
        let mut recount = Some(recount);
        let mut deadline = None;
        let mut patient = true;
        loop {
            match self.attempt(asking, &cost, &counters, patient) {
                Attempt::Reserved(charge) => return Ok(charge),
                Attempt::Exceeded(refusal) => match recount.take().and_then(|recount| recount()) {
                    Some(better) if better != cost => cost = better,
                    Some(_) | None => {
                        denied(&counters, &refusal);
                        return Err(refusal);
                    }
                },
                Attempt::Waits(mut waiting) => {
                    let deadline =
                        *deadline.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
                    let answered = waiting.answered.as_mut();
                    patient = tokio::time::timeout_at(deadline, answered).await.is_ok();
                }
            }
        }
    }

    fn counters<'a>(&self, asking: &Asking<'a>) -> Counters<'a> {
        let Asking {
            limits,
            route,
            caller,
            model,
            clock,
        } = *asking;
        let model = Some(model);
        let now = clock();
        let mut counters: Counters<'_> = limits
            .iter()
            .filter(|live| live.flat.applies(caller, model))
            .map(|live| {
                let place = self.place(&live.flat, caller, model, route);
                let whom = || Whom {
                    key: live.flat.subject_key(caller, model, route),
                    subject: live.flat.subject_text(caller, model, route).into(),
                };
                (self.slot(place, live, whom, now), live)
            })
            .collect();
        counters.sort_unstable_by_key(|(slot, _)| slot.place);
        counters
    }

    fn charge(
        &self,
        asking: &Asking<'_>,
        cost: Cost,
        held: SmallVec<[Held; 4]>,
        levels: Levels,
    ) -> Charge {
        Charge {
            held,
            settled: false,
            estimate: cost,
            levels,
            clock: asking.clock,
            settlements: self.settlements.clone(),
            store: self.store.clone(),
        }
    }

    fn attempt(
        &self,
        asking: &Asking<'_>,
        cost: &Cost,
        counters: &Counters<'_>,
        patient: bool,
    ) -> Attempt {
        let now = (asking.clock)();
        let mut guards: Guards<'_> = counters.iter().map(|(slot, _)| slot.state.lock()).collect();
        self.adapt(counters, &mut guards, now);
        let mut entries = self.entries(counters, &mut guards);
        match reserve(&mut entries, cost, now) {
            Ok(taken) => {
                let levels = levels(&mut entries, now);
                drop(entries);
                let mut held = SmallVec::new();
                for (((slot, live), guard), taken) in counters.iter().zip(&mut guards).zip(taken) {
                    let ask = cost.of(live.limit.unit);
                    guard.reserved = guard.reserved.saturating_add(ask);
                    if taken.over && live.mode() == Mode::Shadow {
                        live.counters.shadow_denials.inc();
                    }
                    held.push(Held {
                        slot: Arc::clone(slot),
                        limit: Arc::clone(live),
                        taken,
                        asked: ask,
                    });
                }
                self.borrow_ahead(counters, guards, now);
                Attempt::Reserved(self.charge(asking, *cost, held, levels))
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
                let refusal = refusal(counters, &mut entries, exceeded, cost, now);
                Attempt::Exceeded(Box::new(refusal))
            }
        }
    }

    /// Begins counters anew whose window is of another kind now, and takes note of new limits.
    fn adapt(&self, counters: &Counters<'_>, guards: &mut Guards<'_>, now: Moment) {
        for (guard, (slot, live)) in guards.iter_mut().zip(counters) {
            if guard.counts_like(&live.limit) {
                continue;
            }
            if !guard.counter.suits(&live.limit) {
                guard.counter = Counter::new(&live.limit, now);
                let counter = &mut guard.counter;
                self.carried.apply(&live.flat.name, slot.key, counter);
                guard.escrow = self.store.is_some().then(|| Escrow::new(&live.limit));
            }
            guard.limit = live.limit.clone();
        }
    }

    fn entries<'g>(
        &self,
        counters: &Counters<'_>,
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

    /// Asks for what is lacking, or waits for those who have asked already.
    fn borrow(
        &self,
        cost: &Cost,
        counters: &Counters<'_>,
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
            // Nobody lends for what lacks: that cannot be, and must not let anything pass.
            None => Attempt::Exceeded(Box::new(Refusal::new(
                Code::QuotaExceeded,
                "a limit cannot be counted",
            ))),
        }
    }

    /// Asks for more of what is running low, before it is missing, and of what would be next: one call for
    /// all. Nobody waits for it.
    fn borrow_ahead(&self, counters: &Counters<'_>, mut guards: Guards<'_>, now: Moment) {
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

    fn send(&self, counters: &Counters<'_>, mut guards: Guards<'_>, asked: Vec<Asked>) {
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

fn denied(counters: &Counters<'_>, refusal: &Refusal) {
    let Some(spent) = &refusal.limit else { return };
    let refusing = counters
        .iter()
        .find(|(_, live)| live.flat.name == spent.name);
    if let Some((_, live)) = refusing {
        live.counters.denials.inc();
    }
}
