//! Reserving: from every limit that applies to a request, or from none.
//!
//! A request whose hold is a bound never waits without a store. With one it waits only for a counter
//! whose grants are too small, and then for the answer of one call, its own or another request's. A
//! request whose hold is a guess may also wait until others like it have ended
//! ([`crate::exposure`]).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::names::Moment;
use proxy_core::quota::{
    Backing, Cost, Counter, Entry, Escrow, Exceeded, Hold, Loss, Mode, Shortfall, Wait, debit,
    judge, reserve,
};
use smallvec::SmallVec;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, timeout_at};

use crate::charge::{Charge, Held};
use crate::counters::{Counters, Slots};
use crate::hold::{Guards, hold_all, hold_part};
use crate::ledger::Ledger;
use crate::level::{Level, Levels};
use crate::limit::EnforcedLimit;
use crate::place::Place;
use crate::refusal::{Cause, Refused, Spent};
use crate::slot::{Slot, State};
use crate::store::{Asked, Call};
use crate::unproved::{is_parted, is_shared, lower, part};
use crate::warning::Warning;

#[cfg(test)]
pub(crate) mod tests;

/// Longest wait of a request for a store that answers. Then it is refused: other requests took every
/// grant. Longer than the deadline of one call, after which the store is away.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest wait of a request whose hold is a guess, until others like it have ended. Most answers are
/// complete within this time, and clients give up later than that (the SDKs of `OpenAI` after 600 s).
const TURN: Duration = Duration::from_secs(60);
/// When a request may be retried whose wait brought nothing.
const BUSY: Wait = Wait::Millis(1_000);

/// A request that asks the limits of its rule.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// What it charges.
    pub counters: &'a Arc<Counters>,
    /// What it holds, and the most that it may use, as far as they are known.
    pub hold: Hold,
    /// The present moment.
    pub now: Moment,
    /// Reads the time: after a wait, and when a charge is dropped.
    pub clock: fn() -> Moment,
}

enum Attempt {
    Reserved(Box<Charge>),
    Exceeded(Box<Refused>),
    /// The grants are too small: try again after this.
    Waits(Waiting),
    /// Too many run that may use more than they hold: try again at this place, or the one before.
    Crowded(Option<Place>),
}

/// What a request still waits for before it is refused.
#[derive(Clone, Copy)]
struct Patience {
    grants: bool,
    turn: bool,
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
    /// Reserves what the request holds from every limit that applies, or refuses and reserves nothing.
    /// `recount` is asked for a better estimate before a request is refused for its cost, before it
    /// waits for others to end, and after that: they have shown what such requests need. Dropped, it
    /// leaves nothing behind.
    ///
    /// # Errors
    /// The limit that refused, of several the one with the longest wait.
    pub async fn reserve(
        &self,
        asking: Asking<'_>,
        recount: impl Fn() -> Option<Hold>,
    ) -> Result<Box<Charge>, Box<Refused>> {
        let mut asking = asking;
        if asking.counters.all().is_empty() {
            return Ok(self.charge(&asking, SmallVec::new(), Levels::default()));
        }
        let mut is_counted = false;
        let mut better = |hold: &Hold| {
            let again = std::mem::replace(&mut is_counted, true);
            let better = if again { None } else { recount() };
            better.filter(|better| better != hold)
        };
        let (mut grants_by, mut turn_by) = (None, None);
        let mut patience = Patience {
            grants: true,
            turn: true,
        };
        let mut place: Option<Place> = None;
        loop {
            match self.attempt(&asking, patience, place.as_ref()) {
                Attempt::Reserved(mut charge) => {
                    charge.waited = grants_by.is_some() || turn_by.is_some();
                    return Ok(charge);
                }
                Attempt::Exceeded(refused) => match better(&asking.hold) {
                    Some(better) => asking.hold = better,
                    None => {
                        if let Some(spent) = &refused.limit {
                            spent.limit.denials.inc();
                        }
                        return Err(refused);
                    }
                },
                Attempt::Waits(mut waiting) => {
                    let by = *grants_by.get_or_insert_with(|| Instant::now() + PATIENCE);
                    let answered = waiting.answered.as_mut();
                    patience.grants = timeout_at(by, answered).await.is_ok();
                    asking.now = (asking.clock)();
                }
                Attempt::Crowded(joined) => {
                    place = joined.or(place);
                    if let Some(better) = better(&asking.hold) {
                        asking.hold = better;
                    } else if let Some(place) = &place {
                        let by = *turn_by.get_or_insert_with(|| Instant::now() + TURN);
                        patience.turn = timeout_at(by, place.turn()).await.is_ok();
                        asking.now = (asking.clock)();
                        asking.hold = recount().unwrap_or(asking.hold);
                    }
                }
            }
        }
    }

