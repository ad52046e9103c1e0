//! Limits, and the counters that enforce them.
//!
//! [`reserve`] **is** the check: it debits every counter of a request in one step, or none. Nothing
//! here answers "is there quota" without taking it. What was reserved is later corrected by
//! [`Counter::settle`]; what was used beyond the limit is carried as debt.
//!
//! Words: a `limit` is the declared rule, a `counter` its state for one subject, a `cost` what a
//! request asks for, a `stamp` where a reservation was debited.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;
use std::sync::Arc;

use crate::names::{Moment, ObjectName, Usage};

mod calendar;
mod counter;
mod escrow;
mod ring;
#[cfg(test)]
mod tests;

use counter::Stamp;
use escrow::Loan;

pub use calendar::{Period, TimeZone};
pub use counter::Counter;
pub use escrow::{Answer, Ask, Escrow, Part, Profile, Reckoning, Trip};

/// `namespace/quota/limit`: what a refusal names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName {
    /// The AIQuota.
    pub quota: ObjectName,
    /// The entry of its `limits`.
    pub limit: Arc<str>,
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quota, self.limit)
    }
}

/// Whom a counter counts, under the same name in every replica: the beginning of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(pub [u8; 16]);

/// What one replica has counted, for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// The limit.
    pub limit: LimitName,
    /// Whom it counts.
    pub key: SubjectKey,
    /// The same for people, such as `consumer=ns/name`; empty if the quota does not split.
    pub subject: Arc<str>,
    /// When the calendar period began; none for rolling windows and `Concurrency`.
    pub period_start_ms: Option<i64>,
    /// Used, what is reserved and debt included. Without a shared store: by this replica alone.
    pub used: u64,
    /// The part of it that running requests hold in this replica.
    pub reserved: u64,
    /// What this replica allows: with a shared store the whole limit, without its part.
    pub amount: u64,
}

/// A replica's part of what replicas that are gone used of a calendar period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The limit.
    pub limit: LimitName,
    /// Whom it counts.
    pub key: SubjectKey,
    /// When the period began.
    pub period_start_ms: i64,
    /// What counts as used here besides this replica's own use.
    pub amount: u64,
}

/// How the shared store of a replica's counters stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// There is none: counters are this replica's own.
    None,
    /// It answers.
    Ok,
    /// It does not answer; each limit does what its `onStoreLoss` says.
    Lost,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Input tokens, cached ones included.
    InputTokens,
    /// Output tokens, reasoning included.
    OutputTokens,
    /// Input and output tokens.
    Tokens,
    /// Micros of the installation's currency, by the deployments' prices.
    CostMicros,
    /// Requests that are running now.
    Concurrency,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Tokens,
        Self::CostMicros,
        Self::Concurrency,
    ];

    /// The CamelCase word used in objects, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "Requests",
            Self::InputTokens => "InputTokens",
            Self::OutputTokens => "OutputTokens",
            Self::Tokens => "Tokens",
            Self::CostMicros => "CostMicros",
            Self::Concurrency => "Concurrency",
        }
    }
}

/// Over which span a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Any second: rolling, ten sub-buckets.
    Second,
    /// Any minute: rolling, sixty sub-buckets.
    Minute,
    /// A calendar period in a time zone.
    Calendar(Period, TimeZone),
    /// None: what is held now (`Concurrency`).
    Held,
}

/// One entry of an AIQuota's `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name within the AIQuota.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// How much is allowed per window.
    pub amount: u64,
    /// The window.
    pub window: Window,
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuses what does not fit.
    #[default]
    Enforce,
    /// Counts and reports what it would refuse, refuses nothing.
    Shadow,
}

/// What a limit does when the shared store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// Each replica enforces limit / live replicas.
    #[default]
    Share,
    /// Refuse.
    Deny,
    /// Admit.
    Allow,
}

/// How counters of one limit split into subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// One counter for each consumer.
    Consumer,
    /// One for each model that clients ask for.
    Model,
    /// One for each AIRoute.
    Route,
    /// One for each value of the quota's `attribute`.
    Attribute,
}

/// What a request asks of its limits, or has used of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens.
    pub usage: Usage,
    /// Micros, by the price of the deployment (before it is known: the dearest candidate's).
    pub cost_micros: u64,
}

