//! What the store's script does, counted from a log instead of running sums.

use std::collections::{BTreeMap, HashMap};

use proxy_core::quota::{Answer, Ask, Part, Profile, Reckoning};

/// How long nothing is granted after data was lost.
pub const GRACE_MS: i64 = 1_000;

/// One counter of a call.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub key: String,
    /// The limit's amount.
    pub amount: u64,
    /// How to count.
    pub reckoning: Reckoning,
    /// What is told and asked.
    pub ask: Ask,
}

/// What a call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer for each item, and for how long nothing is granted.
    Done(Vec<Answer>, u64),
    /// The caller knows another life of the data.
    OtherEpoch,
    /// No period that was sent holds the store's time.
    OtherPeriod,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The life of the data, and until when it grants nothing.
    pub epoch: Option<(String, i64)>,
    counters: HashMap<String, Counter>,
    lives: u64,
    /// Sub-buckets that are left out, to see whether the checks would notice.
    buckets_short: u64,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    /// Rolling: charges by bucket, and the newest bucket.
    buckets: BTreeMap<i64, u64>,
    head: Option<i64>,
    /// Calendar: the period and what is used.
    period: Option<i64>,
    used: u64,
    debt: u64,
    /// Places by replica, and until when.
    places: HashMap<String, (u64, i64, u64)>,
    late: bool,
    ends: i64,
}

impl Model {
    /// A store whose rings have so many sub-buckets too few.
    #[must_use]
    pub fn short_by(buckets: u64) -> Self {
        Self {
            buckets_short: buckets,
            ..Self::default()
        }
    }

    /// Loses everything, as a server without persistence does when it restarts.
    pub fn empty(&mut self) {
        self.epoch = None;
        self.counters.clear();
    }

    /// Carries out a call of `replica`, which knows the epoch `known` and so many `replicas`.
    pub fn call(
        &mut self,
        replica: &str,
        known: &str,
        replicas: u64,
        items: &[Item],
        now: i64,
    ) -> Outcome {
        if self.epoch.is_none() {
            self.lives += 1;
            let until = if known.is_empty() { 0 } else { now + GRACE_MS };
            self.epoch = Some((format!("life {}", self.lives), until));
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
            let Some(at) = counter.load(replica, item, self.buckets_short, now) else {
                return Outcome::OtherPeriod;
            };
            loaded.push((counter, at));
        }
        for ((counter, at), item) in loaded.iter_mut().zip(items) {
            for part in &item.ask.returns {
                counter.take_back(*part, item, *at);
            }
            let fitting = item
                .ask
                .owed
                .min(item.amount.saturating_sub(counter.sum(item)));
            counter.charge(*at, fitting, item);
            counter.debt += item.ask.owed - fitting;
            let charged = counter.sum(item) - counter.debt;
            let paid = counter.debt.min(item.amount.saturating_sub(charged));
            counter.charge(*at, paid, item);
            counter.debt -= paid;
        }
        let fits = grace == 0
            && loaded.iter().zip(items).all(|((counter, _), item)| {
                !counter.late && counter.sum(item) + item.ask.need <= item.amount
            });
        let mut answers = Vec::new();
        for ((mut counter, at), item) in loaded.into_iter().zip(items) {
            let used = counter.sum(item);
            let refused = used + item.ask.need > item.amount;
            let granted = if fits {
                let spare = (item.amount - used).saturating_sub(item.ask.need) / replicas.max(1);
                item.ask.want.min(item.ask.need + spare)
            } else {
                0
            };
            counter.charge(at, granted, item);
            let holds = item.ask.holds + granted;
            if let Reckoning::Places { lease_ms } = item.reckoning
                && !std::mem::take(&mut counter.late)
            {
                let until = now + i64::try_from(lease_ms).unwrap_or(0);
                let told = (holds, until, item.ask.turn);
                counter.places.insert(replica.to_owned(), told);
            }
            counter.used *= u64::from(!matches!(item.reckoning, Reckoning::Places { .. }));
            let ends_in_ms = match item.reckoning {
                Reckoning::Calendar { .. } => u64::try_from((counter.ends - now).max(0)).ok(),
                Reckoning::Rolling { .. } | Reckoning::Places { .. } => None,
            };
            answers.push(Answer {
                granted,
                at,
                used: used + granted,
                ends_in_ms,
                profile: (refused && granted == 0)
                    .then(|| counter.profile(item, self.buckets_short, now)),
            });
            self.counters.insert(item.key.clone(), counter);
        }
        Outcome::Done(answers, grace)
    }
}

impl Counter {
    /// Brings it to `now`, and tells what is charged; none if no period holds `now`.
    fn load(&mut self, replica: &str, item: &Item, short: u64, now: i64) -> Option<i64> {
        match &item.reckoning {
            Reckoning::Rolling { tau_ms, buckets } => {
                let at = now.div_euclid(i64::try_from(*tau_ms).ok()?);
                let len = i64::try_from(buckets - short).ok()?;
                let mut head = self.head.unwrap_or(at);
                if self.sum(item) == 0 {
                    head = head.max(at);
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
            Reckoning::Calendar { periods } => {
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
            Reckoning::Places { .. } => {
                self.places.retain(|_, (_, until, _)| *until > now);
                self.late = self
                    .places
                    .get(replica)
                    .is_some_and(|(_, _, turn)| *turn > item.ask.turn);
                if !self.late {
                    self.places.remove(replica);
                    self.used = item.ask.holds;
                }
                Some(0)
            }
        }
    }

    fn sum(&self, item: &Item) -> u64 {
        let counted: u64 = match item.reckoning {
            Reckoning::Rolling { .. } => self.buckets.values().sum(),
            Reckoning::Calendar { .. } => self.used,
            Reckoning::Places { .. } => {
                self.used + self.places.values().map(|(count, ..)| count).sum::<u64>()
            }
        };
        counted + self.debt
    }

    fn charge(&mut self, at: i64, amount: u64, item: &Item) {
        match item.reckoning {
            Reckoning::Rolling { .. } => *self.buckets.entry(at).or_default() += amount,
            Reckoning::Calendar { .. } => self.used += amount,
            Reckoning::Places { .. } => {}
        }
    }

    fn take_back(&mut self, part: Part, item: &Item, at: i64) {
        match item.reckoning {
            Reckoning::Rolling { .. } => {
                if let Some(bucket) = self.buckets.get_mut(&part.at) {
                    *bucket = bucket.saturating_sub(part.amount);
                }
            }
            Reckoning::Calendar { .. } if part.at == at => {
                self.used = self.used.saturating_sub(part.amount);
            }
            Reckoning::Calendar { .. } | Reckoning::Places { .. } => {}
        }
    }

    fn profile(&self, item: &Item, short: u64, now: i64) -> Profile {
        match &item.reckoning {
            Reckoning::Rolling { tau_ms, buckets } => {
                let head = self.head.unwrap_or(0);
                let len = i64::try_from(buckets - short).unwrap_or(1);
                let tau = i64::try_from(*tau_ms).unwrap_or(1);
                let bucket = |at: i64| self.buckets.get(&at).copied().unwrap_or(0);
                Profile::Rolling {
                    buckets: (head - len + 1..=head).map(bucket).collect(),
                    debt: self.debt,
                    tau_ms: *tau_ms,
                    turns_in_ms: u64::try_from(((head + 1) * tau - now).max(1)).unwrap_or(1),
                }
            }
            Reckoning::Calendar { .. } => Profile::Calendar,
            Reckoning::Places { .. } => Profile::Places,
        }
    }
}