    fn charge(
        &self,
        asking: &Asking<'_>,
        held: SmallVec<[Option<Held>; 4]>,
        levels: Levels,
    ) -> Box<Charge> {
        Box::new(Charge {
            counters: Arc::clone(asking.counters),
            held,
            settled: false,
            estimate: asking.hold.cost,
            levels,
            warning: None,
            would_refuse: Vec::new(),
            waited: false,
            clock: asking.clock,
            settlements: Arc::clone(&self.settlements),
            store: self.store.clone(),
        })
    }

    fn attempt(&self, asking: &Asking<'_>, patience: Patience, place: Option<&Place>) -> Attempt {
        let (counters, hold, now) = (asking.counters.all(), &asking.hold, asking.now);
        let cost = &hold.cost;
        let mut guards: Guards<'_> = counters.iter().map(|(slot, _)| slot.state.lock()).collect();
        self.adapt(counters, &mut guards, now);
        let part = if asking.counters.unproved {
            match self.part(counters, &guards, cost) {
                Ok(part) => Some(part),
                Err(entry) => {
                    let exceeded = Exceeded {
                        entry,
                        wait: BUSY,
                        store_lost: false,
                    };
                    let mut entries = self.entries(counters, &mut guards);
                    let why = (exceeded, Cause::Unproved);
                    return Attempt::Exceeded(Box::new(refused(
                        counters,
                        &mut entries,
                        why,
                        asking,
                    )));
                }
            }
        } else if let Some(index) = self.crowded(counters, &guards, hold, place) {
            return self.queue(asking, guards, index, (patience.turn, place));
        } else {
            None
        };
        let mut entries = self.entries(counters, &mut guards);
        let reserved = match &part {
            // It fits as a whole; the rest is debited once a backend has accepted the caller.
            Some(part) => judge(&mut entries, cost, now).map(|()| debit(&mut entries, part, now)),
            None => reserve(&mut entries, cost, now),
        };
        match reserved {
            Ok(taken) => {
                let levels = Levels::of(&mut entries, now);
                drop(entries);
                let (held, would_refuse) = match &part {
                    Some(part) => (hold_part(counters, &mut guards, taken, part), Vec::new()),
                    None => hold_all(counters, &mut guards, taken, hold),
                };
                let warnings = warnings(asking.counters, &mut guards, now);
                self.borrow_ahead(counters, guards, now);
                let mut charge = self.charge(asking, held, levels);
                charge.warning = announced(counters, &warnings);
                charge.would_refuse = would_refuse;
                Attempt::Reserved(charge)
            }
            Err(shortfall) => {
                let exceeded = match &shortfall {
                    Shortfall::Exceeded(exceeded) => *exceeded,
                    Shortfall::Lacking(lacking) if patience.grants => {
                        drop(entries);
                        return self.borrow(cost, counters, guards, lacking, now);
                    }
                    Shortfall::Lacking(_) => Exceeded {
                        wait: BUSY,
                        ..shortfall.exceeded()
                    },
                };
                let why = (exceeded, cause(&exceeded));
                let refused = refused(counters, &mut entries, why, asking);
                Attempt::Exceeded(Box::new(refused))
            }
        }
    }

