//! The store's script as a model, with plain maps instead of running sums.

use std::collections::{BTreeMap, HashMap};

use proxy_core::quota::{LeaseReply, LeaseReport, LeaseRequest, Profile, Slice, StoreWindow};

/// How long nothing is granted after a loss of data; as in the script.
pub const GRACE_MS: i64 = 1_000;
/// How long nothing is granted ahead of need after a refusal; as in the script.
const TIGHT_MS: i64 = 1_000;
/// How long after its end a grant may still be returned; as in the script.
const SLACK_MS: i64 = 750;

/// One counter of a call.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub key: String,
    /// The limit's amount.
    pub amount: u64,
    /// How to count.
    pub window: StoreWindow,
    /// The request.
    pub ask: LeaseRequest,
}

impl Item {
    /// What the caller holds of permits, and the turn of its request.
    const fn permits(&self) -> (u64, u64) {
        match self.ask.report {
            LeaseReport::Permits { held, turn } => (held, turn),
            LeaseReport::Grants { .. } => (0, 0),
        }
    }

    /// How many sub-buckets a grant should last.
    const fn lasts(&self) -> u64 {
        match self.ask.report {
            LeaseReport::Grants { lasts, .. } => lasts,
            LeaseReport::Permits { .. } => 1,
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer for each item, and for how long nothing is granted.
    Done(Vec<LeaseReply>, u64),
    /// The caller knows another epoch of the data.
    OtherEpoch,
    /// No period that was sent holds the store's time.
    OtherPeriod,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The epoch of the data, and until when it grants nothing.
    pub epoch: Option<(String, i64)>,
    counters: HashMap<String, Counter>,
    epochs: u64,
    flaw: Flaw,
}

/// A planted fault of the store, to prove that the checks notice it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Its rings have one sub-bucket too few.
    ShortRing,
    /// Grants that last longer are charged as if they did not.
    EarlyCharge,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    /// Rolling: charges by bucket, and the newest bucket.
    buckets: BTreeMap<i64, u64>,
    head: Option<i64>,
    /// Calendar: the period and its use.
    period: Option<i64>,
    used: u64,
    debt: u64,
    /// Permits by replica, until when, and the turn.
    permits: HashMap<String, (u64, i64, u64)>,
    /// What each replica may hold unspent, and until when.
    idle: HashMap<String, (u64, i64)>,
    tight_until: i64,
    late: bool,
    ends: i64,
}

impl Model {
    /// A store with a planted fault.
    #[must_use]
    pub fn with(flaw: Flaw) -> Self {
        Self {
            flaw,
            ..Self::default()
        }
    }

    /// Loses everything, as a server without persistence does when it restarts.
    pub fn empty(&mut self) {
        self.epoch = None;
        self.counters.clear();
    }

    /// Carries out a call of `replica`, which knows the epoch `known` and the number of `replicas`.
    pub fn call(
        &mut self,
        replica: &str,
        known: &str,
        replicas: u64,
        items: &[Item],
        now: i64,
    ) -> Outcome {
        if self.epoch.is_none() {
            self.epochs += 1;
            let until = if known.is_empty() { 0 } else { now + GRACE_MS };
            self.epoch = Some((format!("epoch {}", self.epochs), until));
        }
        let Some((epoch, until)) = &self.epoch else {
            return Outcome::OtherEpoch;
        };
        if epoch != known {
            return Outcome::OtherEpoch;
        }
        let grace = u64::try_from((until - now).clamp(0, GRACE_MS)).unwrap_or(0);
        let mut loaded = Vec::new();
        for item in items {
            let mut counter = self.counters.get(&item.key).cloned().unwrap_or_default();
            let Some(at) = counter.load(replica, item, self.flaw, now) else {
                return Outcome::OtherPeriod;
            };
            loaded.push((counter, at));
        }
        for ((counter, at), item) in loaded.iter_mut().zip(items) {
            counter.apply(*at, item);
        }
        let fits = grace == 0
            && loaded.iter().zip(items).all(|((counter, _), item)| {
                !counter.late && counter.sum(item) + item.ask.need <= item.amount
            });
        let flaw = self.flaw;
        let asker = Asker {
            replica,
            replicas,
            fits,
            flaw,
            now,
        };
        let mut answers = Vec::new();
        for ((mut counter, at), item) in loaded.into_iter().zip(items) {
            answers.push(counter.answers(at, item, asker));
            self.counters.insert(item.key.clone(), counter);
        }
        Outcome::Done(answers, grace)
    }
}

/// The calling replica, and whether all its needs fit.
#[derive(Clone, Copy)]
struct Asker<'a> {
    replica: &'a str,
    replicas: u64,
    fits: bool,
    flaw: Flaw,
    now: i64,
}

