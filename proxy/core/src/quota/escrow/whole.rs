//! What a replica knows of the use of all replicas, and what that leaves to it while the store is away.
//!
//! With each answer the store tells its total, and once a second the sub-buckets that it consists of.
//! When the store goes away, every replica knows the same total, at most a second old, and takes its
//! part of what was left. What the known buckets hold becomes free as they leave the window, a part of
//! it for each replica. A replica that knows no total, or an old one, has to take the limit for spent
//! until a whole window has passed since the store answered last; after that its own counter and its
//! part of the limit are enough.

use super::grants::Slice;
use super::refusal::Profile;
use super::request::{LeaseReply, LeaseRequest};
use crate::names::Moment;
use crate::quota::limit::Limit;
use crate::quota::ring::{MINUTE_BUCKETS, SECOND_BUCKETS};
use crate::quota::window::Window;

/// A replica looks at the buckets of a counter after this time: with the agent's tick of 250 ms it
/// knows them from a second ago.
const LOOK_MS: u64 = 750;

/// A total that is older than this when the store goes away is worth nothing: the agent had more
/// counters than it can look at each second.
const FRESH_MS: u64 = 1_500;

/// Another replica may have had its last answer this much later: each of them asks at least once within
/// it.
const SKEW_MS: u64 = 1_000;

/// After this time it asks for all buckets of a window, else for those since its last look: what was
/// returned to older ones meanwhile makes its own copy too cautious.
const ALL_MS: u64 = 10_000;

/// What the store told last of one counter.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// How many buckets a rolling window has in the store, those ahead of the present one included.
    size: u64,
    /// The use of all replicas, and when the store said so.
    total: Option<(u64, u64)>,
    /// The buckets of a rolling window.
    buckets: Option<Buckets>,
    /// When the store was last asked for them, and for all of them, and answered.
    looked_ms: u64,
    all_ms: u64,
    /// When a request last asked for the counter.
    active_ms: u64,
}

/// The sub-buckets of a rolling window in the store.
#[derive(Clone, Debug)]
struct Buckets {
    /// What was charged to each, oldest first.
    charged: Vec<u64>,
    /// The number of the oldest.
    oldest: i64,
    /// When it leaves, by the clock of this replica.
    leaves_ms: u64,
    /// How many of them are ahead of the present one.
    ahead: u64,
    tau_ms: u64,
}

impl Whole {
    pub(super) const fn new(window: &Window) -> Self {
        let buckets = match window {
            Window::Second => SECOND_BUCKETS,
            Window::Minute => MINUTE_BUCKETS,
            Window::Calendar(..) | Window::Held => 0,
        };
        Self {
            size: buckets.saturating_add(1).saturating_add(window.reach()),
            total: None,
            buckets: None,
            looked_ms: 0,
            all_ms: 0,
            active_ms: 0,
        }
    }

    pub(super) const fn total(&self) -> Option<(u64, u64)> {
        self.total
    }

    /// Notes a request.
    pub(super) const fn note(&mut self, now: Moment) {
        self.active_ms = now.monotonic_ms;
    }

    /// How many buckets to ask for; 0 while the last answer is good enough.
    pub(super) fn look(&self, now: Moment) -> u64 {
        if !self.is_due(now) {
            return 0;
        }
        let Some(buckets) = &self.buckets else {
            return self.size;
        };
        if now.monotonic_ms.saturating_sub(self.all_ms) >= ALL_MS {
            return self.size;
        }
        let passed = now.monotonic_ms.saturating_sub(self.looked_ms);
        let turns = passed.checked_div(buckets.tau_ms).unwrap_or(0);
        // One that had begun, one that begins on the way, and those ahead.
        turns
            .saturating_add(2)
            .saturating_add(buckets.ahead)
            .min(self.size)
    }

    /// Takes what the store told at `at_ms`.
    pub(super) fn learn(&mut self, request: &LeaseRequest, reply: &LeaseReply, at_ms: u64) {
        self.total = Some((reply.used, at_ms));
        if let Some(told) = Buckets::of(reply, at_ms) {
            let all = told.len() >= self.size;
            if all {
                self.buckets = Some(told);
                self.all_ms = at_ms;
            } else if let Some(known) = &mut self.buckets {
                known.extend(&told, self.size);
            }
        }
        if let Some(known) = &mut self.buckets {
            known.fit(reply.used, at_ms);
        }
        if request.look > 0 {
            self.looked_ms = at_ms;
        }
    }

    /// The store lost its data, and its totals are not those of the window.
    pub(super) fn forget(&mut self) {
        self.total = None;
        self.buckets = None;
    }

    /// Whether it is time to look.
    pub(super) const fn is_due(&self, now: Moment) -> bool {
        now.monotonic_ms.saturating_sub(self.looked_ms) >= LOOK_MS
    }

    /// Whether a request has asked for the counter within this time.
    pub(super) const fn is_active(&self, within_ms: u64, now: Moment) -> bool {
        now.monotonic_ms.saturating_sub(self.active_ms) < within_ms
    }

