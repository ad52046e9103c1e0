//! What a replica has borrowed of a limit from the shared store.
//!
//! The store keeps a ring of K + 2 sub-buckets of length tau for each counter. It charges a **grant**
//! when it gives it, and the replica may spend it until tau has passed since before it asked. So what
//! is admitted in an interval of the window's length W was granted in an interval of W + tau, which
//! touches at most K + 2 buckets, whose sum the store keeps within the limit. This depends neither on
//! the replica's clock nor on its survival, nor on whether an answer arrived. A grant that may be spent
//! for `lasts` times tau is charged to the last of those buckets, as if the replica had asked then.
//!
//! Words: a `grant` is an amount that the store lent, a `return` an amount given back to the bucket
//! that was charged, `owed` an amount used without a grant and not charged yet, a `permit` the right
//! to run one request under a `Concurrency` limit, a `lease` how long a grant or permit is good, an
//! `epoch` the time between two losses of the store's data.

use super::limit::{Limit, Wait};
use super::loss::Loss;
use super::window::Window;
use crate::names::Moment;

pub(super) mod grants;
mod pace;
mod permits;
pub(super) mod refusal;
pub(super) mod request;
mod whole;

use grants::{Grants, Withdrawal};
use pace::Pace;
use permits::Permits;
use refusal::StoreRefusal;
use request::{LeaseReply, LeaseReport, LeaseRequest, RoundTrip};
use whole::Whole;

/// A counter whose requests follow each other faster than this needs no call of its own to report.
const BUSY_MS: u64 = 600;

/// A limit below this many of the largest requests per replica is borrowed request by request: what
/// one replica kept would be missing elsewhere.
const EXACT_BELOW: u64 = 20;

/// After a recall nothing is borrowed ahead for this long, as long as the store grants nothing ahead.
const RECALLED_MS: u64 = 1_000;

/// The shortest pause between two requests for grants ahead while the store has nothing to lend.
const SHORTEST_PAUSE_MS: u64 = 25;

/// The store's last total is good for two leases, and at least this long: leases of a second's limit
/// are shorter than the pause between two reports of a quiet counter.
const SHORTEST_TOTAL_MS: u64 = 2_000;

/// What a replica may spend of one counter without asking.
#[derive(Debug)]
pub struct Escrow {
    lease_ms: u64,
    holding: Holding,
    pace: Pace,
    /// A request is on its way; requests that lack something wait for its reply.
    asking: bool,
    /// What it reports as used without a grant, until it is answered.
    reporting: u64,
    /// What the requests ask that wait for it.
    waiting: u64,
    /// The limit's amount when it was last looked at.
    amount: u64,
    /// What the store told last of all replicas.
    whole: Whole,
    refusal: Option<StoreRefusal>,
    /// The store had nothing to lend ahead; it is not asked ahead again before then.
    dry_until_ms: u64,
    /// Grows when the store loses its data.
    epoch: u64,
}

/// What the store has lent: amounts that are used up, or permits that come back.
#[derive(Debug)]
enum Holding {
    Grants(Grants),
    Permits(Permits),
}

/// What one reservation took out of an escrow. Give it back with [`Escrow::settle`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lease {
    withdrawal: Withdrawal,
    epoch: u64,
}

impl Escrow {
    /// An empty escrow of `limit`.
    #[must_use]
    pub fn new(limit: &Limit) -> Self {
        Self {
            lease_ms: limit.window.lease_ms(),
            holding: match limit.window {
                Window::Held => Holding::Permits(Permits::default()),
                Window::Second | Window::Minute | Window::Calendar(..) => {
                    Holding::Grants(Grants::new(limit.window.reach()))
                }
            },
            pace: Pace::default(),
            asking: false,
            reporting: 0,
            waiting: 0,
            amount: limit.amount,
            whole: Whole::new(&limit.window),
            refusal: None,
            dry_until_ms: 0,
            epoch: 0,
        }
    }

    /// What can be spent at `now` without asking.
    #[must_use]
    pub fn available(&self, now: Moment) -> u64 {
        self.lasting(now.monotonic_ms)
    }

    /// What can still be spent at `when_ms`.
    fn lasting(&self, when_ms: u64) -> u64 {
        match &self.holding {
            Holding::Grants(grants) => grants.lasting(when_ms),
            Holding::Permits(permits) => permits.idle(when_ms),
        }
    }

    /// What ends sooner would be missing just when the answer comes.
    fn lasting_soon(&self, now: Moment) -> u64 {
        self.lasting(now.monotonic_ms.saturating_add(self.lease_ms / 8))
    }

    /// How much of the limit all replicas use at `now`, if this one alone has used `here`.
    #[must_use]
    pub fn used(&self, here: u64, now: Moment) -> u64 {
        self.used_by_all(now).map_or(here, |all| all.max(here))
    }

