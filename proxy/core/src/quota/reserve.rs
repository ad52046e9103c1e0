//! Reserving: debits all counters of a request, or none.

use super::counter::{Counter, Stamp};
use super::escrow::{Escrow, Lease};
use super::limit::{Cost, Limit, Mode, OnStoreLoss, Wait};
use super::loss::Loss;
use crate::names::Moment;

/// What decides whether more fits a limit.
#[derive(Debug)]
pub enum Backing<'a> {
    /// The counter of this replica alone.
    Own,
    /// What the shared store lent.
    Lent(&'a mut Escrow),
    /// The shared store, which does not answer.
    Cut(&'a mut Escrow, Loss),
}

/// A counter taking part in one reservation.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The declared limit.
    pub limit: &'a Limit,
    /// Whether it refuses.
    pub mode: Mode,
    /// What this replica has used for the subject.
    pub counter: &'a mut Counter,
    /// What decides whether more fits.
    pub backing: Backing<'a>,
}

/// What was debited from one counter for one request, and where. Give it to [`Entry::settle`].
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    stamp: Stamp,
    reserved: u64,
    /// Boxed: without a store there is none, and every request holds some reservations.
    lease: Option<Box<Lease>>,
    /// A limit in shadow mode would have refused it.
    pub over: bool,
}

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Index of the entry with the longest wait.
    pub entry: usize,
    /// When the request would fit **every** enforced limit.
    pub wait: Wait,
    /// The store does not answer, and the quota says `Deny` or this replica's share is spent.
    pub store_lost: bool,
}

/// Why nothing was debited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// A limit is spent.
    Exceeded(Exceeded),
    /// The store must lend more for these entries.
    Lacking(Vec<usize>),
}

/// The wait of a request that is refused because the store does not answer: a new connection takes at
/// most this long.
const STORE_WAIT_MS: u64 = 1_000;

enum Check {
    Fits,
    Lacks,
    Refuses(Wait),
}

