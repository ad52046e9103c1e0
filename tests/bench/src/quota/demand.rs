//! Callers in numbers: all at once, or spread over time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::call::{Caller, Chat, Outcome};

/// What calls came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) cut: u64,
    /// By status.
    pub(super) failed: BTreeMap<u16, u64>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Failed(status) => *self.failed.entry(status).or_default() += 1,
            Outcome::Cut => self.cut += 1,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.cut += other.cut;
        for (status, count) in other.failed {
            *self.failed.entry(status).or_default() += count;
        }
    }

    /// How many were neither answered nor refused, and what became of them.
    pub(super) fn told_broken(&self) -> String {
        let failed = self
            .failed
            .iter()
            .map(|(status, count)| (status.to_string(), *count));
        let cut = [("cut".to_owned(), self.cut)];
        let told: Vec<String> = failed
            .chain(cut)
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} ({what})"))
            .collect();
        if told.is_empty() {
            return "0".to_owned();
        }
        told.join(", ")
    }

    /// Fails when a call was neither answered nor refused.
    pub(super) fn sound(&self) -> Result<()> {
        let sound = self.cut == 0 && self.failed.is_empty();
        ensure!(sound, "calls were cut or failed: {self:?}");
        Ok(())
    }
}

/// What all callers of a crowd ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    pub(super) model: &'a str,
    pub(super) bounded: bool,
    pub(super) stream: bool,
}

/// Connected callers.
#[derive(Debug)]
pub(super) struct Crowd {
    callers: Vec<Caller>,
}

impl Crowd {
    /// Connects `count` callers with prompts of 20 to 119 words, and `max_tokens` of 32, 64 and 128 if
    /// they are bounded. Seven of ten call the first address, the others the rest in turn; after a
    /// replica stopped they go on to the next.
    pub(super) async fn connect(
        addresses: &[SocketAddr],
        asked: Asked<'_>,
        count: usize,
    ) -> Result<Self> {
        let mut callers = Vec::with_capacity(count);
        for number in 0..count {
            let bound = [32, 64, 128].into_iter().cycle().nth(number % 3);
            let chat = Chat {
                key: asked.key,
                model: asked.model,
                words: 20 + number * 37 % 100,
                max_tokens: bound.filter(|_| asked.bounded),
                stream: asked.stream,
            };
            let mut caller = Caller::new(skewed(addresses, number), chat.request());
            caller.connect().await?;
            callers.push(caller);
        }
        Ok(Self { callers })
    }

    /// Every caller calls once, all at the same time.
    pub(super) async fn at_once(&mut self) -> Result<Tally> {
        self.drive(|_number| Plan {
            first: Duration::ZERO,
            every: Duration::MAX,
            time: Duration::ZERO,
        })
        .await
    }

    /// Every caller calls each `every`, evenly spread, for `time`; who waits for an answer longer than
    /// that skips calls. What was begun is finished.
    pub(super) async fn paced(&mut self, every: Duration, time: Duration) -> Result<Tally> {
        let count = u32::try_from(self.callers.len())?.max(1);
        self.drive(|number| Plan {
            first: every * number / count,
            every,
            time,
        })
        .await
    }

    async fn drive(&mut self, plan: impl Fn(u32) -> Plan) -> Result<Tally> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, caller) in self.callers.drain(..).enumerate() {
            let plan = plan(u32::try_from(number)?);
            tasks.spawn(plan.follow(caller, start));
        }
        let mut sum = Tally::default();
        while let Some(done) = tasks.join_next().await {
            let (caller, tally) = done?;
            self.callers.push(caller);
            sum.add(tally);
        }
        Ok(sum)
    }
}

/// When a caller calls, from a common start.
#[derive(Clone, Copy, Debug)]
struct Plan {
    first: Duration,
    every: Duration,
    time: Duration,
}

impl Plan {
    async fn follow(self, mut caller: Caller, start: Instant) -> (Caller, Tally) {
        let mut tally = Tally::default();
        let mut due = Some(start + self.first);
        while let Some(at) = due {
            sleep_until(at).await;
            tally.count(caller.call().await);
            let now = Instant::now();
            due = at.checked_add(self.every);
            while due.is_some_and(|at| at < now) {
                due = due.and_then(|at| at.checked_add(self.every));
            }
            due = due.filter(|at| at.saturating_duration_since(start) < self.time);
        }
        (caller, tally)
    }
}

/// The addresses in the order in which this caller tries them.
fn skewed(addresses: &[SocketAddr], number: usize) -> Vec<SocketAddr> {
    let others = addresses.len().saturating_sub(1);
    // Of the callers who do not go to the first, this one's number.
    let rest = (number % 10)
        .checked_sub(7)
        .map(|rest| number / 10 * 3 + rest);
    let first = rest
        .filter(|_| others > 0)
        .map_or(0, |rest| 1 + rest % others);
    let mut order = addresses.to_vec();
    order.rotate_left(first);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_of_ten_callers_go_to_the_first_and_the_rest_to_all_others() {
        for count in [1_u16, 2, 3, 8] {
            let addresses: Vec<SocketAddr> =
                (0..count).map(|n| ([127, 0, 0, 1], n).into()).collect();
            let mut calls = BTreeMap::new();
            for number in 0..3000 {
                *calls
                    .entry(skewed(&addresses, number)[0].port())
                    .or_insert(0_u16) += 1;
            }
            assert_eq!(calls.len(), usize::from(count));
            if count > 1 {
                let even = 900 / (count - 1);
                assert_eq!(calls.remove(&0), Some(2100));
                assert!(
                    calls.values().all(|&calls| calls.abs_diff(even) <= 1),
                    "{calls:?}"
                );
            }
        }
    }
}
