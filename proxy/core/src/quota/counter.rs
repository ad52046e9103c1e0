//! The state of one limit for one subject.

use super::calendar::Span;
use super::limit::{Limit, Wait};
use super::ring::{MINUTE_BUCKETS, MINUTE_MS, Ring, SECOND_BUCKETS, SECOND_MS};
use super::window::Window;
use crate::names::Moment;

/// The wait reported by a full concurrency limit: when a running request ends cannot be foreseen.
const CONCURRENCY_WAIT_MS: u64 = 1_000;

/// Where and how much a reservation was debited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Rolling: the bucket. Calendar: the start of the period.
    at: i64,
    /// What was debited.
    reserved: u64,
    /// The counter exceeded the limit after it, which only shadow mode allows.
    pub(super) over: bool,
}

/// How much of a limit a subject has used; not `Clone`, since a copy would count twice.
#[derive(Debug)]
pub struct Counter {
    state: State,
}

#[derive(Debug)]
enum State {
    Rolling(Ring),
    Calendar {
        span: Span,
        used: u64,
        debt: u64,
        /// This replica's share of what departed replicas used of the period.
        carried: u64,
    },
    Held {
        running: u64,
    },
}

impl Counter {
    /// An untouched counter for `limit`.
    #[must_use]
    pub fn new(limit: &Limit, now: Moment) -> Self {
        let state = match &limit.window {
            Window::Second => State::Rolling(Ring::second(now.monotonic_ms)),
            Window::Minute => State::Rolling(Ring::minute(now.monotonic_ms)),
            Window::Calendar(period, zone) => State::Calendar {
                span: period.around(zone, now.unix_ms),
                used: 0,
                debt: 0,
                carried: 0,
            },
            Window::Held => State::Held { running: 0 },
        };
        Self { state }
    }

    /// What is used or held at `now`, debt and carried use included.
    pub fn used(&mut self, limit: &Limit, now: Moment) -> u64 {
        let own = self.own_used(limit, now);
        match &self.state {
            State::Calendar { carried, .. } => own.saturating_add(*carried),
            State::Rolling(_) | State::Held { .. } => own,
        }
    }

    /// What is used or held by this replica at `now`, debt included.
    pub fn own_used(&mut self, limit: &Limit, now: Moment) -> u64 {
        self.advance(limit, now);
        match &self.state {
            State::Rolling(ring) => ring.used(),
            State::Calendar { used, debt, .. } => used.saturating_add(*debt),
            State::Held { running } => *running,
        }
    }

    /// The start of the calendar period of `now`; `None` for other windows.
    pub fn period_start_ms(&mut self, limit: &Limit, now: Moment) -> Option<i64> {
        self.advance(limit, now);
        match &self.state {
            State::Calendar { span, .. } => Some(span.start),
            State::Rolling(_) | State::Held { .. } => None,
        }
    }

    /// Sets this replica's share of what departed replicas used of the period that began then.
    pub fn carry(&mut self, period_start_ms: i64, amount: u64) {
        if let State::Calendar { span, carried, .. } = &mut self.state
            && span.start == period_start_ms
        {
            *carried = amount;
        }
    }

    /// Removes the share of departed replicas.
    pub const fn carry_nothing(&mut self) {
        if let State::Calendar { carried, .. } = &mut self.state {
            *carried = 0;
        }
    }

    /// Latest time in milliseconds until everything used now has left the window.
    pub fn reset_ms(&mut self, limit: &Limit, now: Moment) -> u64 {
        self.advance(limit, now);
        match &self.state {
            State::Rolling(ring) if ring.used() == 0 => 0,
            State::Rolling(ring) => ring.wait_ms(limit.amount, limit.amount, now.monotonic_ms),
            State::Calendar { span, .. } => until(span.end, now),
            State::Held { .. } => 0,
        }
    }

    /// Milliseconds until everything has left the window if something is debited at `now`. Constant
    /// cost, unlike [`Counter::reset_ms`].
    pub fn empty_in_ms(&mut self, limit: &Limit, now: Moment) -> u64 {
        self.advance(limit, now);
        match &self.state {
            State::Rolling(ring) => ring.head_leaves_in_ms(now.monotonic_ms),
            State::Calendar { span, .. } => until(span.end, now),
            State::Held { .. } => 0,
        }
    }