/// Debits `cost` from all entries, or from none of them when an enforced one does not fit.
///
/// Returns one reservation per entry, in order. Cost: two passes over the entries, no allocation
/// besides what the result needs.
///
/// # Errors
/// [`Shortfall`]; no counter has changed. A spent limit goes before a lack, so nothing is borrowed
/// for a request that is refused anyway.
pub fn reserve<R: FromIterator<Reservation>>(
    entries: &mut [Entry<'_>],
    cost: &Cost,
    now: Moment,
) -> Result<R, Shortfall> {
    judge(entries, cost, now)?;
    Ok(debit(entries, cost, now))
}

/// Debits `cost` from all entries, also where it does not fit: what happened anyway. What exceeds a limit is
/// debt.
pub fn debit<R: FromIterator<Reservation>>(
    entries: &mut [Entry<'_>],
    cost: &Cost,
    now: Moment,
) -> R {
    let debited = entries.iter_mut();
    debited
        .map(|entry| entry.debit(cost.of(entry.limit.unit), now))
        .collect()
}

/// Whether [`reserve`] would debit `cost` at this moment. For requests that wait for another reason:
/// what a limit refuses need not wait.
///
/// # Errors
/// As [`reserve`].
pub fn judge(entries: &mut [Entry<'_>], cost: &Cost, now: Moment) -> Result<(), Shortfall> {
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
    Ok(())
}

impl<'a> Entry<'a> {
    /// A counter of this replica alone.
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
    /// The refusal if nothing can be borrowed.
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
        if self.limit.admits_nothing() {
            return Check::Refuses(Wait::Never);
        }
        match &self.backing {
            Backing::Own => judged(self.counter.fits(self.limit, ask, now)),
            Backing::Lent(_) | Backing::Cut(..) if ask > self.limit.amount => {
                Check::Refuses(Wait::Never)
            }
            Backing::Cut(_, loss) if loss.on == OnStoreLoss::Share => judged(self.shares(ask, now)),
            Backing::Lent(escrow) | Backing::Cut(escrow, _) if escrow.available(now) >= ask => {
                Check::Fits
            }
            Backing::Lent(escrow) => escrow
                .refusal(ask, now)
                .map_or(Check::Lacks, Check::Refuses),
            Backing::Cut(_, loss) => match loss.on {
                OnStoreLoss::Allow => Check::Fits,
                OnStoreLoss::Deny | OnStoreLoss::Share => {
                    Check::Refuses(Wait::Millis(STORE_WAIT_MS))
                }
            },
        }
    }

    /// Whether `ask` fits what is left to this replica while the store is away.
    fn shares(&mut self, ask: u64, now: Moment) -> Result<(), Wait> {
        let Backing::Cut(escrow, loss) = &mut self.backing else {
            return Ok(());
        };
        let period = self.counter.period_start_ms(self.limit, now);
        if let Some(left) = escrow.share(self.limit, period, loss, now) {
            let fits = (ask <= left).then_some(());
            return fits.ok_or(Wait::Millis(STORE_WAIT_MS));
        }
        let amount = self.limit.amount.checked_div(loss.replicas);
        let share = Limit {
            amount: amount.unwrap_or(self.limit.amount),
            ..self.limit.clone()
        };
        // A request larger than the share may fit once the store is back.
        self.counter.fits(&share, ask, now).map_err(|wait| {
            if wait == Wait::Never {
                Wait::Millis(STORE_WAIT_MS)
            } else {
                wait
            }
        })
    }

    /// Whether `ask` would fit, and when, as far as this replica knows. Takes nothing, so another
    /// request may come first; only [`reserve`] decides.
    ///
    /// # Errors
    /// The wait without other requests. It is exact for counters of this replica alone and after a
    /// recent refusal of the store; else it is the longest possible.
    pub fn forecast(&mut self, ask: u64, now: Moment) -> Result<(), Wait> {
        if self.limit.admits_nothing() {
            return Err(Wait::Never);
        }
        let (Backing::Lent(escrow) | Backing::Cut(escrow, _)) = &self.backing else {
            return self.counter.fits(self.limit, ask, now);
        };
        if ask > self.limit.amount {
            return Err(Wait::Never);
        }
        let here = self.counter.used(self.limit, now);
        let used = escrow.used(here, now);
        if used.saturating_add(ask) <= self.limit.amount {
            return Ok(());
        }
        let latest = self.counter.empty_in_ms(self.limit, now).max(1);
        Err(escrow.refusal(ask, now).unwrap_or(Wait::Millis(latest)))
    }

    fn debit(&mut self, ask: u64, now: Moment) -> Reservation {
        let mut stamp = self.counter.debit(self.limit, ask, now);
        stamp.over |= self.limit.admits_nothing();
        let shadow = self.mode == Mode::Shadow;
        let (lease, over) = match &mut self.backing {
            Backing::Own => (None, stamp.over),
            Backing::Lent(escrow) | Backing::Cut(escrow, _) if shadow => {
                let used = escrow.used_by_all(now).unwrap_or(0);
                let over = used.saturating_add(ask) > self.limit.amount;
                (Some(escrow.watch(ask)), over || stamp.over)
            }
            Backing::Lent(escrow) | Backing::Cut(escrow, _) => {
                let lent = escrow.available(now) >= ask;
                let lease = if lent {
                    escrow.take(ask, now)
                } else {
                    escrow.overdraw(ask)
                };
                (Some(lease), false)
            }
        };
        Reservation {
            stamp,
            reserved: ask,
            lease: lease.map(Box::new),
            over,
        }
    }

    /// Replaces what was reserved by what was used; a permit is freed. The backing may have changed
    /// since the reservation.
    #[expect(clippy::needless_pass_by_value, reason = "it is settled once")]
    pub fn settle(&mut self, reservation: Reservation, actual: u64, now: Moment) {
        self.counter
            .settle(self.limit, reservation.stamp, actual, now);
        if let (Some(lease), Backing::Lent(escrow) | Backing::Cut(escrow, _)) =
            (&reservation.lease, &mut self.backing)
        {
            escrow.settle(lease, reservation.reserved, actual, now);
        }
    }
}
