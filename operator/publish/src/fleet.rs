//! The members of the fleet, with their acknowledgements and their use.
//!
//! A member that falls silent stays while its pod may serve clients: it enforces what it last received, and
//! its part of every limit is its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_admin::pages::backends::BackendsPage;
use proxy_core::names::{EntryName, Moment, ObjectName};
use proxy_core::quota::StoreState;
use proxy_wire::v1::{Checkpoint, CheckpointReplica, Unsupported};

use tracing::{info, warn};

use crate::deployments::{Outages, Served, backends_page};
use crate::roster::Roster;
use crate::usage::{Departed, Usage};

#[cfg(test)]
mod tests;

/// A replica that is away for less than this still counts: a reconnect must not change the divisor
/// of the others' limits. Longer than a reconnect, shorter than a person waits for a status.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A replica that an operator knows from a checkpoint or by its pod has this long to subscribe: every
/// proxy looks for new operators every ten seconds.
pub(crate) const EXPECTED: Duration = Duration::from_secs(15);

/// The proxies that should be there, and their acknowledgements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Replicas with an open subscription, and silent ones whose pods are still there, sorted by id.
    pub replicas: Vec<Replica>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Its reviewed identity.
    pub id: String,
    /// The name of its pod, if that is known.
    pub pod: Option<String>,
    /// Since when it has had no subscription, in milliseconds of the wall clock; `None` while it has one.
    pub silent_since_ms: Option<i64>,
    /// Sequence of the newest publication that it applied.
    pub acked: Option<u64>,
    /// Sequence of the newest publication that it refused, and its error; `None` after it applied
    /// that one or a newer one.
    pub refused: Option<(u64, String)>,
    /// Entries of that publication which it cannot enforce as declared, with the features that it
    /// lacks.
    pub unsupported: Arc<BTreeMap<EntryName, Vec<String>>>,
    /// It has lost the shared store of counters.
    pub store_lost: bool,
    /// Backends that it has no token for, each with the reason and what to do.
    pub tokenless: Arc<BTreeMap<ObjectName, String>>,
    /// The deployments that its rules use; empty for one that is too old to tell.
    pub outages: Arc<Outages>,
}

/// Replicas by identity, and the use of departed ones.
#[derive(Debug, Default)]
pub(crate) struct Members {
    all: BTreeMap<String, Member>,
    departed: Departed,
    /// The pods of the proxies; `None` where the cluster is not asked, or has not answered yet.
    roster: Option<Roster>,
}

#[derive(Debug, Default)]
struct Member {
    /// Open subscriptions.
    open: usize,
    /// When the last subscription ended; `None` while one is open.
    away: Option<Instant>,
    /// From a checkpoint, or a pod; has not subscribed yet.
    expected: bool,
    /// When it subscribed for the first time, until it says what it did with a table. It serves nothing yet
    /// unless its pod is ready, so the objects in force everywhere stay so.
    starting: Option<Instant>,
    /// Since when it is silent, in milliseconds of the wall clock.
    silent_since_ms: Option<i64>,
    acked: Option<u64>,
    refused: Option<(u64, String)>,
    unsupported: Arc<BTreeMap<EntryName, Vec<String>>>,
    /// Its use; `None` for a proxy that is too old to report it.
    usage: Option<Usage>,
}

// === impl Fleet ===

impl Fleet {
    /// The deployments of a backend that proxies reported, by name.
    #[must_use]
    pub fn deployments_of(&self, backend: &ObjectName) -> BTreeMap<&str, Served> {
        Served::by(self.replicas.iter().map(|one| &*one.outages), backend)
    }
}

// === impl Replica ===

impl Replica {
    /// What people call it: the name of its pod, else its id.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.id)
    }
}

// === impl Members ===