impl Flaw {
    /// How many sub-buckets count.
    fn length(self, buckets: u64) -> i64 {
        let length = match self {
            Self::ShortRing => buckets - 1,
            Self::None | Self::EarlyCharge => buckets,
        };
        i64::try_from(length).unwrap_or(1)
    }
}

impl Counter {
    /// Moves to `now` and returns the bucket or period to charge; `None` when no period holds `now`.
    fn load(&mut self, replica: &str, item: &Item, flaw: Flaw, now: i64) -> Option<i64> {
        match &item.window {
            StoreWindow::Rolling {
                tau_ms,
                buckets,
                reach,
            } => {
                let at = now.div_euclid(i64::try_from(*tau_ms).ok()?);
                let len = flaw.length(*buckets);
                let mut head = self.head.unwrap_or(at);
                if self.sum(item) == 0 {
                    head = head.max(at);
                } else if self.debt == 0 && at - head >= len + i64::try_from(*reach).ok()? - 1 {
                    // The whole window is over.
                    self.idle.clear();
                }
                while head < at {
                    head += 1;
                    let expired = self.buckets.remove(&(head - len)).unwrap_or(0);
                    let paid = expired.min(self.debt);
                    self.debt -= paid;
                    *self.buckets.entry(head).or_default() += paid;
                }
                self.buckets.retain(|bucket, _| *bucket > head - len);
                self.head = Some(head);
                Some(head)
            }
            StoreWindow::Calendar { periods, .. } => {
                let (start, end) = *periods
                    .iter()
                    .find(|(from, to)| *from <= now && now < *to)?;
                let period = self.period.unwrap_or(start);
                if period < start {
                    self.used = self.debt.min(item.amount);
                    self.debt -= self.used;
                }
                self.period = Some(period.max(start));
                self.ends = end;
                self.period
            }
            StoreWindow::Permits { .. } => {
                let (held, turn) = item.permits();
                self.permits.retain(|_, (_, until, _)| *until > now);
                self.late = self
                    .permits
                    .get(replica)
                    .is_some_and(|(_, _, known)| *known > turn);
                if !self.late {
                    self.permits.remove(replica);
                    self.used = held;
                }
                Some(0)
            }
        }
    }

    /// Applies the report: subtracts returns, charges what is owed and drains debt.
    fn apply(&mut self, at: i64, item: &Item) {
        let LeaseReport::Grants { returns, owed, .. } = &item.ask.report else {
            return;
        };
        for part in returns {
            self.take_back(*part, item, at);
        }
        let free = item.amount.saturating_sub(self.sum(item));
        let fitting = (*owed).min(free);
        self.charge(at, fitting, item);
        self.debt += owed - fitting;
        let charged = self.sum(item) - self.debt;
        let paid = self.debt.min(item.amount.saturating_sub(charged));
        self.charge(at, paid, item);
        self.debt -= paid;
    }

    /// Grants what fits, and answers.
    fn answers(&mut self, at: i64, item: &Item, asker: Asker<'_>) -> LeaseReply {
        let Asker { replica, now, .. } = asker;
        let used = self.sum(item);
        let refused = used + item.ask.need > item.amount;
        if refused {
            self.tight_until = now + TIGHT_MS;
        }
        let tight = now < self.tight_until;
        let granted = if asker.fits {
            let spare = (item.amount - used).saturating_sub(item.ask.need);
            let ahead = if tight {
                0
            } else {
                spare / asker.replicas.max(1)
            };
            item.ask.want.min(item.ask.need + ahead)
        } else {
            0
        };
        let lasts = match item.window {
            StoreWindow::Rolling { reach, .. }
                if granted > 0 && !tight && 2 * (used + granted) <= item.amount =>
            {
                item.lasts().clamp(1, reach)
            }
            StoreWindow::Rolling { .. }
            | StoreWindow::Calendar { .. }
            | StoreWindow::Permits { .. } => 1,
        };
        let last = at + i64::try_from(lasts).unwrap_or(1) - 1;
        let charged_at = match asker.flaw {
            Flaw::EarlyCharge => at,
            Flaw::None | Flaw::ShortRing => last,
        };
        self.charge(charged_at, granted, item);
        let elsewhere = self.idle_elsewhere(replica, now);
        if !self.late {
            self.note_idle(replica, item, lasts, granted, now);
        }
        if let StoreWindow::Permits { lease_ms } = item.window {
            if !self.late {
                let until = now + i64::try_from(lease_ms).unwrap_or(0);
                let (held, turn) = item.permits();
                let known = (held + granted, until, turn);
                self.permits.insert(replica.to_owned(), known);
            }
            (self.late, self.used) = (false, 0);
        }
        let ends_in_ms = match item.window {
            StoreWindow::Calendar { .. } => u64::try_from((self.ends - now).max(0)).ok(),
            StoreWindow::Rolling { .. } | StoreWindow::Permits { .. } => None,
        };
        LeaseReply {
            granted,
            at: last,
            lasts,
            used: used + granted,
            ends_in_ms,
            elsewhere: if refused { elsewhere } else { 0 },
            profile: (item.ask.look > 0 || (refused && granted == 0)).then(|| {
                let told = if refused { u64::MAX } else { item.ask.look };
                self.profile(item, told, asker.flaw, now)
            }),
        }
    }

