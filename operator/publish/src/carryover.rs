//! How much more each replica has to count than its own use, so that all of them together never admit
//! more than a limit within a calendar period.
//!
//! With N replicas each allows limit / N. That is too much when some of the limit was used by replicas
//! that are gone, or when one has used more than its present part, since there were fewer replicas
//! before. Every replica therefore counts the same amount in addition: the least with which all that
//! they may still admit is not more than what is left.

use std::collections::{BTreeSet, HashMap};

use proxy_core::names::Moment;
use proxy_core::quota::{self, LimitName, SubjectKey};
use proxy_wire::v1::Carried;

use super::{Declared, Limits, Usage, oldest_period_ms};
use crate::fleet::Members;

/// Told at most, the largest first. As many as a replica reports.
const ENTRIES: usize = 10_000;

/// What every replica counts in addition, and how many subjects were left out.
pub(crate) fn carried(members: &Members, limits: &Limits, now: Moment) -> (Carried, usize) {
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
    let amount = declared.limit.amount;
    let share = amount.checked_div(replicas).unwrap_or(amount);
    let over = members
        .usages()
        .flat_map(|usage| usage.of(name))
        .filter(|(_, counted)| counted.used > share);
    let gone = members.departed().of(name);
    let mut periods: HashMap<SubjectKey, i64> = HashMap::new();
    for (key, counted) in over.chain(gone) {
        let period = counted.period_start_ms.filter(|start| *start >= oldest);
        if let Some(period) = period {
            let newest = periods.entry(*key).or_insert(period);
            *newest = period.max(*newest);
        }
    }
    let keys: BTreeSet<(SubjectKey, i64)> = periods.into_iter().collect();
    let usages: Vec<&Usage> = members.usages().collect();
    keys.into_iter()
        .filter_map(|(key, period_start_ms)| {
            let gone = members.departed().used(name, key, period_start_ms);
            let used: Vec<u64> = usages
                .iter()
                .map(|usage| usage.used(name, key, period_start_ms))
                .collect();
            let amount = level(amount, replicas, &used, gone);
            (amount > 0).then(|| quota::Carried {
                limit: name.clone(),
                key,
                period_start_ms,
                amount,
            })
        })
        .collect()
}

/// What each of `replicas` counts in addition: `used` is what some of them used, `gone` what others
/// did that are gone.
fn level(amount: u64, replicas: u64, used: &[u64], gone: u64) -> u64 {
    let share = amount.checked_div(replicas).unwrap_or(amount);
    let sum = used
        .iter()
        .fold(gone, |sum, used| sum.saturating_add(*used));
    let left = amount.saturating_sub(sum);
    // What each may still admit. Who tells nothing has used nothing.
    let silent = usize::try_from(replicas).unwrap_or(usize::MAX);
    let silent = silent.saturating_sub(used.len());
    let mut open: Vec<u64> = used
        .iter()
        .map(|used| share.saturating_sub(*used))
        .collect();
    open.extend(std::iter::repeat_n(share, silent));
    open.sort_unstable_by(|a, b| b.cmp(a));
    // Cut the highest down to one level, the next included as long as it reaches that far.
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
pub(super) mod tests {
    use super::level;

    /// The amount, and what the replicas may still admit when each counts it.
    fn check(amount: u64, used: &[u64], gone: u64) -> (u64, u64) {
        let replicas = u64::try_from(used.len()).unwrap();
        let carried = level(amount, replicas, used, gone);
        let room = |used: &u64| (amount / replicas).saturating_sub(carried + used);
        (carried, used.iter().map(room).sum())
    }

    #[test]
    fn nothing_is_carried_as_long_as_everybody_is_here_and_within_its_part() {
        assert_eq!(check(100, &[0], 0), (0, 100));
        assert_eq!(check(100, &[33, 10, 0], 0), (0, 23 + 33));
        assert_eq!(check(0, &[0, 0], 0), (0, 0));
    }

    #[test]
    fn what_others_used_is_divided_and_rounded_up() {
        assert_eq!(check(100, &[0], 40), (40, 60));
        assert_eq!(check(100, &[0, 0], 41), (21, 58));
        assert_eq!(check(100, &[30, 0], 40), (20, 30));
    }

    #[test]
    fn a_replica_that_has_more_than_its_part_is_made_up_for_by_the_others() {
        // One alone had used 80 of 100 before the second came.
        assert_eq!(check(100, &[80, 0], 0), (30, 20));
        assert_eq!(check(100, &[120, 0], 0), (50, 0));
        assert_eq!(check(100, &[45, 0], 40), (35, 15));
    }

    proptest::proptest! {
        #[test]
        fn what_may_still_be_admitted_is_what_is_left_and_hardly_less(
            amount in 0..1_000_000u64,
            used in proptest::collection::vec(0..300_000u64, 1..12),
            gone in 0..1_200_000u64,
        ) {
            let (carried, room) = check(amount, &used, gone);
            let sum: u64 = used.iter().sum::<u64>() + gone;
            let left = amount.saturating_sub(sum);
            let replicas = u64::try_from(used.len()).unwrap();
            proptest::prop_assert!(room <= left, "{room} of {left}");
            if carried > 0 {
                proptest::prop_assert!(room + replicas > left, "{room} of {left}");
            }
        }
    }
}
