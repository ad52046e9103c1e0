//! A rolling window as a ring of sub-buckets with a running sum.
//!
//! A window of length W is cut into K sub-buckets of length tau = W / K. An interval of length W
//! touches at most K + 1 of them, so a ring that keeps the sum of the last K + 1 at or below the
//! limit keeps **every** interval of length W below it. The price is at most 1/(K+1) of the limit.

/// Sub-buckets of one second in a minute: under-use is at most 1/61.
pub(super) const MINUTE_BUCKETS: u64 = 60;
/// Sub-buckets of 100 ms in a second: under-use is at most 1/11.
pub(super) const SECOND_BUCKETS: u64 = 10;
/// The two windows in milliseconds.
pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const SECOND_MS: u64 = 1_000;

/// The longest wait that is reported: a debt of N limits takes N windows to drain.
pub(super) const HORIZON_MS: u64 = 86_400_000;

/// Counts of the last K + 1 sub-buckets.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// `buckets[b % len]` is the charge of bucket `b`, for `head - K <= b <= head`.
    buckets: Box<[u64]>,
    /// Length of one bucket in milliseconds.
    tau_ms: u64,
    /// The newest bucket.
    head: u64,
    /// Sum of `buckets`.
    sum: u64,
    /// Use beyond the limit that is not drained yet; it takes the place of what expires.
    debt: u64,
}

impl Ring {
    pub(super) fn minute(now_ms: u64) -> Self {
        Self::new(MINUTE_BUCKETS, MINUTE_MS, now_ms)
    }

    pub(super) fn second(now_ms: u64) -> Self {
        Self::new(SECOND_BUCKETS, SECOND_MS, now_ms)
    }

    fn new(count: u64, window_ms: u64, now_ms: u64) -> Self {
        let tau_ms = window_ms.checked_div(count).unwrap_or(1).max(1);
        let len = usize::try_from(count.saturating_add(1)).unwrap_or(1);
        Self {
            buckets: vec![0; len].into_boxed_slice(),
            tau_ms,
            head: now_ms.checked_div(tau_ms).unwrap_or(0),
            sum: 0,
            debt: 0,
        }
    }

    /// Whether it cuts a window of this length into this number of sub-buckets.
    pub(super) fn spans(&self, count: u64, window_ms: u64) -> bool {
        self.len() == count.saturating_add(1) && self.tau_ms.saturating_mul(count) == window_ms
    }

    fn slot(&mut self, bucket: u64) -> Option<&mut u64> {
        let len = u64::try_from(self.buckets.len()).ok()?;
        let index = usize::try_from(bucket.checked_rem(len)?).ok()?;
        self.buckets.get_mut(index)
    }

    fn len(&self) -> u64 {
        u64::try_from(self.buckets.len()).unwrap_or(u64::MAX)
    }

    /// Moves on by one bucket: the oldest expires, debt takes its place.
    fn step(&mut self) {
        self.head = self.head.saturating_add(1);
        let paid_from = self.debt;
        let head = self.head;
        let Some(slot) = self.slot(head) else { return };
        let expired = *slot;
        let paid = expired.min(paid_from);
        *slot = paid;
        self.sum = self.sum.saturating_sub(expired).saturating_add(paid);
        self.debt = self.debt.saturating_sub(paid);
    }

    /// Brings the ring to `now_ms`. A clock that stands still or goes back changes nothing.
    pub(super) fn advance(&mut self, now_ms: u64) {
        // A request looks at its limits several times, and a division costs more than the rest of a look.
        if now_ms < self.head.saturating_add(1).saturating_mul(self.tau_ms) {
            return;
        }
        let now = now_ms.checked_div(self.tau_ms).unwrap_or(0);
        while self.head < now {
            if self.sum == 0 && self.debt == 0 {
                self.head = now;
                return;
            }
            self.step();
        }
    }

    pub(super) const fn used(&self) -> u64 {
        self.sum.saturating_add(self.debt)
    }

    /// The newest bucket, to be given back to [`Ring::refund`].
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Milliseconds until the newest bucket leaves.
    pub(super) fn head_leaves_in_ms(&self, now_ms: u64) -> u64 {
        let leaves = self.head.saturating_add(self.len());
        leaves.saturating_mul(self.tau_ms).saturating_sub(now_ms)
    }

    pub(super) fn charge(&mut self, amount: u64) {
        let head = self.head;
        if let Some(slot) = self.slot(head) {
            *slot = slot.saturating_add(amount);
            self.sum = self.sum.saturating_add(amount);
        }
    }

    /// Charges use beyond a reservation; what exceeds `limit` becomes debt.
    pub(super) fn overspend(&mut self, amount: u64, limit: u64) {
        let room = limit.saturating_sub(self.used());
        let fits = amount.min(room);
        self.charge(fits);
        self.debt = self.debt.saturating_add(amount.saturating_sub(fits));
    }

    /// Refunds to `bucket` what was reserved there and not used, if it still counts.
    pub(super) fn refund(&mut self, bucket: u64, amount: u64) {
        if bucket > self.head || self.head.saturating_sub(bucket) >= self.len() {
            return;
        }
        if let Some(slot) = self.slot(bucket) {
            let back = (*slot).min(amount);
            *slot = slot.saturating_sub(back);
            self.sum = self.sum.saturating_sub(back);
            // Debt takes the place at once. It drains with what expires; if nothing were left to
            // expire, it would block the limit for ever.
            let paid = self.debt.min(back);
            self.charge(paid);
            self.debt = self.debt.saturating_sub(paid);
        }
    }

    /// Milliseconds after `now_ms` until `ask` fits under `limit`, if nothing else is reserved.
    ///
    /// For refusals only: it replays the coming windows on a copy.
    pub(super) fn wait_ms(&self, ask: u64, limit: u64, now_ms: u64) -> u64 {
        let mut ahead = self.clone();
        let horizon = self
            .head
            .saturating_add(HORIZON_MS.checked_div(self.tau_ms).unwrap_or(1));
        while ahead.used().saturating_add(ask) > limit && ahead.head < horizon {
            ahead.step();
        }
        ahead
            .head
            .saturating_mul(self.tau_ms)
            .saturating_sub(now_ms)
            .max(1)
    }
}
