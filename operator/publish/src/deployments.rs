//! The deployments that proxies report: which of them serve, for a status, and `/backends`.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_admin::pages::backends::{BackendsPage, DeploymentState, NAMED, Proxies};
use proxy_core::balance::OutReason;
use proxy_core::names::ObjectName;
use proxy_wire::v1::DeploymentReport;

#[cfg(test)]
mod tests;

/// Why a proxy leaves a deployment out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outage {
    /// A word of docs/balancing.md, or of a newer proxy.
    pub reason: String,
    /// What the backend said, if anything.
    pub cause: String,
}

/// For each backend its deployments, with the outage of one that does not serve. A throttled one serves: it
/// answers what its own limits allow. Without numbers, so that it only changes with what matters.
pub type Outages = BTreeMap<ObjectName, BTreeMap<String, Option<Outage>>>;

/// A deployment, as all proxies together see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Proxies for which it serves.
    pub have: usize,
    /// Proxies that reported it.
    pub of: usize,
    /// The outage that most of the others see.
    pub outage: Option<Outage>,
}

/// The deployments of one report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    states: Vec<DeploymentReport>,
    /// When they came, in monotonic milliseconds.
    at_ms: u64,
    outages: Arc<Outages>,
}

/// What several proxies say of one deployment.
#[derive(Default)]
struct Sum {
    state: DeploymentState,
    proxies: Proxies,
    returns: bool,
    /// The cached parts of its input, summed up, and how many proxies know one.
    cached: (u32, u32),
    /// Of those that have it out: by reason how many, the longest time, and the cause of that one.
    reasons: BTreeMap<String, (u64, u64, String)>,
}

// === impl Served ===

impl Served {
    /// What the replicas with these outages say of the deployments of `backend`.
    pub(crate) fn by<'a>(
        replicas: impl Iterator<Item = &'a Outages>,
        backend: &ObjectName,
    ) -> BTreeMap<&'a str, Self> {
        let mut seen: BTreeMap<&str, Vec<Option<&Outage>>> = BTreeMap::new();
        for (name, outage) in replicas.filter_map(|one| one.get(backend)).flatten() {
            seen.entry(name).or_default().push(outage.as_ref());
        }
        let served = seen.into_iter().map(|(name, seen)| {
            let of = seen.len();
            let mut reasons: BTreeMap<&str, Vec<&Outage>> = BTreeMap::new();
            for outage in seen.into_iter().flatten() {
                reasons.entry(&outage.reason).or_default().push(outage);
            }
            let out: usize = reasons.values().map(Vec::len).sum();
            // The first of equals, in whichever order the proxies are.
            let most = reasons.into_values().rev().max_by_key(Vec::len);
            let served = Self {
                have: of.saturating_sub(out),
                of,
                outage: most.and_then(|most| most.into_iter().min().cloned()),
            };
            (name, served)
        });
        served.collect()
    }

    /// Whether at least half of the proxies have it.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.have >= self.of.saturating_sub(self.have)
    }
}

// === impl Reported ===

impl Reported {
    /// Takes the deployments of a report that came at `at_ms`.
    pub(crate) fn new(states: Vec<DeploymentReport>, at_ms: u64) -> Self {
        let mut outages = Outages::new();
        for one in &states {
            let Some(backend) = ObjectName::parse(&one.backend) else {
                continue;
            };
            let is_throttled = one.reason == OutReason::Throttled.as_str();
            let outage = (one.is_out() && !is_throttled).then(|| Outage {
                reason: one.reason.clone(),
                cause: one.cause.clone(),
            });
            let backend = outages.entry(backend).or_default();
            backend.insert(one.deployment.clone(), outage);
        }
        Self {
            states,
            at_ms,
            outages: Arc::new(outages),
        }
    }

    pub(crate) const fn outages(&self) -> &Arc<Outages> {
        &self.outages
    }
}

/// The page of `replicas` proxies, with the reports of those that sent one.
pub(crate) fn backends_page<'a>(
    reports: impl Iterator<Item = (&'a str, &'a Reported)>,
    replicas: u64,
    now_ms: u64,
) -> BackendsPage {
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    let mut reporting = 0_u64;
    for (proxy, reported) in reports.filter(|(_, reported)| !reported.states.is_empty()) {
        reporting = reporting.saturating_add(1);
        let age_ms = now_ms.saturating_sub(reported.at_ms);
        for one in &reported.states {
            let sum = sums.entry((&one.backend, &one.deployment)).or_default();
            sum.add(proxy, one, age_ms);
        }
    }
    let named = sums.into_iter().map(|((backend, deployment), sum)| {
        let mut state = sum.finish();
        backend.clone_into(&mut state.backend);
        deployment.clone_into(&mut state.deployment);
        state
    });
    BackendsPage {
        replicas: Some(replicas),
        reporting: Some(reporting),
        deployments: named.collect(),
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, proxy: &str, one: &DeploymentReport, age_ms: u64) {
        let Self { state, proxies, .. } = self;
        proxies.of = proxies.of.saturating_add(1);
        state.in_flight = state.in_flight.saturating_add(one.in_flight);
        state.failures_in_a_row = state.failures_in_a_row.max(one.failures_in_a_row);
        state.first_byte_ms = state.first_byte_ms.max(one.first_byte_ms);
        state.utilisation_percent = state.utilisation_percent.max(one.utilisation_percent);
        if let Some(percent) = one.cached_input_percent {
            let (sum, count) = self.cached;
            self.cached = (sum.saturating_add(percent), count.saturating_add(1));
        }
        if !one.is_out() {
            proxies.have = proxies.have.saturating_add(1);
            self.returns |= one.state == "Returning";
            return;
        }
        if proxies.out_on.len() < NAMED {
            proxies.out_on.push(proxy.to_owned());
        }
        let out_ms = one.out_ms.unwrap_or(0).saturating_add(age_ms);
        state.out_ms = state.out_ms.max(Some(out_ms));
        if let Some(left) = one.retry_in_ms {
            let left = left.saturating_sub(age_ms);
            state.retry_in_ms = Some(state.retry_in_ms.map_or(left, |least| least.min(left)));
        }
        let (count, longest, cause) = self.reasons.entry(one.reason.clone()).or_default();
        if *count == 0 || out_ms > *longest {
            (*longest, *cause) = (out_ms, one.cause.clone());
        }
        *count = count.saturating_add(1);
    }

    fn finish(self) -> DeploymentState {
        let Proxies { have, of, .. } = self.proxies;
        let state = match (have >= of.saturating_sub(have), self.returns) {
            (false, _) => "Out",
            (true, true) => "Returning",
            (true, false) => "In",
        };
        let reasons = self.reasons.into_iter().rev();
        let most = reasons.max_by_key(|(_, (count, ..))| *count);
        let (reason, (.., cause)) = most.unwrap_or_default();
        DeploymentState {
            state: state.to_owned(),
            reason,
            cause,
            cached_input_percent: self.cached.0.checked_div(self.cached.1),
            proxies: Some(self.proxies),
            ..self.state
        }
    }
}
