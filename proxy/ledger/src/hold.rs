//! What a reserved request holds of its counters.

use parking_lot::MutexGuard;
use proxy_core::quota::{Cost, Hold, LimitName, Mode, Reservation};
use smallvec::SmallVec;

use crate::charge::Held;
use crate::counters::Slots;
use crate::limit::EnforcedLimit;
use crate::slot::State;
use crate::unproved::is_parted;

/// The counters of a request, locked in their order.
pub(crate) type Guards<'a> = SmallVec<[MutexGuard<'a, State>; 4]>;
/// What was debited from them.
type Taken = SmallVec<[Reservation; 4]>;

/// What is held of each counter, and what running requests may use beyond it. With the limits in mode `Shadow`
/// that would have refused it.
pub(crate) fn hold_all(
    counters: &Slots,
    guards: &mut Guards<'_>,
    taken: Taken,
    hold: &Hold,
) -> (SmallVec<[Option<Held>; 4]>, Vec<LimitName>) {
    let mut would_refuse = Vec::new();
    let held = held(counters, guards, taken, |live, guard, taken| {
        let unit = live.limit.unit;
        let exposure = hold.exposure(unit);
        guard.exposure.add(exposure);
        if taken.over && live.mode() == Mode::Shadow {
            live.shadow_denials.inc();
            would_refuse.push(live.flat.name.clone());
        }
        (hold.cost.of(unit), exposure, 0)
    });
    (held, would_refuse)
}

/// The same for an unproved caller: what it may use beyond it is bounded by there being one of them.
pub(crate) fn hold_part(
    counters: &Slots,
    guards: &mut Guards<'_>,
    taken: Taken,
    part: &Cost,
) -> SmallVec<[Option<Held>; 4]> {
    held(counters, guards, taken, |live, guard, _taken| {
        let ask = part.of(live.limit.unit);
        let unproved = if is_parted(live) { ask } else { 0 };
        guard.unproved = guard.unproved.saturating_add(unproved);
        (ask, 0, unproved)
    })
}

fn held(
    counters: &Slots,
    guards: &mut Guards<'_>,
    taken: Taken,
    mut parts: impl FnMut(&EnforcedLimit, &mut State, &Reservation) -> (u64, u64, u64),
) -> SmallVec<[Option<Held>; 4]> {
    let mut held = SmallVec::with_capacity(counters.len());
    for (((_, live), guard), taken) in counters.iter().zip(guards).zip(taken) {
        let (asked, exposure, unproved) = parts(live, guard, &taken);
        guard.reserved = guard.reserved.saturating_add(asked);
        held.push(Some(Held {
            taken,
            asked,
            exposure,
            unproved,
        }));
    }
    held
}