    /// The use of all replicas by the store's last total, without what this replica holds unspent or has
    /// not returned yet. `None` without a recent total.
    pub(super) fn used_by_all(&self, now: Moment) -> Option<u64> {
        let (total, at) = self.whole.total()?;
        let longest = self.lease_ms.saturating_mul(2).max(SHORTEST_TOTAL_MS);
        if now.monotonic_ms.saturating_sub(at) > longest {
            return None;
        }
        let (unspent, owed) = match &self.holding {
            Holding::Grants(grants) => (
                self.available(now).saturating_add(grants.returned()),
                grants.owed(),
            ),
            Holding::Permits(_) => (self.available(now), 0),
        };
        let missing = owed.saturating_sub(unspent);
        let unused = unspent.saturating_sub(owed);
        Some(total.saturating_add(missing).saturating_sub(unused))
    }

    /// Adapts to a changed amount: a smaller one returns what was borrowed.
    pub(super) fn adapt(&mut self, amount: u64) {
        if amount == self.amount {
            return;
        }
        if amount < self.amount {
            self.surrender();
        }
        self.amount = amount;
        self.refusal = None;
    }

    /// How long a request for `ask` has to wait by the store's last refusal; `None` when the store
    /// must be asked.
    pub(super) fn refusal(&self, ask: u64, now: Moment) -> Option<Wait> {
        let lacking = ask.saturating_sub(self.available(now));
        let refusal = self.refusal.as_ref()?;
        let wait = refusal.wait_ms(lacking, self.amount, now.monotonic_ms);
        wait.map(Wait::Millis)
    }

    /// Spends `ask`, which must be available.
    pub(super) fn take(&mut self, ask: u64, now: Moment) -> Lease {
        self.whole.note(now);
        self.pace.spend(ask, now.monotonic_ms, self.lease_ms);
        let withdrawal = match &mut self.holding {
            Holding::Grants(grants) => grants.take(ask, now.monotonic_ms),
            Holding::Permits(permits) => {
                permits.occupy(ask);
                Withdrawal::default()
            }
        };
        self.lease(withdrawal)
    }

    /// Uses `ask` without a grant while the store is away; it is charged when the store is back.
    pub(super) fn overdraw(&mut self, ask: u64) -> Lease {
        match &mut self.holding {
            Holding::Grants(grants) => grants.owe(ask),
            Holding::Permits(permits) => permits.overfill(ask),
        }
        self.lease(Withdrawal::owed(ask))
    }

    /// Records use that a shadowed limit would count; settling charges it.
    pub(super) fn watch(&mut self, ask: u64) -> Lease {
        if let Holding::Permits(permits) = &mut self.holding {
            permits.overfill(ask);
        }
        self.lease(Withdrawal::default())
    }

    const fn lease(&self, withdrawal: Withdrawal) -> Lease {
        Lease {
            withdrawal,
            epoch: self.epoch,
        }
    }

    /// Replaces what `lease` took for `reserved` by what was used.
    pub(super) fn settle(&mut self, lease: &Lease, reserved: u64, actual: u64, now: Moment) {
        match &mut self.holding {
            Holding::Permits(permits) => permits.free(reserved),
            // All of it is owed, or was charged in a bucket that is no longer known.
            Holding::Grants(grants) if lease.withdrawal.is_owed() || lease.epoch != self.epoch => {
                grants.correct(reserved, actual);
            }
            Holding::Grants(grants) => {
                grants.settle(&lease.withdrawal, actual, now.monotonic_ms);
            }
        }
    }

    /// Marks everything unspent for return.
    pub fn surrender(&mut self) {
        match &mut self.holding {
            Holding::Grants(grants) => grants.surrender(),
            Holding::Permits(permits) => permits.release_idle(0),
        }
    }

    /// The store lost its data: grants are void, and what this replica `used` has to be charged again.
    pub fn forget(&mut self, used: u64) {
        self.epoch = self.epoch.saturating_add(1);
        self.whole.forget();
        self.refusal = None;
        match &mut self.holding {
            Holding::Grants(grants) => grants.forget(used),
            Holding::Permits(permits) => permits.release_idle(0),
        }
    }

    /// Marks for return what has expired or is not needed. Returns whether the store must hear of it.
    pub fn tidy(&mut self, replicas: u64, now: Moment) -> bool {
        let (cap, exact) = (self.cap(replicas), self.is_exact(replicas));
        match &mut self.holding {
            Holding::Grants(grants) => {
                grants.expire(now.monotonic_ms);
                grants.has_report()
            }
            Holding::Permits(permits) => {
                let keep = if exact { 0 } else { permits.target(cap) };
                let valid = permits.idle(now.monotonic_ms) > 0;
                permits.release_idle(if valid { keep } else { 0 });
                permits.is_due(now.monotonic_ms, self.lease_ms)
            }
        }
    }

