//! How fast a replica spends, and in which portions.

/// Use per lease, and the largest request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The lease that is being spent, counted from the clock's zero.
    turn: u64,
    spent: u64,
    average: u64,
    largest: u64,
}

/// After this many idle leases nothing is left of the average: each halves it.
const REMEMBERED: u64 = 16;

impl Pace {
    pub(super) fn spend(&mut self, ask: u64, now_ms: u64, lease_ms: u64) {
        let turn = now_ms.checked_div(lease_ms).unwrap_or(0);
        for _ in 0..turn.saturating_sub(self.turn).min(REMEMBERED) {
            // An average over the last two or so follows a burst and outlives a pause.
            self.average = self.average.saturating_add(self.spent) / 2;
            self.spent = 0;
            self.largest = self.largest.saturating_sub(self.largest / 16);
        }
        self.turn = self.turn.max(turn);
        self.spent = self.spent.saturating_add(ask);
        self.largest = self.largest.max(ask);
    }

    pub(super) const fn largest(&self) -> u64 {
        self.largest
    }

    /// Whether this lease is like those before; a burst may be over soon.
    pub(super) const fn is_steady(&self) -> bool {
        self.spent <= self.average.saturating_mul(2)
    }

    /// What the next lease will need, and a fifth more.
    pub(super) fn expected(&self) -> u64 {
        let use_per_lease = self.average.max(self.spent);
        use_per_lease.saturating_add(use_per_lease.div_ceil(5))
    }
}