    /// Moves to `now`: what has expired no longer counts.
    fn advance(&mut self, limit: &Limit, now: Moment) {
        match (&mut self.state, &limit.window) {
            (State::Rolling(ring), _) => ring.advance(now.monotonic_ms),
            (
                State::Calendar {
                    span,
                    used,
                    debt,
                    carried,
                },
                Window::Calendar(period, zone),
            ) => {
                // Forwards only: a wall clock that is set back must not reopen a spent period.
                if now.unix_ms >= span.end {
                    *span = period.around(zone, now.unix_ms);
                    *used = (*debt).min(limit.amount);
                    *debt = debt.saturating_sub(*used);
                    *carried = 0;
                }
            }
            (State::Calendar { .. } | State::Held { .. }, _) => {}
        }
    }

    pub(super) fn fits(&mut self, limit: &Limit, ask: u64, now: Moment) -> Result<(), Wait> {
        if ask > limit.amount {
            return Err(Wait::Never);
        }
        if self.used(limit, now).saturating_add(ask) <= limit.amount {
            return Ok(());
        }
        Err(Wait::Millis(match &self.state {
            State::Rolling(ring) => ring.wait_ms(ask, limit.amount, now.monotonic_ms),
            State::Calendar { span, .. } => until(span.end, now),
            State::Held { .. } => CONCURRENCY_WAIT_MS,
        }))
    }

    pub(super) fn debit(&mut self, limit: &Limit, ask: u64, now: Moment) -> Stamp {
        self.advance(limit, now);
        let at = match &mut self.state {
            State::Rolling(ring) => {
                ring.charge(ask);
                i64::try_from(ring.head()).unwrap_or(i64::MAX)
            }
            State::Calendar { span, used, .. } => {
                *used = used.saturating_add(ask);
                span.start
            }
            State::Held { running } => {
                *running = running.saturating_add(ask);
                0
            }
        };
        let over = self.used(limit, now) > limit.amount;
        Stamp {
            at,
            reserved: ask,
            over,
        }
    }

    /// Replaces what `stamp` reserved by what was used; a permit is freed. Call it once.
    pub(super) fn settle(&mut self, limit: &Limit, stamp: Stamp, actual: u64, now: Moment) {
        self.advance(limit, now);
        let back = stamp.reserved.saturating_sub(actual);
        let more = actual.saturating_sub(stamp.reserved);
        match &mut self.state {
            State::Rolling(ring) => {
                if back > 0 {
                    ring.refund(u64::try_from(stamp.at).unwrap_or(0), back);
                }
                if more > 0 {
                    ring.overspend(more, limit.amount);
                }
            }
            State::Calendar {
                span,
                used,
                debt,
                carried,
            } => {
                if span.start == stamp.at {
                    *used = used.saturating_sub(back);
                }
                let taken = used.saturating_add(*debt).saturating_add(*carried);
                let room = limit.amount.saturating_sub(taken);
                let fits = more.min(room);
                *used = used.saturating_add(fits);
                *debt = debt.saturating_add(more.saturating_sub(fits));
            }
            State::Held { running } => *running = running.saturating_sub(stamp.reserved),
        }
    }

    /// Whether nothing is used or owed at `now`, so that the counter may be dropped.
    pub fn is_untouched(&mut self, now: Moment) -> bool {
        match &mut self.state {
            State::Rolling(ring) => {
                ring.advance(now.monotonic_ms);
                ring.used() == 0
            }
            State::Calendar {
                span,
                used,
                debt,
                carried,
            } => *debt == 0 && ((*used == 0 && *carried == 0) || now.unix_ms >= span.end),
            State::Held { running } => *running == 0,
        }
    }

    /// Whether this counter counts by the window of `limit`; if not, it must be replaced.
    #[must_use]
    pub fn suits(&self, limit: &Limit) -> bool {
        match (&self.state, &limit.window) {
            (State::Rolling(ring), Window::Second) => ring.spans(SECOND_BUCKETS, SECOND_MS),
            (State::Rolling(ring), Window::Minute) => ring.spans(MINUTE_BUCKETS, MINUTE_MS),
            (State::Calendar { .. }, Window::Calendar(..)) | (State::Held { .. }, Window::Held) => {
                true
            }
            _ => false,
        }
    }
}

fn until(end: i64, now: Moment) -> u64 {
    u64::try_from(end.saturating_sub(now.unix_ms))
        .unwrap_or(0)
        .max(1)
}