impl Cost {
    /// How much of `unit` this is.
    #[must_use]
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests | Unit::Concurrency => 1,
            Unit::InputTokens => self.usage.input_tokens,
            Unit::OutputTokens => self.usage.output_tokens,
            Unit::Tokens => self.usage.total_tokens(),
            Unit::CostMicros => self.cost_micros,
        }
    }
}

/// How long until the same request would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// This many milliseconds, at least 1.
    Millis(u64),
    /// It asks for more than the whole limit.
    Never,
}

/// How a limit counts that the shared store lends, while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What the quota says.
    pub on: OnStoreLoss,
    /// The limit divided by the replicas that lived when the store was last seen.
    pub share: u64,
}

/// Who counts for a limit.
#[derive(Debug)]
pub enum Backing<'a> {
    /// This replica, alone: the counter says what fits.
    Own,
    /// The shared store: what it lent says what fits.
    Lent(&'a mut Escrow),
    /// The shared store, which is away.
    Cut(&'a mut Escrow, Loss),
}

/// A counter taking part in one reservation.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The declared limit.
    pub limit: &'a Limit,
    /// Whether it refuses.
    pub mode: Mode,
    /// What this replica has used for the request's subject.
    pub counter: &'a mut Counter,
    /// Who decides whether more fits.
    pub backing: Backing<'a>,
}

/// Where one reservation was debited in one counter. Give it to [`Entry::settle`].
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    stamp: Stamp,
    reserved: u64,
    /// Boxed: without a store there is none, and every request holds some of these.
    loan: Option<Box<Loan>>,
    /// A shadowed limit would have refused it.
    pub over: bool,
}

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Index of the entry that asks for the longest wait.
    pub entry: usize,
    /// When the request would fit **every** enforced limit.
    pub wait: Wait,
    /// The store is away, and the quota says `Deny` or this replica's share is spent.
    pub store_lost: bool,
}

/// Why nothing was debited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// A limit is spent.
    Exceeded(Exceeded),
    /// More must be borrowed for these entries.
    Lacking(Vec<usize>),
}

/// When a request may come again that was refused since the store is away.
const STORE_WAIT_MS: u64 = 1_000;

enum Check {
    Fits,
    Lacks,
    Refuses(Wait),
}

