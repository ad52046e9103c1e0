//! What a replica and the store say to each other about one counter.

use super::{Escrow, Grant, Part, Places, Profile, Refused};
use crate::names::Moment;

/// What is told to the store, and asked of it, for one counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// To be taken off the buckets that were charged.
    pub returns: Vec<Part>,
    /// Used without a grant: to be charged, fit or not.
    pub owed: u64,
    /// Grant at least this, or nothing.
    pub need: u64,
    /// Grant up to this.
    pub want: u64,
    /// `Concurrency`: what this replica holds now, which replaces what the store knew of it.
    pub holds: u64,
    /// `Concurrency`: grows with each call. A call that comes after a later one is void, since what
    /// it holds is not true any more.
    pub turn: u64,
    /// What this replica holds and does not use, besides what it returns.
    pub idle: u64,
    /// How many sub-buckets long a grant should last, of a rolling window.
    pub lasts: u64,
    /// The life of the store's data that this is about.
    pub(super) life: u64,
}

/// What the store answers for one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it granted, 0 if the need of this or of another counter of the call did not fit.
    pub granted: u64,
    /// The bucket that was charged.
    pub at: i64,
    /// For how many sub-buckets it was granted; 1 unless of a rolling window.
    pub lasts: u64,
    /// How much of the limit is charged now, by all replicas, this grant included.
    pub used: u64,
    /// Milliseconds until the calendar period ends; none for others.
    pub ends_in_ms: Option<u64>,
    /// What other replicas may hold and not use, if this counter was why nothing was granted. They are
    /// asked to give it back.
    pub elsewhere: u64,
    /// How the window looks, if this counter was why nothing was granted.
    pub profile: Option<Profile>,
}

/// When a call was sent and its answer received, by this replica's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Read before sending.
    pub sent_ms: u64,
    /// Read after receiving.
    pub received_ms: u64,
}

/// When others are asked to give back what they hold, the store is asked again after these pauses,
/// until nothing is held or the last of them is over.
const RECALLS_MS: [u64; 6] = [2, 5, 10, 20, 40, 80];
/// After a recall nothing is borrowed ahead for so long; the store lends nothing ahead then either.
const RECALLED_MS: u64 = 1_000;

/// The store is not asked for what nobody lacks more often than this while it has nothing to lend.
const SHORTEST_PAUSE_MS: u64 = 25;

impl Ask {
    /// The same question, after the store has answered it: what it told is told.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            returns: Vec::new(),
            owed: 0,
            ..self.clone()
        }
    }
}

/// Whether a call that was answered so is to be sent once more, and after how many milliseconds; it
/// was sent again `repeats` times before.
#[must_use]
pub fn repeats_after(answers: &[Answer], repeats: usize) -> Option<u64> {
    let recalled = answers.iter().any(|answer| answer.elsewhere > 0);
    RECALLS_MS.get(repeats).copied().filter(|_| recalled)
}

impl Escrow {
    /// Whether more should be borrowed before it is missing.
    #[must_use]
    pub fn runs_low(&self, replicas: u64, now: Moment) -> bool {
        let lasting = self.lasting_soon(now);
        self.may_ask(replicas, now) && lasting < self.chunk(self.lasted, replicas) / 2
    }

    /// Whether it should be asked for along with others that run low: it would be next.
    #[must_use]
    pub fn joins(&self, replicas: u64, now: Moment) -> bool {
        let chunk = self.chunk(self.lasted, replicas);
        let lasting = self.lasting_soon(now);
        self.may_ask(replicas, now) && lasting < chunk.saturating_sub(chunk / 8)
    }

    /// Whether asking for more than is needed now makes sense.
    fn may_ask(&self, replicas: u64, now: Moment) -> bool {
        let refused = self.refused.as_ref();
        !self.asking
            && self.dry_until_ms <= now.monotonic_ms
            && !refused.is_some_and(|refused| refused.holds(now.monotonic_ms))
            && !self.is_exact(replicas)
    }

