//! Who has used how much of which limit: what `/quota` answers and what is told at a scrape.
//!
//! A look from outside: it takes no quota, holds no request up, and never shows a key.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use proxy_admin::clock;
use proxy_core::names::Moment;
use proxy_core::quota::{LimitName, Mode, Unit};
use serde::{Deserialize, Serialize};

use proxy_ledger::{Counted, Ledger, Slot};

use crate::gateway::Gateway;
use crate::live::Live;

#[cfg(test)]
mod tests;

/// Subjects told of one limit, the most used first: pass-through callers have no bound.
const SUBJECTS: usize = 1_000;

/// All limits of one proxy at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How many replicas share the limits; this one enforces and tells its part only.
    pub replicas: u64,
    /// Every limit, by name.
    pub limits: Vec<LimitStanding>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStanding {
    /// `namespace/quota/limit`.
    pub limit: String,
    /// What it counts.
    pub unit: String,
    /// The window, with its time zone unless that is UTC.
    pub window: String,
    /// `Enforce` or `Shadow`.
    pub mode: String,
    /// How much is allowed over all replicas.
    pub declared: u64,
    /// This replica's part of that.
    pub amount: u64,
    /// Requests refused by it since the process began.
    pub denials: u64,
    /// Requests that it would have refused, in mode `Shadow`.
    pub shadow_denials: u64,
    /// How many subjects have used something.
    pub counters: u64,
    /// The most used of them, at most 1,000.
    pub subjects: Vec<SubjectStanding>,
}

/// What one subject has used of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectStanding {
    /// Such as `consumer=ns/name model=gpt-4o`; empty if the quota does not split its counters.
    pub subject: String,
    /// Used in the window, what is reserved included.
    pub used: u64,
    /// The part of it that running requests hold.
    pub reserved: u64,
    /// What is left.
    pub remaining: u64,
    /// Until everything used now has left the window, at the latest; none for `Concurrency`.
    pub reset_seconds: Option<u64>,
}

impl LimitStanding {
    /// How many subjects were left out.
    #[must_use]
    pub fn cut(&self) -> u64 {
        let shown = u64::try_from(self.subjects.len()).unwrap_or(u64::MAX);
        self.counters.saturating_sub(shown)
    }
}

impl Gateway {
    /// What is used of every limit; nothing before the first table.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let shared = self.shared();
        let summed = self.summed().into_iter();
        Standing {
            replicas: shared.replicas(),
            limits: summed.map(|summed| summed.limit).collect(),
        }
    }

    fn summed(&self) -> Vec<Summed> {
        let shared = self.shared();
        let live = shared.live();
        live.map(|live| limits(&live, &shared.ledger, clock::now()))
            .unwrap_or_default()
    }

    /// The same as JSON, for the admin port.
    ///
    /// # Errors
    /// It cannot be written, which does not happen.
    pub fn standing_page(&self) -> Result<String, String> {
        serde_json::to_string(&self.standing()).map_err(|error| error.to_string())
    }

    /// Tells at each scrape how the limits stand.
    pub fn register_limits(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(AtScrape(self.clone())));
    }
}

/// A limit with the sums over all of its subjects, also those that are not told.
#[derive(Debug)]
pub(crate) struct Summed {
    pub(crate) limit: LimitStanding,
    used: u64,
    reserved: u64,
}

pub(crate) fn limits(live: &Live, ledger: &Ledger, now: Moment) -> Vec<Summed> {
    let mut used: HashMap<LimitName, Vec<(Counted, Arc<Slot>)>> = HashMap::new();
    for slot in ledger.slots() {
        // A counter of a limit that is gone is kept: it may come back within the window.
        let Some(limit) = live.limit(&slot.limit) else {
            continue;
        };
        let counted = slot.counted(&limit.limit, now);
        if counted.used > 0 {
            let of_limit = used.entry(slot.limit.clone()).or_default();
            of_limit.push((counted, slot));
        }
    }
    let in_order = live.table.limits().iter();
    let limits = in_order.filter_map(|flat| live.limit(&flat.name));
    limits.map(|limit| {
        let flat = &limit.flat;
        let mut used = used.remove(&flat.name).unwrap_or_default();
        used.sort_by(|(a, slot), (b, other)| {
            let by_use = b.used.cmp(&a.used);
            by_use.then_with(|| slot.subject.cmp(&other.subject))
        });
        let (all_used, all_reserved) = (
            sum(&used, |counted| counted.used),
            sum(&used, |counted| counted.reserved),
        );
        let limit = LimitStanding {
            limit: flat.name.to_string(),
            unit: flat.limit.unit.as_str().to_owned(),
            window: flat.limit.window.to_string(),
            mode: mode(limit.mode()).to_owned(),
            declared: flat.limit.amount,
            amount: limit.limit.amount,
            denials: limit.denials.get(),
            shadow_denials: limit.shadow_denials.get(),
            counters: u64::try_from(used.len()).unwrap_or(u64::MAX),
            subjects: used
                .iter()
                .take(SUBJECTS)
                .map(|(counted, slot)| SubjectStanding {
                    subject: slot.subject.to_string(),
                    used: counted.used,
                    reserved: counted.reserved,
                    remaining: limit.limit.amount.saturating_sub(counted.used),
                    reset_seconds: (flat.limit.unit != Unit::Concurrency)
                        .then(|| counted.reset_ms.div_ceil(1_000)),
                })
                .collect(),
        };
        Summed {
            limit,
            used: all_used,
            reserved: all_reserved,
        }
    })
    .collect()
}

fn sum(used: &[(Counted, Arc<Slot>)], part: impl Fn(&Counted) -> u64) -> u64 {
    let parts = used.iter().map(|(counted, _)| part(counted));
    parts.fold(0, u64::saturating_add)
}

pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "Enforce",
        Mode::Shadow => "Shadow",
    }
}

/// No series per subject unless so many are asked for: callers whom no Secret names could make as many
/// as they like.
#[derive(Debug)]
struct AtScrape(Gateway);

type Reading = fn(&Summed) -> u64;

impl Collector for AtScrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = self.0.summed();
        let amount: Reading = |all| all.limit.amount;
        let used: Reading = |all| all.used;
        let reserved: Reading = |all| all.reserved;
        let remaining: Reading = |all| {
            let tightest = all.limit.subjects.first();
            tightest.map_or(all.limit.amount, |subject| subject.remaining)
        };
        let highest: Reading = |all| all.limit.subjects.first().map_or(0, |subject| subject.used);
        let subjects: Reading = |all| all.limit.counters;
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
                "Left to the subject that has used most.",
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
                let labels = [("limit", &*one.limit.limit), ("unit", &*one.limit.unit)];
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
            for subject in one.limit.subjects.iter().take(series) {
                let labels = [("limit", &*one.limit.limit), ("subject", &*subject.subject)];
                ConstGauge::new(subject.used).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