    /// Charges what happens anyway: a backend has accepted the caller of a call that it was asked. What does
    /// not fit a limit is debt.
    #[must_use]
    pub fn charge_anyway(&self, asking: Asking<'_>) -> Box<Charge> {
        let (counters, hold, now) = (asking.counters.all(), &asking.hold, asking.now);
        let mut guards: Guards<'_> = counters.iter().map(|(slot, _)| slot.state.lock()).collect();
        self.adapt(counters, &mut guards, now);
        let mut entries = self.entries(counters, &mut guards);
        let taken = debit(&mut entries, &hold.cost, now);
        let levels = Levels::of(&mut entries, now);
        drop(entries);
        let (held, would_refuse) = hold_all(counters, &mut guards, taken, hold);
        let warnings = warnings(asking.counters, &mut guards, now);
        self.borrow_ahead(counters, guards, now);
        for (slot, live) in counters {
            if !is_shared(live) {
                self.unproved.proved(slot.place);
            }
        }
        let mut charge = self.charge(&asking, held, levels);
        charge.warning = announced(counters, &warnings);
        charge.would_refuse = would_refuse;
        charge
    }

    /// What an unproved caller holds of what it asks. `Err`: of this limit others hold all that there is for
    /// callers of its kind.
    fn part(&self, counters: &Slots, guards: &Guards<'_>, cost: &Cost) -> Result<Cost, usize> {
        let mut held = *cost;
        for (index, ((_, live), guard)) in counters.iter().zip(guards).enumerate() {
            if is_parted(live) {
                let unit = live.limit.unit;
                let part = part(cost.of(unit), self.own_amount(live), guard.unproved);
                lower(&mut held, unit, part.ok_or(index)?);
            }
        }
        Ok(held)
    }

    /// The part of a limit that is this replica's, were it shared equally.
    fn own_amount(&self, live: &EnforcedLimit) -> u64 {
        let replicas = self.store.as_ref().map_or(1, |store| store.replicas());
        let amount = live.limit.amount;
        amount.checked_div(replicas).unwrap_or(amount)
    }

    /// The first enforced limit under which too many run that may use more than they hold, for this
    /// request to be another.
    fn crowded(
        &self,
        counters: &Slots,
        guards: &Guards<'_>,
        hold: &Hold,
        place: Option<&Place>,
    ) -> Option<usize> {
        counters.iter().zip(guards).position(|((_, live), guard)| {
            let exposure = hold.exposure(live.limit.unit);
            if exposure == 0 || live.mode() == Mode::Shadow {
                return false;
            }
            let told = place.map(Place::told);
            let amount = self.own_amount(live);
            !guard.exposure.admits(exposure, amount, told)
        })
    }

    /// Waits for others to end, unless a limit would refuse it anyway, or its patience is over.
    fn queue(
        &self,
        asking: &Asking<'_>,
        mut guards: Guards<'_>,
        index: usize,
        (patient, place): (bool, Option<&Place>),
    ) -> Attempt {
        let (counters, cost, now) = (asking.counters.all(), &asking.hold.cost, asking.now);
        let running = guards
            .get(index)
            .map_or(0, |guard| guard.exposure.running());
        let mut entries = self.entries(counters, &mut guards);
        let judged = judge(&mut entries, cost, now);
        let (exceeded, cause) = match judged {
            Err(Shortfall::Exceeded(exceeded)) => (exceeded, cause(&exceeded)),
            _ if patient => {
                drop(entries);
                let slot = counters.get(index).map(|(slot, _)| slot);
                let joins = slot.filter(|slot| !place.is_some_and(|place| place.is_of(slot)));
                let place = joins
                    .zip(guards.get_mut(index))
                    .map(|(slot, guard)| Place::join(&mut guard.exposure, slot));
                return Attempt::Crowded(place);
            }
            Ok(()) | Err(Shortfall::Lacking(_)) => {
                let exceeded = Exceeded {
                    entry: index,
                    wait: BUSY,
                    store_lost: false,
                };
                (exceeded, Cause::Exposed { running })
            }
        };
        let refused = refused(counters, &mut entries, (exceeded, cause), asking);
        Attempt::Exceeded(Box::new(refused))
    }

