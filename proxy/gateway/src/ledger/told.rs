//! What clients are told of their limits: how the tightest stand, and why one refuses.

use proxy_core::admit::Denial;
use proxy_core::names::{Code, Moment};
use proxy_core::quota::{Backing, Cost, Entry, Exceeded, Mode, Wait};

use super::reserve::Counters;
use crate::answer::{Level, Levels, Refusal, Spent};

/// What all replicas have used of an entry's limit, as far as this one knows.
fn used(entry: &mut Entry<'_>, now: Moment) -> u64 {
    let here = entry.counter.used(entry.limit, now);
    match &entry.backing {
        Backing::Own => here,
        Backing::Lent(escrow) | Backing::Cut(escrow, _) => escrow.used(here, now),
    }
}

/// The tightest enforced limit of each kind that clients know headers for, after the reservation.
pub(super) fn levels(entries: &mut [Entry<'_>], now: Moment) -> Levels {
    let mut levels = Levels::default();
    for entry in entries {
        if entry.mode == Mode::Shadow {
            continue;
        }
        let level = Level {
            amount: entry.limit.amount,
            used: used(entry, now),
            reset_ms: entry.counter.empty_in_ms(entry.limit, now),
        };
        levels.add(entry.limit.unit, level);
    }
    levels
}

/// The answer to a request that an entry refuses.
pub(super) fn refusal(
    counters: &Counters<'_>,
    entries: &mut [Entry<'_>],
    exceeded: Exceeded,
    cost: &Cost,
    now: Moment,
) -> Refusal {
    let (Some((_, live)), Some(entry)) = (
        counters.get(exceeded.entry),
        entries.get_mut(exceeded.entry),
    ) else {
        return Refusal::new(Code::QuotaExceeded, "a limit is spent");
    };
    let limit = entry.limit;
    let name = live.flat.name.clone();
    let level = Level {
        amount: limit.amount,
        used: used(entry, now),
        reset_ms: entry.counter.empty_in_ms(limit, now),
    };
    let (used, ask) = (level.used, cost.of(limit.unit));
    let (amount, unit) = (limit.amount, limit.unit.as_str());
    let message = match exceeded.wait {
        Wait::Never => format!(
            "limit {name} allows {amount} {unit} in all, this request needs {ask}; lower max_tokens \
             or shorten the input"
        ),
        Wait::Millis(wait) if exceeded.store_lost => format!(
            "limit {name} cannot be counted, since the quota store is away, and this replica's part is \
             spent or nothing is admitted meanwhile; retry in {} s",
            wait.div_ceil(1_000)
        ),
        Wait::Millis(wait) => format!(
            "limit {name} is spent: {used} of {amount} {unit} used, this request needs {ask}; \
             retry in {} s",
            wait.div_ceil(1_000)
        ),
    };
    Refusal {
        denial: Denial::new(limit.code(), message),
        limit: Some(Spent {
            name,
            unit: limit.unit,
            level,
        }),
        wait: Some(exceeded.wait),
        close: false,
    }
}
