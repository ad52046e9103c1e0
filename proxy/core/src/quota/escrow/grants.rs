//! Grants of a rolling or calendar limit: spent once, and what is left over is returned to the bucket
//! that was charged.

use std::collections::VecDeque;

/// An amount in one bucket, or in one calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The bucket's number by the store's clock; of a calendar period its start.
    pub at: i64,
    /// How much.
    pub amount: u64,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    at: i64,
    left: u64,
    /// It may not be spent from then on, by the monotonic clock.
    until_ms: u64,
}

/// What one reservation took out of the grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Withdrawal {
    /// Most reservations fit one grant.
    first: Option<Slice>,
    more: Vec<Slice>,
    /// Used without a grant, and owed since then.
    owed: u64,
}

/// The grants of one counter, and what the store must hear of them.
#[derive(Debug)]
pub(super) struct Grants {
    /// The longest grant, in leases.
    reach: u64,
    /// How many leases the last grant lasted that could last longer than one.
    lasted: u64,
    /// The one that ends soonest first.
    grants: VecDeque<Grant>,
    returns: Vec<Slice>,
    owed: u64,
}

// === impl Withdrawal ===

impl Withdrawal {
    /// Nothing but a debt.
    pub(super) fn owed(owed: u64) -> Self {
        Self {
            owed,
            ..Self::default()
        }
    }

    pub(super) const fn is_owed(&self) -> bool {
        self.owed > 0
    }

    fn push(&mut self, slice: Slice) {
        match self.first {
            None => self.first = Some(slice),
            Some(_) => self.more.push(slice),
        }
    }

    fn amount(&self) -> u64 {
        let first = self.first.map_or(0, |slice| slice.amount);
        let more = self.more.iter();
        more.fold(first, |sum, slice| sum.saturating_add(slice.amount))
    }

    fn newest_first(&self) -> impl Iterator<Item = Slice> {
        self.more.iter().rev().copied().chain(self.first)
    }
}

// === impl Grants ===

impl Grants {
    pub(super) const fn new(reach: u64) -> Self {
        Self {
            reach,
            lasted: 1,
            grants: VecDeque::new(),
            returns: Vec::new(),
            owed: 0,
        }
    }

    pub(super) const fn reach(&self) -> u64 {
        self.reach
    }

    pub(super) const fn lasted(&self) -> u64 {
        self.lasted
    }

    pub(super) const fn owed(&self) -> u64 {
        self.owed
    }

    /// What can still be spent at `when_ms`.
    pub(super) fn lasting(&self, when_ms: u64) -> u64 {
        let valid = self.grants.iter().filter(|grant| grant.until_ms > when_ms);
        valid.fold(0, |sum, grant| sum.saturating_add(grant.left))
    }

    /// What is marked for return.
    pub(super) fn returns(&self) -> &[Slice] {
        &self.returns
    }

    /// How much that is.
    pub(super) fn returned(&self) -> u64 {
        let returns = self.returns.iter();
        returns.fold(0, |sum, slice| sum.saturating_add(slice.amount))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.grants.is_empty() && !self.has_report()
    }

    /// Whether the store must hear of something.
    pub(super) const fn has_report(&self) -> bool {
        !self.returns.is_empty() || self.owed > 0
    }

    /// What the store must hear: the returns, and what is owed.
    pub(super) fn take_report(&mut self) -> (Vec<Slice>, u64) {
        (
            std::mem::take(&mut self.returns),
            std::mem::take(&mut self.owed),
        )
    }

    /// Adds a grant that may be spent until `until_ms`; `lasted` in leases if it could last longer than
    /// one.
    pub(super) fn add(&mut self, slice: Slice, until_ms: u64, lasted: Option<u64>) {
        self.lasted = lasted.unwrap_or(self.lasted);
        let sooner = |grant: &Grant| grant.until_ms <= until_ms;
        let place = self.grants.partition_point(sooner);
        let grant = Grant {
            at: slice.at,
            left: slice.amount,
            until_ms,
        };
        self.grants.insert(place, grant);
    }

    /// Spends `ask`, from the grant that ends soonest on.
    pub(super) fn take(&mut self, ask: u64, now_ms: u64) -> Withdrawal {
        let mut withdrawal = Withdrawal::default();
        let mut open = ask;
        for grant in &mut self.grants {
            if open == 0 {
                break;
            }
            if grant.until_ms <= now_ms || grant.left == 0 {
                continue;
            }
            let amount = grant.left.min(open);
            grant.left = grant.left.saturating_sub(amount);
            open = open.saturating_sub(amount);
            withdrawal.push(Slice {
                at: grant.at,
                amount,
            });
        }
        self.grants.retain(|grant| grant.left > 0);
        withdrawal
    }

    pub(super) const fn owe(&mut self, amount: u64) {
        self.owed = self.owed.saturating_add(amount);
    }

    /// Replaces `reserved` by `actual` in what is owed.
    pub(super) const fn correct(&mut self, reserved: u64, actual: u64) {
        self.owed = self
            .owed
            .saturating_sub(reserved.saturating_sub(actual))
            .saturating_add(actual.saturating_sub(reserved));
    }

    /// Replaces what `withdrawal` took by `actual`: more is owed, less goes back, newest grant first.
    pub(super) fn settle(&mut self, withdrawal: &Withdrawal, actual: u64, now_ms: u64) {
        let lent = withdrawal.amount();
        self.owe(actual.saturating_sub(lent));
        let mut back = lent.saturating_sub(actual);
        for slice in withdrawal.newest_first() {
            let amount = slice.amount.min(back);
            if amount > 0 {
                self.put_back(
                    Slice {
                        at: slice.at,
                        amount,
                    },
                    now_ms,
                );
            }
            back = back.saturating_sub(amount);
        }
    }

    /// Keeps it for the next request while a grant of the same bucket is valid, else returns it.
    fn put_back(&mut self, slice: Slice, now_ms: u64) {
        let valid = |grant: &&mut Grant| grant.at == slice.at && grant.until_ms > now_ms;
        match self.grants.iter_mut().rev().find(valid) {
            Some(grant) => grant.left = grant.left.saturating_add(slice.amount),
            None => self.give_back(slice),
        }
    }

    fn give_back(&mut self, slice: Slice) {
        match self.returns.iter_mut().find(|known| known.at == slice.at) {
            Some(known) => known.amount = known.amount.saturating_add(slice.amount),
            None => self.returns.push(slice),
        }
    }

    /// Marks for return what can no longer be spent.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some(grant) = self.grants.front().copied()
            && grant.until_ms <= now_ms
        {
            self.grants.pop_front();
            self.give_back(Slice {
                at: grant.at,
                amount: grant.left,
            });
        }
    }

    /// Marks everything for return.
    pub(super) fn surrender(&mut self) {
        self.expire(u64::MAX);
    }

    /// The store lost its data: grants and returns are void, and `used` is owed.
    pub(super) fn forget(&mut self, used: u64) {
        self.grants.clear();
        self.returns.clear();
        self.owed = used;
    }
}