    fn sum(&self, item: &Item) -> u64 {
        let counted: u64 = match item.window {
            StoreWindow::Rolling { .. } => self.buckets.values().sum(),
            StoreWindow::Calendar { .. } => self.used,
            StoreWindow::Permits { .. } => {
                self.used + self.permits.values().map(|(count, ..)| count).sum::<u64>()
            }
        };
        counted + self.debt
    }

    fn charge(&mut self, at: i64, amount: u64, item: &Item) {
        match item.window {
            StoreWindow::Rolling { .. } => *self.buckets.entry(at).or_default() += amount,
            StoreWindow::Calendar { .. } => self.used += amount,
            StoreWindow::Permits { .. } => {}
        }
    }

    fn take_back(&mut self, part: Slice, item: &Item, at: i64) {
        match item.window {
            StoreWindow::Rolling { .. } => {
                if let Some(bucket) = self.buckets.get_mut(&part.at) {
                    *bucket = bucket.saturating_sub(part.amount);
                }
            }
            StoreWindow::Calendar { .. } if part.at == at => {
                self.used = self.used.saturating_sub(part.amount);
            }
            StoreWindow::Calendar { .. } | StoreWindow::Permits { .. } => {}
        }
    }

    /// What replicas other than `replica` may hold unspent.
    fn idle_elsewhere(&mut self, replica: &str, now: i64) -> u64 {
        self.idle.retain(|_, (_, until)| *until > now);
        let others = self.idle.iter().filter(|(holder, _)| *holder != replica);
        others.map(|(_, (idle, _))| idle).sum()
    }

    fn note_idle(&mut self, replica: &str, item: &Item, lasts: u64, granted: u64, now: i64) {
        let lease_ms = match item.window {
            StoreWindow::Rolling { tau_ms, .. } => lasts * tau_ms,
            StoreWindow::Calendar { lease_ms, .. } | StoreWindow::Permits { lease_ms } => lease_ms,
        };
        let slack = match item.window {
            StoreWindow::Rolling { .. } | StoreWindow::Calendar { .. } => SLACK_MS,
            StoreWindow::Permits { .. } => 0,
        };
        let idle = item.ask.idle + granted.saturating_sub(item.ask.need);
        let until = now + i64::try_from(lease_ms).unwrap_or(0) + slack;
        self.idle.insert(replica.to_owned(), (idle, until));
    }

    fn profile(&self, item: &Item, told: u64, flaw: Flaw, now: i64) -> Profile {
        match &item.window {
            StoreWindow::Rolling {
                tau_ms,
                buckets,
                reach,
            } => {
                let head = self.head.unwrap_or(0);
                let len = flaw.length(*buckets);
                let tau = i64::try_from(*tau_ms).unwrap_or(1);
                let bucket = |at: i64| self.buckets.get(&at).copied().unwrap_or(0);
                let ends = head + i64::try_from(*reach).unwrap_or(1);
                let told = i64::try_from(told).unwrap_or(i64::MAX);
                let first = ends.saturating_sub(told).max(head - len + 1);
                Profile::Rolling {
                    buckets: (first..ends).map(bucket).collect(),
                    ahead: reach - 1,
                    debt: self.debt,
                    tau_ms: *tau_ms,
                    turns_in_ms: u64::try_from(((head + 1) * tau - now).max(1)).unwrap_or(1),
                }
            }
            StoreWindow::Calendar { .. } => Profile::Calendar,
            StoreWindow::Permits { .. } => Profile::Permits,
        }
    }
}
