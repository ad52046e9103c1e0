//! Who has used how much of which limit, over all replicas: the page `/quota`.
//!
//! It looks as a proxy's page does, so that `tundish quota` reads both; a test holds them together.

use std::collections::HashMap;
use std::sync::Arc;

use proxy_core::names::Moment;
use proxy_core::quota::{Counter, LimitName, StoreState, SubjectKey, Window};
use serde::Serialize;

use super::{Declared, Limits, period_start_ms};
use crate::fleet::Members;

/// Subjects told of one limit, the most used first.
const SUBJECTS: usize = 1_000;

/// All limits at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    replicas: u64,
    /// How many of the replicas have told what they used. A proxy's page does not have it.
    reporting: usize,
    limits: Vec<LimitStanding>,
}

#[derive(Debug, Serialize)]
struct LimitStanding {
    limit: String,
    unit: &'static str,
    window: String,
    mode: &'static str,
    declared: u64,
    amount: u64,
    denials: u64,
    shadow_denials: u64,
    counters: usize,
    subjects: Vec<SubjectStanding>,
}

#[derive(Debug, Serialize)]
struct SubjectStanding {
    subject: Arc<str>,
    used: u64,
    reserved: u64,
    remaining: u64,
    reset_seconds: Option<u64>,
}

/// What one subject has used.
#[derive(Default)]
struct Sum {
    subject: Arc<str>,
    /// By replicas that count for themselves.
    own: u64,
    /// What the shared store says, of which every replica knows the whole.
    shared: u64,
    reserved: u64,
}

pub(crate) fn standing(members: &Members, limits: &Limits, now: Moment) -> Standing {
    let mut told: Vec<LimitStanding> = limits
        .iter()
        .map(|(name, declared)| of_limit(members, name, declared, now))
        .collect();
    told.sort_by(|a, b| a.limit.cmp(&b.limit));
    Standing {
        replicas: members.count(),
        reporting: members.usages().filter(|usage| usage.has_told()).count(),
        limits: told,
    }
}

fn of_limit(
    members: &Members,
    name: &LimitName,
    declared: &Declared,
    now: Moment,
) -> LimitStanding {
    let limit = &declared.limit;
    let period = period_start_ms(limit, now);
    let mut sums: HashMap<SubjectKey, Sum> = HashMap::new();
    for usage in members.usages() {
        for (key, counted) in usage.of(name) {
            if counted.period_start_ms != period {
                continue;
            }
            let sum = sums.entry(*key).or_default();
            sum.name(&counted.subject);
            match usage.store() {
                StoreState::None => sum.own = sum.own.saturating_add(counted.used),
                StoreState::Ok | StoreState::Lost => sum.shared = sum.shared.max(counted.used),
            }
            sum.reserved = sum.reserved.saturating_add(counted.reserved);
        }
    }
    if !members.share_a_store() {
        for (key, counted) in members.departed().of(name) {
            if counted.period_start_ms == period {
                let sum = sums.entry(*key).or_default();
                sum.name(&counted.subject);
                sum.own = sum.own.saturating_add(counted.used);
            }
        }
    }
    let reset_seconds = reset_seconds(declared, now);
    let mut subjects: Vec<SubjectStanding> = sums
        .into_values()
        .map(|sum| {
            let used = sum.own.saturating_add(sum.shared);
            SubjectStanding {
                used,
                reserved: sum.reserved,
                remaining: limit.amount.saturating_sub(used),
                reset_seconds,
                subject: sum.subject,
            }
        })
        .filter(|subject| subject.used > 0)
        .collect();
    subjects.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.subject.cmp(&b.subject)));
    let counters = subjects.len();
    subjects.truncate(SUBJECTS);
    let denials = || {
        let all = members.usages().flat_map(|usage| usage.denials());
        all.filter(|denials| denials.limit == *name)
    };
    LimitStanding {
        limit: name.to_string(),
        unit: limit.unit.as_str(),
        window: limit.window.to_string(),
        mode: declared.mode.as_str(),
        declared: limit.amount,
        amount: limit.amount,
        denials: denials().fold(0, |sum, one| sum.saturating_add(one.denials)),
        shadow_denials: denials().fold(0, |sum, one| sum.saturating_add(one.shadow_denials)),
        counters,
        subjects,
    }
}

impl Sum {
    /// Who it is; one replica may know it where another does not.
    fn name(&mut self, subject: &Arc<str>) {
        if self.subject.is_empty() {
            self.subject = Arc::clone(subject);
        }
    }
}

/// Until everything used now has left the window, at the latest: an operator does not know when it
/// was used.
fn reset_seconds(declared: &Declared, now: Moment) -> Option<u64> {
    match declared.limit.window {
        Window::Second => Some(1),
        Window::Minute => Some(60),
        Window::Held => None,
        Window::Calendar(..) => {
            let mut counter = Counter::new(&declared.limit, now);
            Some(counter.reset_ms(&declared.limit, now).div_ceil(1_000))
        }
    }
}