    /// What ends sooner would be missing just when the answer comes.
    fn lasting_soon(&self, now: Moment) -> u64 {
        self.lasting(now.monotonic_ms.saturating_add(self.lease_ms / 8))
    }

    /// What to tell the store, and to ask for a request that needs `ask` (0: for none yet). Follow
    /// it by [`Escrow::answered`] or [`Escrow::unanswered`].
    pub fn ask(&mut self, ask: u64, replicas: u64, now: Moment) -> Ask {
        self.tidy(replicas, now);
        self.asking = true;
        if self.available(now) < ask {
            // Two that both lack a little must not wait for what the other one holds.
            self.surrender();
        }
        let need = ask.saturating_sub(self.available(now));
        let others = self.waiting;
        let lasts = if need == 0 && self.pace.is_steady() {
            self.reach
        } else {
            1
        };
        let want = if self.is_exact(replicas) {
            need.saturating_add(others)
        } else {
            let chunk = self.chunk(lasts.min(self.lasted), replicas);
            chunk
                .saturating_sub(self.lasting_soon(now))
                .max(need.saturating_add(others).min(self.cap(replicas)))
                .max(need)
        };
        Ask {
            returns: std::mem::take(&mut self.returns),
            owed: std::mem::take(&mut self.owed),
            need,
            want: want.min(self.amount),
            holds: self.places.as_ref().map_or(0, Places::held),
            turn: self.places.as_mut().map_or(0, Places::turn),
            idle: self.available(now),
            lasts,
            life: self.life,
        }
    }

    /// What to tell the store without asking for anything.
    pub fn tell(&mut self, now: Moment) -> Ask {
        let asked = self.ask(0, 1, now);
        Ask { want: 0, ..asked }
    }

    /// Another replica lacks what this one may hold: everything unused is to be given back. False if a
    /// call is on its way: after that it is asked again.
    pub fn recall(&mut self, now: Moment) -> bool {
        if self.asking {
            return false;
        }
        self.surrender();
        self.dry_until_ms = now.monotonic_ms.saturating_add(RECALLED_MS);
        true
    }

    /// Takes the store's answer to `ask`.
    pub fn answered(&mut self, ask: &Ask, answer: Answer, trip: Trip) {
        self.asking = false;
        if ask.life != self.life {
            return;
        }
        self.seen = Some((answer.used, trip.received_ms));
        let lease = self.lease_ms.saturating_mul(answer.lasts);
        let lease = answer.ends_in_ms.map_or(lease, |ends| ends.min(lease));
        if ask.lasts > 1 && answer.granted > 0 {
            self.lasted = answer.lasts;
        }
        let until_ms = trip.sent_ms.saturating_add(lease);
        if let Some(places) = &mut self.places {
            let told = ask.holds.saturating_add(answer.granted);
            places.granted(answer.granted, told, until_ms, trip.received_ms);
        } else if answer.granted > 0 {
            let sooner = |grant: &Grant| grant.until_ms <= until_ms;
            let grant = Grant {
                at: answer.at,
                left: answer.granted,
                until_ms,
            };
            self.grants
                .insert(self.grants.partition_point(sooner), grant);
        }
        if answer.granted == 0 && ask.want > 0 {
            let pause = (self.lease_ms / 8).max(SHORTEST_PAUSE_MS);
            self.dry_until_ms = trip.received_ms.saturating_add(pause);
        }
        self.refused = answer.profile.filter(|_| ask.need > 0).map(|profile| {
            let free = self.amount.saturating_sub(answer.used);
            Refused::new(profile, free, answer.ends_in_ms, trip.received_ms)
        });
    }

    /// No answer came to `ask`. What it returned may have been taken off or not, so it is not sent
    /// again; what was owed may have been charged or not, so it is.
    pub const fn unanswered(&mut self, ask: &Ask) {
        self.asking = false;
        if let Some(places) = &mut self.places {
            places.doubt();
        }
        if ask.life == self.life {
            self.owed = self.owed.saturating_add(ask.owed);
        }
    }
}