    /// Whether an answer came so recently that a report can wait for the next request.
    #[must_use]
    pub fn is_busy(&self, now: Moment) -> bool {
        let answered = self.whole.total().map_or(0, |(_, at)| at);
        now.monotonic_ms.saturating_sub(answered) < BUSY_MS
    }

    /// Whether nothing is borrowed, owed or to be returned, so that the escrow needs no care.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let empty = match &self.holding {
            Holding::Grants(grants) => grants.is_empty(),
            Holding::Permits(permits) => permits.is_empty(),
        };
        !self.asking && empty
    }

    /// Whether a request has asked for it within this time.
    #[must_use]
    pub const fn is_active(&self, within_ms: u64, now: Moment) -> bool {
        self.whole.is_active(within_ms, now)
    }

    /// Whether the agent has not learned for a second how much all replicas use.
    #[must_use]
    pub const fn is_look_due(&self, now: Moment) -> bool {
        self.whole.is_due(now)
    }

    /// How much this replica may use while the store is away: what it still holds, and its part of
    /// what was left of the whole at the last contact, or has left the window since. `None` once
    /// nothing counts any more that was used before.
    pub(super) fn share(
        &mut self,
        limit: &Limit,
        period_start_ms: Option<i64>,
        loss: &Loss,
        now: Moment,
    ) -> Option<u64> {
        let times = (loss.contact, now);
        if whole::has_passed(limit, period_start_ms, times) {
            return None;
        }
        let returns = match &mut self.holding {
            Holding::Grants(grants) => {
                grants.expire(now.monotonic_ms);
                grants.returns()
            }
            Holding::Permits(_) => &[],
        };
        let part = self.whole.part(limit, returns, loss.replicas, times);
        let part = part.unwrap_or(0);
        Some(match &self.holding {
            Holding::Grants(grants) => self
                .available(now)
                .saturating_add(part)
                .saturating_sub(grants.owed().saturating_add(self.reporting)),
            Holding::Permits(permits) => permits.left(part),
        })
    }

    /// Whether a request for this counter is on its way.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        self.asking
    }

    /// Adds what a request asks that waits for the answer on its way, or removes it again.
    pub const fn wait_for(&mut self, ask: u64, waits: bool) {
        self.waiting = if waits {
            self.waiting.saturating_add(ask)
        } else {
            self.waiting.saturating_sub(ask)
        };
    }

    const fn is_exact(&self, replicas: u64) -> bool {
        let needs = self
            .pace
            .largest()
            .saturating_mul(replicas)
            .saturating_mul(EXACT_BELOW);
        self.amount < needs
    }

    /// The most that is borrowed ahead, for this many leases.
    fn chunk(&self, leases: u64, replicas: u64) -> u64 {
        let cap = self.cap(replicas);
        match &self.holding {
            Holding::Grants(_) => self.pace.expected().saturating_mul(leases).min(cap),
            Holding::Permits(permits) => permits.target(cap),
        }
    }

    /// The most that one replica may hold: all of them together a quarter of the limit.
    const fn cap(&self, replicas: u64) -> u64 {
        match self.amount.checked_div(replicas.saturating_mul(4)) {
            Some(cap) => cap,
            None => self.amount,
        }
    }

    /// How many leases the last grant lasted that could last longer than one.
    const fn lasted(&self) -> u64 {
        match &self.holding {
            Holding::Grants(grants) => grants.lasted(),
            Holding::Permits(_) => 1,
        }
    }

    // === Requests to the store ===

    /// Whether to borrow more before it is missing.
    #[must_use]
    pub fn runs_low(&self, replicas: u64, now: Moment) -> bool {
        let lasting = self.lasting_soon(now);
        self.may_ask(replicas, now) && lasting < self.chunk(self.lasted(), replicas) / 2
    }

    /// Whether to ask along with others that run low: it would be next.
    #[must_use]
    pub fn joins(&self, replicas: u64, now: Moment) -> bool {
        let chunk = self.chunk(self.lasted(), replicas);
        let lasting = self.lasting_soon(now);
        self.may_ask(replicas, now) && lasting < chunk.saturating_sub(chunk / 8)
    }

    /// Whether a request for more than is needed now makes sense.
    fn may_ask(&self, replicas: u64, now: Moment) -> bool {
        let refusal = self.refusal.as_ref();
        !self.asking
            && self.dry_until_ms <= now.monotonic_ms
            && !refusal.is_some_and(|refusal| refusal.holds(now.monotonic_ms))
            && !self.is_exact(replicas)
    }

    /// The request to send to the store, with all that it must hear, for a client's request that needs
    /// `ask`, or 0 for none. [`Escrow::answered`] or [`Escrow::unanswered`] must follow.
    pub fn request(&mut self, ask: u64, replicas: u64, now: Moment) -> LeaseRequest {
        self.tidy(replicas, now);
        self.asking = true;
        if self.available(now) < ask {
            // Two requests that both lack a little must not wait for what the other one holds.
            self.surrender();
        }
        let need = ask.saturating_sub(self.available(now));
        let needs = need.saturating_add(self.waiting);
        let lasts = match &self.holding {
            Holding::Grants(grants) if need == 0 && self.pace.is_steady() => grants.reach(),
            Holding::Grants(_) | Holding::Permits(_) => 1,
        };
        let want = if self.is_exact(replicas) {
            needs
        } else {
            let chunk = self.chunk(lasts.min(self.lasted()), replicas);
            chunk
                .saturating_sub(self.lasting_soon(now))
                .max(needs.min(self.cap(replicas)))
                .max(need)
        };
        let idle = self.available(now);
        LeaseRequest {
            need,
            want: want.min(self.amount),
            idle,
            report: match &mut self.holding {
                Holding::Grants(grants) => {
                    let (returns, owed) = grants.take_report();
                    self.reporting = owed;
                    LeaseReport::Grants {
                        returns,
                        owed,
                        lasts,
                    }
                }
                Holding::Permits(permits) => LeaseReport::Permits {
                    held: permits.held(),
                    turn: permits.next_turn(),
                },
            },
            look: self.whole.look(now),
            epoch: self.epoch,
        }
    }

    /// A request that reports to the store without asking for anything.
    pub fn report(&mut self, now: Moment) -> LeaseRequest {
        let request = self.request(0, 1, now);
        LeaseRequest { want: 0, ..request }
    }

    /// Another replica lacks what this one may hold: marks everything unspent for return. Returns
    /// false while a request is on its way; a recall that follows it will succeed.
    pub fn recall(&mut self, now: Moment) -> bool {
        if self.asking {
            return false;
        }
        self.surrender();
        self.dry_until_ms = now.monotonic_ms.saturating_add(RECALLED_MS);
        true
    }

    /// Takes the store's reply to `request`.
    pub fn answered(&mut self, request: &LeaseRequest, reply: LeaseReply, trip: RoundTrip) {
        self.asking = false;
        self.reporting = 0;
        if request.epoch != self.epoch {
            return;
        }
        if !trip.settling {
            self.whole.learn(request, &reply, trip.received_ms);
        }
        let lease = self.lease_ms.saturating_mul(reply.lasts);
        let lease = reply.ends_in_ms.map_or(lease, |ends| ends.min(lease));
        let until_ms = trip.sent_ms.saturating_add(lease);
        match (&mut self.holding, &request.report) {
            (Holding::Grants(grants), LeaseReport::Grants { lasts, .. }) => {
                if reply.granted > 0 {
                    let lasted = (*lasts > 1).then_some(reply.lasts);
                    let slice = grants::Slice {
                        at: reply.at,
                        amount: reply.granted,
                    };
                    grants.add(slice, until_ms, lasted);
                }
            }
            (Holding::Permits(permits), LeaseReport::Permits { held, .. }) => {
                let reported = held.saturating_add(reply.granted);
                permits.grant(reply.granted, reported, until_ms, trip.received_ms);
            }
            // A reply to a request of another window's escrow; its grant expires unspent.
            (Holding::Grants(_), LeaseReport::Permits { .. })
            | (Holding::Permits(_), LeaseReport::Grants { .. }) => {}
        }
        if reply.granted == 0 && request.want > 0 {
            let pause = (self.lease_ms / 8).max(SHORTEST_PAUSE_MS);
            self.dry_until_ms = trip.received_ms.saturating_add(pause);
        }
        let profile = reply.profile.filter(|_| request.need > 0);
        self.refusal = profile.map(|profile| {
            let free = self.amount.saturating_sub(reply.used);
            StoreRefusal::new(profile, free, reply.ends_in_ms, trip.received_ms)
        });
    }

    /// No reply came to `request`. Its returns may have been taken or not, so they are not sent again;
    /// what was owed may have been charged or not, so it is.
    pub const fn unanswered(&mut self, request: &LeaseRequest) {
        self.asking = false;
        self.reporting = 0;
        match (&mut self.holding, &request.report) {
            (Holding::Grants(grants), LeaseReport::Grants { owed, .. })
                if request.epoch == self.epoch =>
            {
                grants.owe(*owed);
            }
            (Holding::Permits(permits), _) => permits.doubt(),
            (Holding::Grants(_), _) => {}
        }
    }
}
