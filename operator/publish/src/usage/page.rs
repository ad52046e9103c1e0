//! `/quota`: the use of every limit over all replicas, by subject.

use std::collections::HashMap;
use std::sync::Arc;

use proxy_admin::pages::usage::{LimitUsage, SUBJECTS, SubjectUsage, UsagePage};
use proxy_core::names::Moment;
use proxy_core::quota::{Counter, LimitName, StoreState, SubjectKey, Window};

use super::{Counted, Declared, Limits, period_start_ms};
use crate::fleet::Members;

/// The use of one subject.
#[derive(Default)]
struct Sum {
    subject: Arc<str>,
    /// Counted by replicas on their own.
    own: u64,
    /// Counted by the shared store, whose total every replica knows.
    shared: u64,
    reserved: u64,
    overridden: Option<u64>,
}

pub(crate) fn usage_page(members: &Members, limits: &Limits, now: Moment) -> UsagePage {
    let mut limits: Vec<LimitUsage> = limits
        .iter()
        .map(|(name, declared)| of_limit(members, name, declared, now))
        .collect();
    limits.sort_by_cached_key(|usage| usage.limit.to_string());
    let reporting = members
        .usages()
        .filter(|usage| usage.has_reported())
        .count();
    UsagePage {
        replicas: members.count(),
        reporting: Some(u64::try_from(reporting).unwrap_or(u64::MAX)),
        limits,
    }
}

fn of_limit(members: &Members, name: &LimitName, declared: &Declared, now: Moment) -> LimitUsage {
    let limit = &declared.limit;
    let period = period_start_ms(limit, now);
    let mut sums: HashMap<SubjectKey, Sum> = HashMap::new();
    for usage in members.usages() {
        for (key, counted) in usage.of(name) {
            if counted.period_start_ms != period {
                continue;
            }
            let sum = sums.entry(*key).or_default();
            sum.describe(counted);
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
                sum.describe(counted);
                sum.own = sum.own.saturating_add(counted.used);
            }
        }
    }
    let reset_seconds = reset_seconds(declared, now);
    let mut subjects: Vec<SubjectUsage> = sums
        .into_values()
        .map(|sum| {
            let used = sum.own.saturating_add(sum.shared);
            let amount = declared.amount_for(sum.overridden);
            SubjectUsage {
                used,
                reserved: sum.reserved,
                amount: (amount != limit.amount).then_some(amount),
                remaining: amount.saturating_sub(used),
                reset_seconds,
                subject: sum.subject.to_string(),
            }
        })
        .filter(|subject| subject.used > 0)
        .collect();
    // The largest share first; compared crosswise, since an amount may be 0.
    let across = |used: u64, other: &SubjectUsage| {
        u128::from(used).saturating_mul(u128::from(other.amount.unwrap_or(limit.amount)))
    };
    subjects.sort_by(|a, b| {
        let by_share = across(b.used, a).cmp(&across(a.used, b));
        let by_use = by_share.then_with(|| b.used.cmp(&a.used));
        by_use.then_with(|| a.subject.cmp(&b.subject))
    });
    let counters = u64::try_from(subjects.len()).unwrap_or(u64::MAX);
    subjects.truncate(SUBJECTS);
    let denials = || {
        let all = members.usages().flat_map(|usage| usage.denials());
        all.filter(|denials| denials.limit == *name)
    };
    LimitUsage {
        limit: name.clone(),
        unit: limit.unit.as_str().to_owned(),
        window: limit.window.to_string(),
        mode: declared.mode.as_str().to_owned(),
        declared: limit.amount,
        amount: limit.amount,
        denials: denials().fold(0, |sum, one| sum.saturating_add(one.denials)),
        shadow_denials: denials().fold(0, |sum, one| sum.saturating_add(one.shadow_denials)),
        counters,
        subjects,
    }
}

impl Sum {
    /// Keeps the first name and amount: a replica that restarted may not know them.
    fn describe(&mut self, counted: &Counted) {
        if self.subject.is_empty() {
            self.subject = Arc::clone(&counted.subject);
        }
        self.overridden = self.overridden.or(counted.overridden);
    }
}

/// Latest time until everything used now has left the window: an operator does not know when it was
/// used.
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