impl Members {
    /// A replica subscribes. `instance` is its process: a new one has new counters, so the use of
    /// the former process is that of a departed replica.
    pub(crate) fn join(&mut self, id: &str, instance: Option<&str>, now: Instant) {
        let serves = self.roster.as_ref().is_some_and(|pods| pods.is_ready(id));
        let starting = (!serves).then_some(now);
        let member = self.all.entry(id.to_owned()).or_insert_with(|| Member {
            starting,
            ..Member::default()
        });
        member.open += 1;
        member.away = None;
        member.expected = false;
        if member.silent_since_ms.take().is_some() {
            info!(replica = id, "a silent proxy is back");
        }
        let Some(instance) = instance else { return };
        match &member.usage {
            Some(usage) if usage.instance() == instance => {}
            Some(_) | None => {
                let back = self.departed.take(id, instance);
                let fresh = back.unwrap_or_else(|| Usage::new(instance));
                if let Some(former) = member.usage.replace(fresh) {
                    self.departed.add(id, former, now);
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.all.get_mut(id) {
            member.open = member.open.saturating_sub(1);
            if member.open == 0 {
                member.away = Some(now);
            }
        }
    }

    /// Takes the pods of the proxies. A pod that serves clients is a member, whether it has subscribed
    /// or not.
    pub(crate) fn enlist(&mut self, roster: Roster, now: Instant) {
        for id in roster.ready() {
            self.all.entry(id.clone()).or_insert_with(|| Member {
                away: Some(now),
                expected: true,
                ..Member::default()
            });
        }
        self.roster = Some(roster);
    }

    /// Removes replicas that have been away for longer than [`GRACE`] and whose pods are gone. At the
    /// same moment the others divide the limits by fewer, and carry its use. A replica whose pod is
    /// there is silent instead.
    pub(crate) fn sweep(&mut self, now: Moment, instant: Instant) {
        let (departed, roster) = (&mut self.departed, self.roster.as_ref());
        self.all.retain(|id, member| {
            member.starting = member
                .starting
                .filter(|since| instant.saturating_duration_since(*since) < EXPECTED);
            let grace = if member.expected { EXPECTED } else { GRACE };
            let away = member
                .away
                .map(|since| instant.saturating_duration_since(since));
            let Some(away) = away.filter(|away| *away >= grace) else {
                return true;
            };
            if let Some(pod) = roster.and_then(|roster| roster.name_of(id)) {
                member.fall_silent(pod, now, away);
                return true;
            }
            if let Some(usage) = member.usage.take() {
                departed.add(id, usage, instant);
            }
            false
        });
        self.departed.age(instant);
    }

    /// Takes the use of a member; false if this instance of `id` is none.
    pub(crate) fn reported(&mut self, id: &str, reported: Usage) -> bool {
        let Some(usage) = self.all.get_mut(id).and_then(|one| one.usage.as_mut()) else {
            return false;
        };
        let same = usage.instance() == reported.instance();
        if same {
            *usage = reported;
        }
        same
    }

    /// The use of every member that reports it.
    pub(crate) fn usages(&self) -> impl Iterator<Item = &Usage> {
        self.all.values().filter_map(|member| member.usage.as_ref())
    }

    /// The state of every deployment that a member reported.
    pub(crate) fn backends_page(&self, now_ms: u64) -> BackendsPage {
        let reports = self.all.iter().filter_map(|(id, member)| {
            let usage = member.usage.as_ref()?;
            Some((id.as_str(), usage.deployments()))
        });
        backends_page(reports, self.count(), now_ms)
    }

    pub(crate) const fn departed(&self) -> &Departed {
        &self.departed
    }

    pub(crate) const fn departed_mut(&mut self) -> &mut Departed {
        &mut self.departed
    }

    /// Whether a member counts in a shared store. Then there is no carryover: the store has it all.
    pub(crate) fn share_a_store(&self) -> bool {
        self.usages().any(|usage| usage.store() != StoreState::None)
    }

    /// The state for the next operator.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let live = self.all.iter().filter_map(|(id, member)| {
            let usage = member.usage.as_ref()?;
            Some((id, usage, false))
        });
        let departed = self.departed.recent();
        let all = live.chain(departed.map(|(id, usage)| (id, usage, true)));
        let mut usages = Vec::new();
        for (id, usage, gone) in all {
            checkpoint.replicas.push(CheckpointReplica {
                id: id.clone(),
                instance: usage.instance().to_owned(),
                gone,
            });
            usages.push(usage);
        }
        if !self.share_a_store() {
            checkpoint.counters = self.departed.checkpoint(&usages);
        }
        checkpoint
    }