    /// The part of one of `replicas` replicas in what is free of the limit at `now`, by a total that
    /// was known when the store last answered, at `contact`, and that still contains these `returns` of
    /// this replica. `None` without such a total.
    pub(super) fn part(
        &self,
        limit: &Limit,
        returns: &[Slice],
        replicas: u64,
        (contact, now): (Moment, Moment),
    ) -> Option<u64> {
        let (total, at_ms) = self.total?;
        if contact.monotonic_ms.saturating_sub(at_ms) > FRESH_MS {
            return None;
        }
        let buckets = self.buckets.as_ref();
        let expired = buckets.map_or(0, |buckets| buckets.expired(at_ms, now.monotonic_ms));
        let counts = |slice: &&Slice| {
            // With its bucket it has expired, too.
            buckets.is_none_or(|buckets| buckets.counts(slice.at, now.monotonic_ms))
        };
        let free = returns
            .iter()
            .filter(counts)
            .fold(expired, |sum, slice| sum.saturating_add(slice.amount));
        let used = total.saturating_sub(free);
        limit.amount.saturating_sub(used).checked_div(replicas)
    }
}

impl Buckets {
    fn of(reply: &LeaseReply, at_ms: u64) -> Option<Self> {
        let Some(Profile::Rolling {
            buckets,
            ahead,
            tau_ms,
            turns_in_ms,
            ..
        }) = &reply.profile
        else {
            return None;
        };
        // The grant was charged to the last bucket that it lasts for.
        let head = reply
            .at
            .saturating_sub_unsigned(reply.lasts.saturating_sub(1));
        let told = u64::try_from(buckets.len()).unwrap_or(u64::MAX);
        let ends = head.saturating_add_unsigned(ahead.saturating_add(1));
        Some(Self {
            charged: buckets.clone(),
            oldest: ends.saturating_sub_unsigned(told),
            ahead: *ahead,
            leaves_ms: at_ms.saturating_add(*turns_in_ms),
            tau_ms: *tau_ms,
        })
    }

    fn len(&self) -> u64 {
        u64::try_from(self.charged.len()).unwrap_or(u64::MAX)
    }

    /// Takes over the newest buckets, which the store `told`; the window has `size`.
    fn extend(&mut self, told: &Self, size: u64) {
        let ends = told.oldest.saturating_add_unsigned(told.len());
        let oldest = ends.saturating_sub_unsigned(size);
        let charged = (oldest..ends).map(|number| told.at(number).or_else(|| self.at(number)));
        *self = Self {
            charged: charged.map(Option::unwrap_or_default).collect(),
            oldest,
            ..*told
        };
    }

    fn at(&self, number: i64) -> Option<u64> {
        let place = number.checked_sub(self.oldest)?;
        self.charged.get(usize::try_from(place).ok()?).copied()
    }

    /// Removes what is more than the total: it was returned, to any bucket. Removed from the oldest, it
    /// becomes free late, never early.
    fn fit(&mut self, total: u64, now_ms: u64) {
        let gone = usize::try_from(self.gone(now_ms)).unwrap_or(usize::MAX);
        let counting = || self.charged.iter().skip(gone);
        let sum = counting().fold(0_u64, |sum, charged| sum.saturating_add(*charged));
        let mut excess = sum.saturating_sub(total);
        for charged in self.charged.iter_mut().skip(gone) {
            let less = excess.min(*charged);
            *charged = charged.saturating_sub(less);
            excess = excess.saturating_sub(less);
        }
    }

    /// How many have left the window at `now_ms`.
    fn gone(&self, now_ms: u64) -> u64 {
        let after = now_ms.checked_sub(self.leaves_ms);
        after.map_or(0, |after| {
            let more = after.checked_div(self.tau_ms).unwrap_or(0);
            more.saturating_add(1)
        })
    }

    /// How much has left the window between two moments.
    fn expired(&self, from_ms: u64, to_ms: u64) -> u64 {
        let place = |turns: u64| usize::try_from(turns).unwrap_or(usize::MAX);
        let (from, to) = (place(self.gone(from_ms)), place(self.gone(to_ms)));
        let gone = self.charged.iter().take(to).skip(from);
        gone.fold(0_u64, |sum, charged| sum.saturating_add(*charged))
    }

    /// Whether the bucket with this number is in the window.
    fn counts(&self, number: i64, now_ms: u64) -> bool {
        let gone = i64::try_from(self.gone(now_ms)).unwrap_or(i64::MAX);
        number >= self.oldest.saturating_add(gone)
    }
}

/// Whether everything that was used until `contact` has left the window of `limit` at `now`. The
/// period of `now` began at `period_start_ms`, if it is a calendar limit.
pub(super) fn has_passed(
    limit: &Limit,
    period_start_ms: Option<i64>,
    (contact, now): (Moment, Moment),
) -> bool {
    let passed = now.monotonic_ms.saturating_sub(contact.monotonic_ms);
    let lease = limit.window.lease_ms();
    // Two sub-buckets more than the window: so the store counts.
    let rolling = |buckets: u64| {
        let window = lease.saturating_mul(buckets.saturating_add(2));
        passed >= window.saturating_add(SKEW_MS)
    };
    match limit.window {
        Window::Second => rolling(SECOND_BUCKETS),
        Window::Minute => rolling(MINUTE_BUCKETS),
        Window::Calendar(..) => period_start_ms.is_some_and(|start| start > contact.unix_ms),
        // The store would have dropped the permits of others by now.
        Window::Held => passed >= lease.saturating_add(SKEW_MS),
    }
}
