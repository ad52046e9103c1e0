//! How limits stand, and which of several is the tightest.

use proxy_core::names::Moment;
use proxy_core::quota::{Backing, Entry, Mode, Unit};

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How much is allowed per window.
    pub amount: u64,
    /// Used in the window, by all replicas as far as this one knows.
    pub used: u64,
    /// Until everything that is used has left the window.
    pub reset_ms: u64,
}

/// The tightest limits of the kinds that clients know headers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of limits on requests.
    pub requests: Option<Level>,
    /// Of limits on tokens of any kind.
    pub tokens: Option<Level>,
}

impl Level {
    /// How an entry's limit stands at `now`.
    pub(crate) fn of(entry: &mut Entry<'_>, now: Moment) -> Self {
        let here = entry.counter.used(entry.limit, now);
        let used = match &entry.backing {
            Backing::Own => here,
            Backing::Lent(escrow) | Backing::Cut(escrow, _) => escrow.used(here, now),
        };
        Self {
            amount: entry.limit.amount,
            used,
            reset_ms: entry.counter.empty_in_ms(entry.limit, now),
        }
    }

    /// What is left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.amount.saturating_sub(self.used)
    }

    /// Takes the place of a level that is less tight, or of none.
    fn tighten(self, tightest: &mut Option<Self>) {
        if tightest.is_none_or(|known| self.is_tighter(&known)) {
            *tightest = Some(self);
        }
    }

    /// Whether a smaller share of it is left; of equal shares, whether less is.
    fn is_tighter(&self, other: &Self) -> bool {
        let share = |level: &Self, whole: &Self| {
            u128::from(level.remaining()).saturating_mul(u128::from(whole.amount.max(1)))
        };
        (share(self, other), self.remaining()) < (share(other, self), other.remaining())
    }
}

impl Levels {
    /// The tightest enforced limit of each kind.
    pub(crate) fn of(entries: &mut [Entry<'_>], now: Moment) -> Self {
        let mut levels = Self::default();
        for entry in entries {
            if entry.mode == Mode::Enforce
                && let Some(tightest) = levels.of_kind(entry.limit.unit)
            {
                Level::of(entry, now).tighten(tightest);
            }
        }
        levels
    }

    /// Keeps `level` if it is the tightest of its kind so far.
    pub fn add(&mut self, unit: Unit, level: Level) {
        if let Some(tightest) = self.of_kind(unit) {
            level.tighten(tightest);
        }
    }

    fn of_kind(&mut self, unit: Unit) -> Option<&mut Option<Level>> {
        match unit {
            Unit::Requests => Some(&mut self.requests),
            Unit::InputTokens | Unit::OutputTokens | Unit::Tokens => Some(&mut self.tokens),
            // No client knows a header for these.
            Unit::CostMicros | Unit::Concurrency => None,
        }
    }
}
