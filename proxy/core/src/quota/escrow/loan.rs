//! What a reservation took out of an escrow, part by part: so it is given back where it was charged.

/// A part of one bucket, or of one calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bucket's number by the store's clock; of a calendar period its start.
    pub at: i64,
    /// How much.
    pub amount: u64,
}

/// What one reservation took out of an escrow. Give it back with [`Escrow::settle`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loan {
    /// Most reservations fit one grant.
    first: Option<Part>,
    more: Vec<Part>,
    /// Used without a grant, and owed since then.
    pub(super) owed: u64,
    /// The life of the store's data that it was taken in.
    pub(super) life: u64,
}

impl Loan {
    /// Nothing yet.
    pub(super) fn new(life: u64) -> Self {
        Self {
            life,
            ..Self::default()
        }
    }

    /// Nothing but what is owed.
    pub(super) fn owing(owed: u64, life: u64) -> Self {
        Self {
            owed,
            ..Self::new(life)
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        match self.first {
            None => self.first = Some(part),
            Some(_) => self.more.push(part),
        }
    }

    pub(super) fn amount(&self) -> u64 {
        let first = self.first.map_or(0, |part| part.amount);
        self.more
            .iter()
            .fold(first, |sum, part| sum.saturating_add(part.amount))
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = Part> {
        self.more.iter().rev().copied().chain(self.first)
    }
}
