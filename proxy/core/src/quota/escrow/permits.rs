//! Permits of a `Concurrency` limit. They are not used up: a replica reports again and again how many
//! it holds, and the store drops a replica that is silent for a lease.

#[derive(Debug, Default)]
pub(super) struct Permits {
    /// Granted and free.
    idle: u64,
    occupied: u64,
    /// When the store drops what this replica holds.
    until_ms: u64,
    /// What the store heard last, and when it answered.
    reported: u64,
    reported_ms: u64,
    /// Whether the last report arrived is unknown.
    doubtful: bool,
    turn: u64,
}

impl Permits {
    pub(super) const fn idle(&self, when_ms: u64) -> u64 {
        if self.until_ms > when_ms {
            self.idle
        } else {
            0
        }
    }

    pub(super) const fn held(&self) -> u64 {
        self.idle.saturating_add(self.occupied)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.held() == 0 && self.reported == 0
    }

    pub(super) const fn occupy(&mut self, count: u64) {
        self.idle = self.idle.saturating_sub(count);
        self.occupied = self.occupied.saturating_add(count);
    }

    /// Runs requests without a permit.
    pub(super) const fn overfill(&mut self, count: u64) {
        self.occupied = self.occupied.saturating_add(count);
    }

    /// Frees permits; they stay here for the next request, until [`Permits::release_idle`].
    pub(super) const fn free(&mut self, count: u64) {
        self.occupied = self.occupied.saturating_sub(count);
        // A request that ran without a permit leaves none.
        if self.held().saturating_add(count) <= self.reported {
            self.idle = self.idle.saturating_add(count);
        }
    }

    pub(super) const fn release_idle(&mut self, keep: u64) {
        if self.idle > keep {
            self.idle = keep;
        }
    }

    /// How many more requests may run if `part` permits are added to those that the store knows of.
    pub(super) const fn left(&self, part: u64) -> u64 {
        self.reported
            .saturating_add(part)
            .saturating_sub(self.occupied)
    }

    /// How many to keep idle: a quarter of the occupied ones, at least one, and at most `cap`.
    pub(super) fn target(&self, cap: u64) -> u64 {
        (self.occupied / 4).max(1).min(cap)
    }

    /// Whether the store's number is wrong, or a third of a lease old.
    pub(super) const fn is_due(&self, now_ms: u64, lease_ms: u64) -> bool {
        let silent = now_ms.saturating_sub(self.reported_ms) >= lease_ms / 3;
        self.doubtful || self.held() != self.reported || (self.held() > 0 && silent)
    }

    /// Takes `granted` permits; the store now counts `reported` for this replica until `until_ms`.
    pub(super) const fn grant(&mut self, granted: u64, reported: u64, until_ms: u64, now_ms: u64) {
        // The lease of idle permits had ended: the store has lent them to others.
        if self.until_ms <= now_ms {
            self.idle = 0;
        }
        self.idle = self.idle.saturating_add(granted);
        self.until_ms = until_ms;
        self.reported = reported;
        self.reported_ms = now_ms;
        self.doubtful = false;
    }

    /// The number of the next request.
    pub(super) const fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }

    /// A request was lost.
    pub(super) const fn doubt(&mut self) {
        self.doubtful = true;
    }
}
