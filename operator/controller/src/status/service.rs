//! How an AIBackend serves, by what the proxies report, and since when. Pure.
//!
//! A status shows what has lasted: backends fail and come back within seconds, and each write is a call to the
//! API server. What is stored stays until another state has held for [`LASTS`].

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{ConditionType, Reason};
use operator_compile::ObjectRef;
use operator_publish::{Fleet, Served};
use proxy_core::names::ObjectName;

use crate::stored_status::StoredStatus;
use crate::text::cut;

#[cfg(test)]
mod tests;

/// So long a state holds before it is written: longer than the retreats of a backend that fails now and then,
/// and as long as one that a person must mend rests between two probes.
const LASTS: Duration = Duration::from_secs(30);

/// Longest part of a backend's own words in a message, in bytes.
const CAUSE: usize = 512;

/// The reasons for which no deployment serves, first those that a person mends: what it is, and what to do.
const REASONS: [(Reason, &str, &str); 5] = [
    (
        Reason::CredentialRefused,
        "the backend refuses the gateway's credential",
        "check that auth has a valid key of this resource, or an identity with a role there, and that the \
         resource's network admits the gateway",
    ),
    (
        Reason::OutOfReach,
        "the installation allows no backend at this address",
        "correct endpoint, or open the address with backends.reach of the chart",
    ),
    (
        Reason::NotThere,
        "the backend has no such deployment",
        "create it there, or correct its name in deployments; its model may have retired",
    ),
    (
        Reason::Failing,
        "requests fail",
        "look at the health of the resource, and check endpoint; the gateway goes on trying",
    ),
    (
        Reason::Silent,
        "requests wait, and no byte comes",
        "look at the health and the load of the resource; the gateway goes on trying",
    ),
];

/// How the deployments of a backend serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    /// `k/n serving`; empty while no proxy reports.
    pub(crate) deployments: String,
    /// Why none serves, with what to do.
    pub(crate) outage: Option<(Reason, String)>,
}

/// The states that are not stored yet, each with the moment since when it holds, in milliseconds of the caller's
/// clock.
#[derive(Debug, Default)]
pub(crate) struct Candidates(BTreeMap<ObjectRef, (Service, u64)>);

// === impl Service ===

impl Service {
    /// What the proxies say now.
    pub(crate) fn of_backend(name: &ObjectName, fleet: &Fleet) -> Self {
        let all = fleet.deployments_of(name);
        if all.is_empty() {
            return Self::default();
        }
        let serving = all.values().filter(|served| served.serves()).count();
        let mut replicas = fleet.replicas.iter();
        // The lack of a token explains it, and has a reason of its own.
        let is_tokenless = replicas.any(|replica| replica.tokenless.contains_key(name));
        let is_out = serving == 0 && !is_tokenless;
        Self {
            deployments: format!("{serving}/{} serving", all.len()),
            outage: is_out.then(|| outage(&all)).flatten(),
        }
    }

    /// What the status says.
    pub(crate) fn stored(status: &StoredStatus) -> Self {
        let ready = status.condition(ConditionType::Ready.as_str());
        let outage = ready.and_then(|ready| {
            let mut known = REASONS.into_iter().map(|(reason, ..)| reason);
            let reason = known.find(|one| one.as_str() == ready.reason)?;
            Some((reason, ready.message.clone()))
        });
        Self {
            deployments: status.deployments.clone(),
            outage,
        }
    }

    fn reason(&self) -> Option<Reason> {
        self.outage.as_ref().map(|(reason, _)| *reason)
    }

    /// Whether both say the same but for the backend's own words.
    fn is_like(&self, other: &Self) -> bool {
        self.deployments == other.deployments && self.reason() == other.reason()
    }

    /// Whether a status that says `self` is good for `other`. A backend that fails says one thing and another.
    fn stands_for(&self, other: &Self) -> bool {
        let changes = matches!(self.reason(), Some(Reason::Failing | Reason::Silent));
        self == other || changes && self.is_like(other)
    }
}

/// The outage of a backend whose deployments all have one.
fn outage(all: &BTreeMap<&str, Served>) -> Option<(Reason, String)> {
    let outages = all.iter().filter_map(|(name, served)| {
        let outage = served.outage.as_ref()?;
        let mut known = (0_usize..).zip(REASONS);
        let found = known.find(|(_, (reason, ..))| reason.as_str() == outage.reason);
        // The word of a newer proxy.
        let (rank, (reason, what, advice)) = found.or_else(|| {
            let failing = |(_, (reason, ..)): &(usize, (Reason, _, _))| *reason == Reason::Failing;
            (0..).zip(REASONS).find(failing)
        })?;
        let said = match cut(&outage.cause, CAUSE) {
            none if none.is_empty() => none,
            cause => format!(": {cause}"),
        };
        let message = format!("no deployment serves; {name}: {what}{said}; {advice}");
        Some((rank, reason, message))
    });
    let (_, reason, message) = outages.min_by_key(|(rank, ..)| *rank)?;
    Some((reason, message))
}

// === impl Candidates ===

impl Candidates {
    /// What the status of `object` should say: `now`, if it has lasted, else what is `stored`.
    pub(crate) fn settle(
        &mut self,
        object: &ObjectRef,
        now: Service,
        stored: Service,
        now_ms: u64,
    ) -> Service {
        if stored.stands_for(&now) {
            self.0.remove(object);
            return stored;
        }
        let known = self.0.get(object);
        let since = known.filter(|(known, _)| known.is_like(&now));
        let since = since.map_or(now_ms, |(_, since)| *since);
        self.0.insert(object.clone(), (now.clone(), since));
        if now_ms >= due(since) { now } else { stored }
    }

    /// Whether a state of the backend is not stored yet.
    pub(crate) fn has(&self, object: &ObjectRef) -> bool {
        self.0.contains_key(object)
    }

    /// The next moment at which a state has lasted.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let moments = self.0.values().map(|(_, since)| due(*since));
        moments.filter(|moment| *moment > now_ms).min()
    }

    /// Forgets every object that is not of interest any more.
    pub(crate) fn retain(&mut self, is_known: impl Fn(&ObjectRef) -> bool) {
        self.0.retain(|object, _| is_known(object));
    }
}

fn due(since_ms: u64) -> u64 {
    since_ms.saturating_add(u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX))
}