    /// Takes the checkpoint of the operator before this one. Its replicas are expected for a while;
    /// those that do not come count as departed.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint, now: Instant) {
        self.departed.restore(checkpoint);
        for (index, replica) in checkpoint.replicas.iter().enumerate() {
            let usage = Usage::restored(&replica.instance, checkpoint, index);
            if replica.gone {
                self.departed.add(&replica.id, usage, now);
            } else {
                let member = Member {
                    away: Some(now),
                    expected: true,
                    usage: Some(usage),
                    ..Member::default()
                };
                self.all.insert(replica.id.clone(), member);
            }
        }
    }

    /// Records that a member applied the publication of `sequence`, except for the entries that it
    /// cannot enforce; false if `id` is not a member.
    pub(crate) fn applied(
        &mut self,
        id: &str,
        sequence: u64,
        unsupported: Vec<Unsupported>,
    ) -> bool {
        let Some(member) = self.all.get_mut(id) else {
            return false;
        };
        member.starting = None;
        // Acknowledgements may overtake each other; a proxy never goes back.
        if member.acked <= Some(sequence) {
            member.acked = Some(sequence);
            let known = unsupported.into_iter().filter_map(|one| {
                // An entry of ours always has a name.
                Some((EntryName::parse(&one.entry)?, one.needs))
            });
            member.unsupported = Arc::new(known.collect());
        }
        if member
            .refused
            .as_ref()
            .is_some_and(|(at, _)| *at <= sequence)
        {
            member.refused = None;
        }
        true
    }

    /// Records that a member refused the publication of `sequence`; false if `id` is none.
    pub(crate) fn refused(&mut self, id: &str, sequence: u64, error: String) -> bool {
        let Some(member) = self.all.get_mut(id) else {
            return false;
        };
        member.starting = None;
        if member
            .refused
            .as_ref()
            .is_none_or(|(at, _)| *at <= sequence)
        {
            member.refused = Some((sequence, error));
        }
        true
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.all.contains_key(id)
    }

    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.all.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn snapshot(&self) -> Fleet {
        let pod = |id: &String| {
            let roster = self.roster.as_ref()?;
            roster.name_of(id).map(str::to_owned)
        };
        // One of a checkpoint may be gone; a pod that is there has to have every table.
        let members = self.all.iter();
        let present = members.filter(|(id, member)| {
            member.starting.is_none() && (!member.expected || pod(id).is_some())
        });
        let replica = |(id, member): (&String, &Member)| {
            // What a silent one said of its surroundings is old.
            let usage = member.usage.as_ref();
            let usage = usage.filter(|_| member.silent_since_ms.is_none());
            Replica {
                id: id.clone(),
                pod: pod(id),
                silent_since_ms: member.silent_since_ms,
                acked: member.acked,
                refused: member.refused.clone(),
                unsupported: Arc::clone(&member.unsupported),
                store_lost: usage.is_some_and(|usage| usage.store() == StoreState::Lost),
                tokenless: usage.map_or_else(Arc::default, |usage| Arc::clone(usage.tokenless())),
                outages: usage.map_or_else(Arc::default, |usage| {
                    Arc::clone(usage.deployments().outages())
                }),
            }
        };
        Fleet {
            replicas: present.map(replica).collect(),
        }
    }
}

// === impl Member ===

impl Member {
    /// It has been `away` for longer than a reconnect takes, and its pod may serve clients.
    fn fall_silent(&mut self, pod: &str, now: Moment, away: Duration) {
        self.expected = false;
        if self.silent_since_ms.is_none() {
            let away_ms = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
            self.silent_since_ms = Some(now.unix_ms.saturating_sub(away_ms));
            warn!(
                pod,
                "a proxy is silent but its pod is there: it serves its last table, and keeps its part of \
                 the limits"
            );
        }
    }
}