    /// Replaces counters whose window has another kind by now, and adopts changed limits.
    fn adapt(&self, counters: &Slots, guards: &mut Guards<'_>, now: Moment) {
        for (guard, (slot, live)) in guards.iter_mut().zip(counters) {
            if Arc::ptr_eq(&guard.by, live) {
                continue;
            }
            if !guard.counter.suits(&live.limit) {
                guard.counter = Counter::new(&live.limit, now);
                let counter = &mut guard.counter;
                self.carryover.apply(&live.flat.name, slot.key, counter);
                guard.escrow = self.store.is_some().then(|| Escrow::new(&live.limit));
            }
            guard.by = Arc::clone(live);
        }
    }

    fn entries<'g>(
        &self,
        counters: &Slots,
        guards: &'g mut Guards<'_>,
    ) -> SmallVec<[Entry<'g>; 4]> {
        let away = self.store.as_ref().filter(|store| !store.is_open());
        guards
            .iter_mut()
            .zip(counters)
            .map(|(guard, (_, live))| {
                let State {
                    counter,
                    escrow,
                    by,
                    ..
                } = &mut **guard;
                let loss = away.map(|store| Loss {
                    on: live.flat.quota.on_store_loss,
                    replicas: store.replicas(),
                    contact: store.contact(),
                });
                let backing = match (escrow, loss) {
                    (None, _) => Backing::Own,
                    (Some(escrow), None) => Backing::Lent(escrow),
                    (Some(escrow), Some(loss)) => Backing::Cut(escrow, loss),
                };
                Entry {
                    limit: &by.limit,
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
            let State { escrow, by, .. } = &mut **guard;
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
                    limit: by.limit.clone(),
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
                cause: Cause::Spent,
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
                let State { escrow, by, .. } = &mut **guard;
                if let Some(escrow) = escrow
                    && low
                    && live.mode() == Mode::Enforce
                    && escrow.joins(replicas, now)
                {
                    asked.push(Asked {
                        ask: escrow.request(0, replicas, now),
                        slot: Arc::clone(slot),
                        limit: by.limit.clone(),
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

/// The levels of `warnAt` that counters have reached, by their places.
fn warnings(
    counters: &Counters,
    guards: &mut Guards<'_>,
    now: Moment,
) -> SmallVec<[(usize, Warning); 1]> {
    if !counters.warn() {
        return SmallVec::new();
    }
    let guards = guards.iter_mut().enumerate();
    let reached = guards.filter_map(|(place, guard)| Some((place, guard.warning(now)?)));
    reached.collect()
}

/// Announces warnings; the largest per cent of an enforced limit, and its place.
fn announced(counters: &Slots, warnings: &[(usize, Warning)]) -> Option<(usize, u64)> {
    let mut largest: Option<(usize, u64)> = None;
    for (place, warning) in warnings {
        let Some((slot, live)) = counters.get(*place) else {
            continue;
        };
        warning.announce(slot, live);
        if live.mode() == Mode::Enforce && largest.is_none_or(|(_, other)| warning.percent > other)
        {
            largest = Some((*place, warning.percent));
        }
    }
    largest
}

const fn cause(exceeded: &Exceeded) -> Cause {
    if exceeded.store_lost {
        Cause::StoreLost
    } else {
        Cause::Spent
    }
}

fn refused(
    counters: &Slots,
    entries: &mut [Entry<'_>],
    (exceeded, cause): (Exceeded, Cause),
    asking: &Asking<'_>,
) -> Refused {
    let refusing = counters
        .get(exceeded.entry)
        .zip(entries.get_mut(exceeded.entry));
    Refused {
        limit: refusing.map(|((_, limit), entry)| Spent {
            limit: Arc::clone(limit),
            level: Level::of(entry, asking.now),
            asked: asking.hold.cost.of(entry.limit.unit),
        }),
        wait: exceeded.wait,
        cause,
    }
}
