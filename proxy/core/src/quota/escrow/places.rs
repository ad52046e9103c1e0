//! Places of a `Concurrency` limit. They are not used up: the store is told how many a replica holds,
//! again and again, and forgets a replica that is silent for a lease.

#[derive(Debug, Default)]
pub(super) struct Places {
    /// Lent and free.
    idle: u64,
    occupied: u64,
    /// When the store forgets what is held here.
    until_ms: u64,
    /// What the store was told last, and when it answered.
    told: u64,
    told_ms: u64,
    /// Whether it heard that is not known.
    doubtful: bool,
    turn: u64,
}

impl Places {
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
        self.held() == 0 && self.told == 0
    }

    pub(super) const fn occupy(&mut self, count: u64) {
        self.idle = self.idle.saturating_sub(count);
        self.occupied = self.occupied.saturating_add(count);
    }

    /// Occupies places that nobody lent.
    pub(super) const fn overfill(&mut self, count: u64) {
        self.occupied = self.occupied.saturating_add(count);
    }

    /// What is freed stays here for the next request, until [`Places::release_idle`].
    pub(super) const fn free(&mut self, count: u64) {
        self.occupied = self.occupied.saturating_sub(count);
        // Of what was occupied without a grant nothing is lent.
        if self.held().saturating_add(count) <= self.told {
            self.idle = self.idle.saturating_add(count);
        }
    }

    pub(super) const fn release_idle(&mut self, keep: u64) {
        if self.idle > keep {
            self.idle = keep;
        }
    }

    /// A quarter of what is occupied, at most `cap`.
    pub(super) fn target(&self, cap: u64) -> u64 {
        (self.occupied / 4).max(1).min(cap)
    }

    /// Whether the store knows something else than is true, or has not heard it for long.
    pub(super) const fn is_due(&self, now_ms: u64, lease_ms: u64) -> bool {
        let silent = now_ms.saturating_sub(self.told_ms) >= lease_ms / 3;
        self.doubtful || self.held() != self.told || (self.held() > 0 && silent)
    }

    /// Takes an answer: so much is lent, and the store was `told` to hold so much for this replica.
    pub(super) const fn granted(&mut self, granted: u64, told: u64, until_ms: u64, now_ms: u64) {
        // Lent places whose lease was over are not there any more.
        if self.until_ms <= now_ms {
            self.idle = 0;
        }
        self.idle = self.idle.saturating_add(granted);
        self.until_ms = until_ms;
        self.told = told;
        self.told_ms = now_ms;
        self.doubtful = false;
    }

    /// The number of the next call.
    pub(super) const fn turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }

    /// A call was lost.
    pub(super) const fn doubt(&mut self) {
        self.doubtful = true;
    }
}