/// Debits `cost` from all entries, or from none if an enforced one does not fit.
///
/// Returns what was taken of each entry, in order. Cost: one pass over the entries, no allocation
/// besides the answer.
///
/// # Errors
/// [`Shortfall`]; no counter has changed. That a limit is spent goes before a lack, so nothing is
/// borrowed for a request that is refused anyway.
pub fn reserve(
    entries: &mut [Entry<'_>],
    cost: &Cost,
    now: Moment,
) -> Result<Vec<Taken>, Shortfall> {
    let mut refused: Option<Exceeded> = None;
    let mut lacking = Vec::new();
    for (index, entry) in entries.iter_mut().enumerate() {
        match entry.check(cost.of(entry.limit.unit), now) {
            Check::Fits => {}
            Check::Lacks => lacking.push(index),
            Check::Refuses(wait) => {
                if refused.is_none_or(|worst| wait > worst.wait) {
                    refused = Some(Exceeded {
                        entry: index,
                        wait,
                        store_lost: matches!(entry.backing, Backing::Cut(..)),
                    });
                }
            }
        }
    }
    if let Some(exceeded) = refused {
        return Err(Shortfall::Exceeded(exceeded));
    }
    if !lacking.is_empty() {
        return Err(Shortfall::Lacking(lacking));
    }
    Ok(entries
        .iter_mut()
        .map(|entry| entry.debit(cost.of(entry.limit.unit), now))
        .collect())
}

impl<'a> Entry<'a> {
    /// A counter that nobody else counts for.
    #[must_use]
    pub const fn own(limit: &'a Limit, mode: Mode, counter: &'a mut Counter) -> Self {
        Self {
            limit,
            mode,
            counter,
            backing: Backing::Own,
        }
    }
}

impl Shortfall {
    /// Why a reservation was refused of whose entries nothing is borrowed.
    #[must_use]
    pub fn exceeded(&self) -> Exceeded {
        match self {
            Self::Exceeded(exceeded) => *exceeded,
            Self::Lacking(lacking) => Exceeded {
                entry: lacking.first().copied().unwrap_or(0),
                wait: Wait::Never,
                store_lost: false,
            },
        }
    }
}

impl Entry<'_> {
    fn check(&mut self, ask: u64, now: Moment) -> Check {
        if let Backing::Lent(escrow) | Backing::Cut(escrow, _) = &mut self.backing {
            escrow.adapt(self.limit.amount);
        }
        if self.mode == Mode::Shadow {
            return Check::Fits;
        }
        let judged = |fits: Result<(), Wait>| fits.map_or_else(Check::Refuses, |()| Check::Fits);
        match &self.backing {
            Backing::Own => judged(self.counter.fits(self.limit, ask, now)),
            Backing::Lent(_) | Backing::Cut(..) if ask > self.limit.amount => {
                Check::Refuses(Wait::Never)
            }
            Backing::Lent(escrow) | Backing::Cut(escrow, _) if escrow.available(now) >= ask => {
                Check::Fits
            }
            Backing::Lent(escrow) => escrow
                .refusal(ask, now)
                .map_or(Check::Lacks, Check::Refuses),
            Backing::Cut(_, loss) => match loss.on {
                OnStoreLoss::Allow => Check::Fits,
                OnStoreLoss::Deny => Check::Refuses(Wait::Millis(STORE_WAIT_MS)),
                OnStoreLoss::Share => {
                    let share = Limit {
                        amount: loss.share,
                        ..self.limit.clone()
                    };
                    // What never fits a share fits when the store is back.
                    judged(self.counter.fits(&share, ask, now).map_err(|wait| {
                        if wait == Wait::Never {
                            Wait::Millis(STORE_WAIT_MS)
                        } else {
                            wait
                        }
                    }))
                }
            },
        }
    }

    /// Whether `ask` would fit, and when, as far as is known here. For people who ask: it takes
    /// nothing, so the next request may have it. Only [`reserve`] decides.
    ///
    /// # Errors
    /// The wait, if nobody else asks meanwhile: exact for counters of one's own, and for what the
    /// store has refused just now; else the latest.
    pub fn forecast(&mut self, ask: u64, now: Moment) -> Result<(), Wait> {
        let (Backing::Lent(escrow) | Backing::Cut(escrow, _)) = &self.backing else {
            return self.counter.fits(self.limit, ask, now);
        };
        if ask > self.limit.amount {
            return Err(Wait::Never);
        }
        let here = self.counter.used(self.limit, now);
        let used = escrow.used_by_all(now).unwrap_or(here).max(here);
        if used.saturating_add(ask) <= self.limit.amount {
            return Ok(());
        }
        let latest = self.counter.empty_in_ms(self.limit, now).max(1);
        Err(escrow.refusal(ask, now).unwrap_or(Wait::Millis(latest)))
    }

    fn debit(&mut self, ask: u64, now: Moment) -> Taken {
        let stamp = self.counter.debit(self.limit, ask, now);
        let shadow = self.mode == Mode::Shadow;
        let (loan, over) = match &mut self.backing {
            Backing::Own => (None, stamp.over),
            Backing::Lent(escrow) | Backing::Cut(escrow, _) if shadow => {
                let used = escrow.used_by_all(now).unwrap_or(0);
                let over = used.saturating_add(ask) > self.limit.amount;
                (Some(escrow.watch(ask)), over || stamp.over)
            }
            Backing::Lent(escrow) => (Some(escrow.take(ask, now)), false),
            Backing::Cut(escrow, _) => {
                let lent = escrow.available(now) >= ask;
                let loan = if lent {
                    escrow.take(ask, now)
                } else {
                    escrow.overdraw(ask)
                };
                (Some(loan), false)
            }
        };
        Taken {
            stamp,
            reserved: ask,
            loan: loan.map(Box::new),
            over,
        }
    }

    /// Replaces what was `taken` by what was used; a held place is freed. The backing may be another
    /// one than when it was taken.
    #[expect(clippy::needless_pass_by_value, reason = "it is settled once")]
    pub fn settle(&mut self, taken: Taken, actual: u64, now: Moment) {
        self.counter.settle(self.limit, taken.stamp, actual, now);
        if let (Some(loan), Backing::Lent(escrow) | Backing::Cut(escrow, _)) =
            (&taken.loan, &mut self.backing)
        {
            escrow.settle(loan, taken.reserved, actual, now);
        }
    }
}
