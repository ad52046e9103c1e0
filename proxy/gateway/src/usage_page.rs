//! `/quota` and the gauges of limits: the use of every limit, by subject.
//!
//! Reads counters without taking quota or delaying a request, and never shows a key.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_admin::pages::usage::{LimitUsage, SUBJECTS, SubjectUsage, UsagePage};
use proxy_core::names::Moment;
use proxy_core::quota::{LimitName, Unit};
use proxy_ledger::{Counted, EnforcedLimit, Ledger, Slot};

use crate::gateway::Gateway;
use crate::live::Live;

#[cfg(test)]
mod tests;

impl Gateway {
    /// The use of every limit; no limits before the first table.
    #[must_use]
    pub fn usage_page(&self) -> UsagePage {
        let shared = self.shared();
        let sums = self.limit_sums().into_iter();
        UsagePage {
            replicas: shared.replicas(),
            reporting: None,
            limits: sums.map(|sum| sum.limit).collect(),
        }
    }

    fn limit_sums(&self) -> Vec<LimitSum> {
        let shared = self.shared();
        let live = shared.live();
        live.map(|live| limits(&live, &shared.ledger, clock::now()))
            .unwrap_or_default()
    }

    /// Registers gauges that read the limits at each scrape.
    pub fn register_limits(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(AtScrape(self.clone())));
    }
}

/// A limit with the sums over all of its subjects, listed or not.
#[derive(Debug)]
pub(crate) struct LimitSum {
    pub(crate) limit: LimitUsage,
    used: u64,
    reserved: u64,
    /// By one subject.
    highest_used: u64,
}

pub(crate) fn limits(live: &Live, ledger: &Ledger, now: Moment) -> Vec<LimitSum> {
    let mut used: HashMap<LimitName, Vec<Used>> = HashMap::new();
    for slot in ledger.slots() {
        // The counter of a removed limit is kept: the limit may come back within the window.
        let Some(limit) = live.limit(&slot.limit) else {
            continue;
        };
        let by = slot.enforced(limit);
        let counted = slot.counted(&by.limit, now);
        if counted.used > 0 {
            let of_limit = used.entry(slot.limit.clone()).or_default();
            of_limit.push(Used { counted, slot, by });
        }
    }
    let in_order = live.table.limits().iter();
    let limits = in_order.filter_map(|flat| live.limit(&flat.name));
    limits
        .map(|limit| {
            let flat = &limit.flat;
            let mut used = used.remove(&flat.name).unwrap_or_default();
            used.sort_by(|a, b| {
                let by_share = b.across(a).cmp(&a.across(b));
                let by_use = by_share.then_with(|| b.counted.used.cmp(&a.counted.used));
                by_use.then_with(|| a.slot.subject.cmp(&b.slot.subject))
            });
            let (all_used, all_reserved) = (
                sum(&used, |counted| counted.used),
                sum(&used, |counted| counted.reserved),
            );
            let highest_used = used.iter().map(|one| one.counted.used).max();
            let limit = LimitUsage {
                limit: flat.name.clone(),
                unit: flat.limit.unit.as_str().to_owned(),
                window: flat.limit.window.to_string(),
                mode: limit.mode().as_str().to_owned(),
                declared: flat.limit.amount,
                amount: limit.limit.amount,
                denials: limit.denials.get(),
                shadow_denials: limit.shadow_denials.get(),
                counters: u64::try_from(used.len()).unwrap_or(u64::MAX),
                subjects: used
                    .iter()
                    .take(SUBJECTS)
                    .map(|Used { counted, slot, by }| SubjectUsage {
                        subject: slot.subject.to_string(),
                        used: counted.used,
                        reserved: counted.reserved,
                        amount: by.overridden().map(|_| by.limit.amount),
                        remaining: by.limit.amount.saturating_sub(counted.used),
                        reset_seconds: (flat.limit.unit != Unit::Concurrency)
                            .then(|| counted.reset_ms.div_ceil(1_000)),
                    })
                    .collect(),
            };
            LimitSum {
                limit,
                used: all_used,
                reserved: all_reserved,
                highest_used: highest_used.unwrap_or(0),
            }
        })
        .collect()
}

/// A counter that has counted something.
struct Used {
    counted: Counted,
    slot: Arc<Slot>,
    /// What counts there.
    by: Arc<EnforcedLimit>,
}

impl Used {
    /// Larger than the same of `other` if it has used a larger share of its amount, which may be 0.
    fn across(&self, other: &Self) -> u128 {
        u128::from(self.counted.used).saturating_mul(u128::from(other.by.limit.amount))
    }
}

fn sum(used: &[Used], part: impl Fn(&Counted) -> u64) -> u64 {
    let parts = used.iter().map(|one| part(&one.counted));
    parts.fold(0, u64::saturating_add)
}

/// Has no series per subject unless `--limit-series` asks for them: callers without a Secret could make
/// any number of series.
#[derive(Debug)]
struct AtScrape(Gateway);

type Gauge = fn(&LimitSum) -> u64;

impl Collector for AtScrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = self.0.limit_sums();
        let amount: Gauge = |all| all.limit.amount;
        let used: Gauge = |all| all.used;
        let reserved: Gauge = |all| all.reserved;
        let remaining: Gauge = |all| {
            let tightest = all.limit.subjects.first();
            tightest.map_or(all.limit.amount, |subject| subject.remaining)
        };
        let highest: Gauge = |all| all.highest_used;
        let subjects: Gauge = |all| all.limit.counters;
        let families = [
            (
                "limit_amount",
                "What this replica allows per window, or at once.",
                amount,
            ),
            (
                "limit_used",
                "Used by all subjects together, what is reserved included.",
                used,
            ),
            (
                "limit_reserved",
                "The part of it that running requests of this replica hold.",
                reserved,
            ),
            (
                "limit_least_remaining",
                "Left to the subject that has used the largest share of its amount.",
                remaining,
            ),
            (
                "limit_highest_used",
                "Used by the subject that has used most, what is reserved included.",
                highest,
            ),
            (
                "limit_subjects",
                "Subjects that have used something in the window.",
                subjects,
            ),
        ];
        for (name, help, value) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in &all {
                let name = one.limit.limit.to_string();
                let labels = [("limit", &*name), ("unit", &*one.limit.unit)];
                ConstGauge::new(value(one)).encode(family.encode_family(&labels)?)?;
            }
        }
        let series = self.0.shared().config.limit_series;
        if series == 0 {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "limit_subject_used",
            "Used by one subject, of each limit the most used --limit-series.",
            None,
            MetricType::Gauge,
        )?;
        for one in &all {
            let name = one.limit.limit.to_string();
            for subject in one.limit.subjects.iter().take(series) {
                let labels = [("limit", &*name), ("subject", &*subject.subject)];
                ConstGauge::new(subject.used).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
