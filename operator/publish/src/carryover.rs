//! The carryover: use by other replicas that every replica counts in addition to its own, so that
//! all together never admit more than a limit within a calendar period.
//!
//! With N replicas each allows limit / N. That is too much after a replica that used some of the
//! limit has departed, and after one has used more than its present share because there were fewer
//! replicas before. So every replica counts the same additional amount: the least with which
//! everything that the replicas may still admit fits into what is left.

use std::collections::{BTreeMap, HashMap};

use proxy_core::names::Moment;
use proxy_core::quota::{self, LimitName, SubjectKey};
use proxy_wire::v1::Carried;

use crate::fleet::Members;
use crate::usage::{Declared, Limits, Usage, oldest_period_ms};

/// Most entries, the largest first. A replica reports as many.
const ENTRIES: usize = 10_000;

/// The carryover of every replica, and how many subjects were left out.
pub(crate) fn carryover(members: &Members, limits: &Limits, now: Moment) -> (Carried, usize) {
    let mut carried = Carried {
        replicas: members.count(),
        entries: Vec::new(),
    };
    if members.share_a_store() || carried.replicas == 0 {
        return (carried, 0);
    }
    let mut found: Vec<quota::Carried> = limits
        .iter()
        .flat_map(|(name, declared)| of_limit(members, name, declared, now))
        .collect();
    // The largest first; then by name, so that the same state gives the same line.
    found.sort_by(|a, b| {
        let by_amount = b.amount.cmp(&a.amount);
        by_amount.then_with(|| (&a.limit, a.key).cmp(&(&b.limit, b.key)))
    });
    let left_out = found.len().saturating_sub(ENTRIES);
    found.truncate(ENTRIES);
    carried.entries = found.into_iter().map(Into::into).collect();
    (carried, left_out)
}

/// What the replicas know of a subject.
struct Found {
    period_start_ms: i64,
    overridden: Option<u64>,
}

fn of_limit(
    members: &Members,
    name: &LimitName,
    declared: &Declared,
    now: Moment,
) -> Vec<quota::Carried> {
    let Some(oldest) = oldest_period_ms(&declared.limit, now) else {
        return Vec::new();
    };
    let replicas = members.count();
    let over = members
        .usages()
        .flat_map(|usage| usage.of(name))
        .filter(|(_, counted)| {
            let amount = declared.amount_for(counted.overridden);
            counted.used > amount.checked_div(replicas).unwrap_or(amount)
        });
    let departed = members.departed().of(name);
    // A live replica knows the overrides in force; the last report of a departed one may not.
    let mut periods: HashMap<SubjectKey, Found> = HashMap::new();
    for (key, counted) in over.chain(departed) {
        let period = counted.period_start_ms.filter(|start| *start >= oldest);
        if let Some(period_start_ms) = period {
            let found = periods.entry(*key).or_insert(Found {
                period_start_ms,
                overridden: None,
            });
            found.period_start_ms = period_start_ms.max(found.period_start_ms);
            found.overridden = found.overridden.or(counted.overridden);
        }
    }
    let keys: BTreeMap<SubjectKey, Found> = periods.into_iter().collect();
    let usages: Vec<&Usage> = members.usages().collect();
    keys.into_iter()
        .filter_map(|(key, found)| {
            let period_start_ms = found.period_start_ms;
            let departed = members.departed().used(name, key, period_start_ms);
            let used: Vec<u64> = usages
                .iter()
                .map(|usage| usage.used(name, key, period_start_ms))
                .collect();
            let known = usages.iter().find_map(|usage| usage.overridden(name, key));
            let amount = declared.amount_for(known.or(found.overridden));
            let amount = level(amount, replicas, &used, departed);
            (amount > 0).then(|| quota::Carried {
                limit: name.clone(),
                key,
                period_start_ms,
                amount,
            })
        })
        .collect()
}

/// The additional amount for each of `replicas`. `used` is the use of those that report, `departed`
/// that of departed replicas.
fn level(amount: u64, replicas: u64, used: &[u64], departed: u64) -> u64 {
    let share = amount.checked_div(replicas).unwrap_or(amount);
    let sum = used
        .iter()
        .fold(departed, |sum, used| sum.saturating_add(*used));
    let left = amount.saturating_sub(sum);
    // What each may still admit. A replica without reports has used nothing.
    let silent = usize::try_from(replicas).unwrap_or(usize::MAX);
    let silent = silent.saturating_sub(used.len());
    let mut open: Vec<u64> = used
        .iter()
        .map(|used| share.saturating_sub(*used))
        .collect();
    open.extend(std::iter::repeat_n(share, silent));
    open.sort_unstable_by(|a, b| b.cmp(a));
    // Cut the highest down to one level; each next one takes part while it reaches above it.
    let mut total: u64 = 0;
    let mut level: u64 = 0;
    for (open, count) in open.into_iter().zip(1u64..) {
        if open <= level {
            break;
        }
        total = total.saturating_add(open);
        level = total.saturating_sub(left).div_ceil(count);
    }
    level
}

#[cfg(test)]
mod tests;
